"""Flat files of control: rows of many episodes one after the other. OGBench's .npz and D4RL's HDF5.

OGBench: `observations` [m d] or uint8 [m 64 64 3], `actions` [m a], `terminals` [m] with 1 at the last row of an episode, also `qpos`,
`qvel`, `button_states`; NAME.npz with NAME-val.npz beside it. The action of an episode's last row is not used.
D4RL (maze2d and others): `observations`, `actions`, `rewards`, `terminals`, `timeouts`, `infos/{goal,qpos,qvel}`; an episode ends with a
terminal or a timeout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import BadZipFile

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from tacit.core.errors import DataError, need
from tacit.core.parts import part
from tacit.data.checks import checked_path
from tacit.data.episodes import Array, Episodes, EpisodeSource, between
from tacit.data.samples import Layout

__all__ = ["D4RLSource", "FlatEpisodes", "OGBenchSource", "recognise_d4rl", "recognise_ogbench"]

_OGBENCH = ("observations", "actions", "terminals")
_D4RL = (*_OGBENCH, "timeouts")
_KEPT = ("qpos", "qvel", "goal", "rewards", "button_states")


class FlatEpisodes:
    """`Episodes` over arrays in memory, cut where `ends` [m] says. Splits: name -> the arrays of its file."""

    rate: float | None = None

    def __init__(self, root: Path, tables: Mapping[str, tuple[Path, dict[str, Array], Array]]) -> None:
        self.root = root
        self.files = [path for path, _, _ in tables.values()]
        self.names: list[str] = []
        self._places: list[tuple[str, int]] = []
        self._tables = {split: arrays for split, (_, arrays, _) in tables.items()}
        lengths, splits = list[int](), dict[str, NDArray[np.int64]]()
        for split, (path, arrays, ends) in tables.items():
            m = len(arrays["observations"])
            last = np.flatnonzero(ends) + 1
            if not len(last) or last[-1] != m:
                last = np.append(last, m)  # the file was cut in the middle of an episode
            first = np.concatenate([[0], last[:-1]])
            begin = len(lengths)
            for k, (a, b) in enumerate(zip(first, last, strict=True)):
                self._places.append((split, int(a)))
                self.names.append(f"{path.name} episode {k}")
                lengths.append(int(b - a))
            splits[split] = np.arange(begin, len(lengths))
        self.lengths = np.array(lengths, dtype=np.int64)
        self.splits: Mapping[str, NDArray[np.int64]] | None = splits if len(splits) > 1 else None

    def observe(self, episode: int, rows: NDArray[np.int64]) -> dict[str, Array]:
        """See `Episodes`."""
        split, start = self._places[episode]
        arrays, at = self._tables[split], rows + start
        seen = arrays["observations"][at]
        kind = "frames" if seen.ndim == 4 else "states"
        facts = {n: arrays[n][at].reshape(len(rows), -1) for n in _KEPT if n in arrays}
        return {kind: seen if kind == "frames" else seen.astype(np.float32), **facts}

    def act(self, episode: int, rows: NDArray[np.int64]) -> Array:
        """See `Episodes`."""
        split, start = self._places[episode]
        return between(self._tables[split]["actions"], rows + start)


def _checked(path: Path, arrays: dict[str, Array], needed: tuple[str, ...]) -> dict[str, Array]:
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise DataError(
            f"{path} has the arrays {', '.join(arrays) or '(none)'}: {', '.join(missing)} must be among them"
        )
    m = len(arrays["observations"])
    for name in needed:
        if len(arrays[name]) != m:
            raise DataError(
                f"{path}: {name} has {len(arrays[name])} rows and observations {m}: one row a step is needed"
            )
    if arrays["actions"].ndim != 2 or arrays["observations"].ndim not in (2, 4):
        shapes = {name: list(arrays[name].shape) for name in ("observations", "actions")}
        raise DataError(f"{path}: needs observations [m d] or [m h w c] and actions [m a], found {shapes}")
    return arrays


def _ogbench_tables(path: Path) -> dict[str, tuple[Path, dict[str, Array], Array]]:
    given = checked_path(path)
    if given.is_dir():
        files = sorted(p for p in given.glob("*.npz") if not p.stem.endswith("-val"))
        if len(files) != 1:
            raise DataError(
                f"{given}: needs one data set NAME.npz (and NAME-val.npz), found {len(files)}: give the path of one"
            )
        given = files[0]
    found = {}
    for split, file in (("train", given), ("valid", given.with_name(f"{given.stem}-val.npz"))):
        if file.is_file():
            try:
                with np.load(file, allow_pickle=False) as held:
                    arrays = {name: held[name] for name in held.files}
            except (ValueError, OSError, EOFError, BadZipFile) as error:
                raise DataError(f"{file} cannot be read as arrays: {error}") from error
            arrays = _checked(file, arrays, _OGBENCH)
            found[split] = (file, arrays, arrays["terminals"] > 0)
    return found


def _d4rl_table(path: Path) -> dict[str, tuple[Path, dict[str, Array], Array]]:
    h5py = need("h5py", "worlds", "reading HDF5")
    file = checked_path(path)
    arrays: dict[str, Array] = {}

    def take(name: str, item: Any) -> None:
        short = name.removeprefix("infos/")
        if isinstance(item, h5py.Dataset) and (name in _D4RL or short in _KEPT):
            arrays[short] = item[()]

    try:
        with h5py.File(file, "r") as held:
            held.visititems(take)
    except OSError as error:
        raise DataError(f"{file} is no whole HDF5 file: {error}") from error
    arrays = _checked(file, arrays, _D4RL)
    return {"train": (file, arrays, (arrays["terminals"] > 0) | (arrays["timeouts"] > 0))}


def recognise_ogbench(path: Path) -> Layout | None:
    """An .npz of observations, actions and terminals, or a folder with one (and its -val)."""
    files = [path] if path.is_file() else sorted(path.glob("*.npz")) if path.is_dir() else []
    files = [f for f in files if f.suffix == ".npz" and not f.stem.endswith("-val")]
    if len(files) != 1:
        return None
    try:
        with np.load(files[0], allow_pickle=False) as held:
            names = set(held.files)
    except (ValueError, OSError, EOFError, BadZipFile):
        return None
    if not set(_OGBENCH) <= names or "locations" in names:  # with locations: Two Rooms, read by 'rooms-file'
        return None
    return Layout("ogbench", str(path), ("train", "valid", "test"), "an .npz of observations, actions and terminals")


def recognise_d4rl(path: Path) -> Layout | None:
    """An HDF5 file with timeouts."""
    if path.suffix not in (".hdf5", ".h5") or not path.is_file():
        return None
    try:
        with need("h5py", "worlds", "reading HDF5").File(path, "r") as held:
            fits = set(_D4RL) <= set(held)
    except OSError:
        return None
    splits = ("train", "valid", "test")
    return Layout("d4rl", str(path), splits, "HDF5 of observations, actions, terminals and timeouts") if fits else None


@part("source", "ogbench")
class OGBenchSource(EpisodeSource):
    """OGBench: NAME.npz with NAME-val.npz beside it, states or pictures of 64 x 64; qpos and qvel are facts.

    The settings are those of all episodes: see `data.episodes.EpisodeSource`. Split 'valid' (and 'test') is the -val file; without one a
    share `held` of the episodes is kept back for each.
    """

    def __init__(
        self,
        *,
        path: str,
        frames: Annotated[int, Ge(2)] = 4,
        stride: Annotated[int, Ge(0)] = 0,
        every: Annotated[int, Ge(1)] = 1,
        side: Annotated[int, Ge(0)] = 0,
        held: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
        short: Literal["stop", "skip"] = "stop",
        split: str = "train",
    ) -> None:
        store: Episodes = FlatEpisodes(Path(path), _ogbench_tables(Path(path)))
        super().__init__(
            store, frames=frames, stride=stride, every=every, side=side, split=split, held=held, short=short
        )


@part("source", "d4rl")
class D4RLSource(EpisodeSource):
    """D4RL: one HDF5 file of states, actions, terminals and timeouts; infos/goal, qpos and qvel are facts. See `EpisodeSource`."""

    def __init__(
        self,
        *,
        path: str,
        frames: Annotated[int, Ge(2)] = 4,
        stride: Annotated[int, Ge(0)] = 0,
        every: Annotated[int, Ge(1)] = 1,
        held: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
        short: Literal["stop", "skip"] = "stop",
        split: str = "train",
    ) -> None:
        store: Episodes = FlatEpisodes(Path(path), _d4rl_table(Path(path)))
        super().__init__(store, frames=frames, stride=stride, every=every, side=0, split=split, held=held, short=short)
