"""Minari: `data/main_data.hdf5` with groups `episode_i/{observations,actions,rewards,terminations,truncations}`.

Observations have one row more than actions, and are an array or a group of arrays (`observation`, `desired_goal`, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from tacit.core.errors import DataError, need
from tacit.core.parts import part
from tacit.data.checks import checked_path
from tacit.data.episodes import Array, EpisodeSource, between, pick
from tacit.data.samples import Layout

__all__ = ["MinariSource", "recognise"]


def _file(path: Path) -> Path | None:
    places = (path, path / "main_data.hdf5", path / "data" / "main_data.hdf5")
    return next((p for p in places if p.is_file() and p.suffix == ".hdf5"), None)


def recognise(path: Path) -> Layout | None:
    """The folder of a data set, or its main_data.hdf5."""
    file = _file(path)
    if file is None:
        return None
    try:
        with need("h5py", "worlds", "reading HDF5").File(file, "r") as held:
            fits = "episode_0" in held and "actions" in held["episode_0"]
    except OSError:
        return None
    return Layout("minari", str(path), ("train", "valid", "test"), "HDF5 of episode_i groups") if fits else None


class _Minari:
    rate: float | None = None
    splits: Mapping[str, NDArray[np.int64]] | None = None

    def __init__(self, path: Path, observation: str) -> None:
        self.root = checked_path(path)
        file = _file(self.root)
        if file is None:
            raise DataError(f"{path} holds no data/main_data.hdf5: give the folder of one Minari data set")
        self.files = [file]
        h5py = need("h5py", "worlds", "reading HDF5")
        try:
            with h5py.File(file, "r") as held:
                groups = sorted((g for g in held if g.startswith("episode_")), key=lambda g: int(g.rpartition("_")[2]))
                if not groups:
                    raise DataError(f"{file} holds no episode_i groups: this is no Minari data set")
                seen = held[groups[0]]["observations"]
                dictionary = isinstance(seen, h5py.Group)
                self._key = pick(_leaves(seen), observation or ("observation" if "observation" in seen else ""), "observation", file) \
                    if dictionary else ""  # fmt: skip
                self._extra = [n for n in _leaves(seen) if n != self._key] if dictionary else []
                lengths = []
                for name in groups:
                    rows = len(self._part(held[name], self._key))
                    done = len(held[name]["actions"])
                    if rows not in (done, done + 1):
                        raise DataError(
                            f"{file}: {name} has {rows} observations and {done} actions: one more or as many are needed"
                        )
                    lengths.append(rows)
        except OSError as error:
            raise DataError(f"{file} is no whole HDF5 file: {error}") from error
        self.names = groups
        self.lengths = np.array(lengths, dtype=np.int64)

    @staticmethod
    def _part(group: Any, key: str) -> Any:
        return group["observations"][key] if key else group["observations"]

    def observe(self, episode: int, rows: NDArray[np.int64]) -> dict[str, Array]:
        """See `Episodes`."""
        with need("h5py", "worlds", "reading HDF5").File(self.files[0], "r") as held:
            group = held[self.names[episode]]
            seen = self._part(group, self._key)[rows[0] : rows[-1] + 1][rows - rows[0]]
            facts = {n: self._part(group, n)[rows[0] : rows[-1] + 1][rows - rows[0]] for n in self._extra}
        facts = {n: v.reshape(len(rows), -1) for n, v in facts.items() if v.dtype.kind in "fiu" and v.ndim <= 2}
        return (
            {"frames": seen, **facts}
            if seen.ndim == 4
            else {"states": seen.reshape(len(rows), -1).astype(np.float32), **facts}
        )

    def act(self, episode: int, rows: NDArray[np.int64]) -> Array:
        """See `Episodes`."""
        with need("h5py", "worlds", "reading HDF5").File(self.files[0], "r") as held:
            done = held[self.names[episode]]["actions"][rows[0] : rows[-1]]
        return between(done.reshape(len(done), -1), rows - rows[0])


def _leaves(group: Any, above: str = "") -> list[str]:
    """Paths of the arrays below a group."""
    found: list[str] = []
    for name in group if hasattr(group, "keys") else ():
        item = group[name]
        found += _leaves(item, f"{above}{name}/") if hasattr(item, "keys") else [f"{above}{name}"]
    return found


@part("source", "minari")
class MinariSource(EpisodeSource):
    """Minari: the folder of a data set (data/main_data.hdf5). `observation`: which entry of a dictionary is seen; the others are facts.

    It publishes no split: a share `held` of the episodes is kept back for test and for valid each. See `EpisodeSource`.
    """

    def __init__(
        self,
        *,
        path: str,
        observation: str = "",
        frames: Annotated[int, Ge(2)] = 4,
        stride: Annotated[int, Ge(0)] = 0,
        every: Annotated[int, Ge(1)] = 1,
        side: Annotated[int, Ge(0)] = 0,
        held: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
        short: Literal["stop", "skip"] = "stop",
        split: str = "train",
    ) -> None:
        super().__init__(
            _Minari(Path(path), observation), frames=frames, stride=stride, every=every, side=side, split=split, held=held, short=short
        )  # fmt: skip
