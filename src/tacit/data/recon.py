"""RECON and its kin (navigation): HDF5 as released, or the folders of pictures that NoMaD and NWM make of it.

HDF5: `images/rgb_left` (encoded pictures), `jackal/position` [t 3], `jackal/yaw` [t]. Folders: 0.jpg, 1.jpg, ... and traj_data.pkl with
position [t 2] and yaw [t]. Actions are waypoints in the frame of the pose before, over the data set's spacing (recon 0.25, scand 0.38,
tartan 0.72, sacson 0.255, go_stanford 0.12 metres), and the turn in radians. Source: NWM (arXiv 2412.03572).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from tacit.core.errors import DataError, need
from tacit.core.parts import part
from tacit.data.checks import checked_path
from tacit.data.episodes import Array, EpisodeSource, below
from tacit.data.images import decode
from tacit.data.samples import Layout

__all__ = ["ReconSource", "read_numbers", "recognise", "waypoints"]


def waypoints(position: Array, yaw: Array, spacing: float) -> NDArray[np.float32]:
    """[t - 1 3] of positions [t 2] and headings [t]: the next position in the frame of this one over `spacing`, and the turn, wrapped."""
    step = np.diff(np.asarray(position, dtype=np.float64), axis=0) / spacing
    turn = np.diff(np.asarray(yaw, dtype=np.float64))
    cos, sin = np.cos(yaw[:-1]), np.sin(yaw[:-1])
    forward, left = step[:, 0] * cos + step[:, 1] * sin, step[:, 1] * cos - step[:, 0] * sin
    return np.stack([forward, left, np.arctan2(np.sin(turn), np.cos(turn))], 1).astype(np.float32)


def recognise(path: Path) -> Layout | None:
    """A folder with traj_data.pkl below, or RECON's HDF5 files."""
    if not path.is_dir():
        return None
    if below(path, "traj_data.pkl") is not None:
        return Layout("recon", str(path), ("train", "valid", "test"), "folders of pictures with traj_data.pkl")
    first = next(iter(sorted(path.glob("*.hdf5"))), None)
    if first is None:
        return None
    try:
        with need("h5py", "worlds", "reading HDF5").File(first, "r") as held:
            fits = "images/rgb_left" in held and "jackal/position" in held
    except OSError:
        return None
    return Layout("recon", str(path), ("train", "valid", "test"), "HDF5 of pictures and jackal poses") if fits else None


class _Numbers(pickle.Unpickler):
    """Dictionaries of plain arrays of floats; everything else in a pickle is refused, nothing is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """numpy's own way to write an array, rebuilt by hand."""
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
        }
        for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
            allowed[core, "_reconstruct"] = lambda *_: np.ndarray.__new__(np.ndarray, (0,))
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which no trajectory needs")
        return allowed[module, name]


def _dtype(name: Any, *_: Any) -> np.dtype[Any]:
    text = name.decode("latin1") if isinstance(name, bytes) else str(name)
    if text not in ("f4", "f8", "i4", "i8", "u1"):
        raise pickle.UnpicklingError(f"it holds an array of {text!r}, not of numbers")
    return np.dtype(text)


def read_numbers(path: Path) -> dict[str, Array]:
    """The dictionary of arrays in a pickle, read without running anything."""
    try:
        with path.open("rb") as file:
            content = _Numbers(file, encoding="latin1").load()
    except (
        pickle.UnpicklingError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
    ) as error:
        raise DataError(f"{path}: refused or damaged: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__} where a trajectory is a dictionary of arrays")
    return {str(name): np.asarray(value) for name, value in content.items()}


class _Recon:
    splits: Mapping[str, NDArray[np.int64]] | None = None

    def __init__(self, path: Path, spacing: float, rate: float) -> None:
        self.root, self._spacing = checked_path(path), spacing
        self.rate: float | None = rate
        folders = sorted(p.parent for p in self.root.rglob("traj_data.pkl"))
        self._stored = not folders
        self.files = [f / "traj_data.pkl" for f in folders] or sorted(self.root.rglob("*.hdf5"))
        if not self.files:
            raise DataError(f"{self.root} holds neither traj_data.pkl nor .hdf5 files: this is no RECON folder")
        poses = [self._poses(file) for file in self.files]
        for file, (place, yaw) in zip(self.files, poses, strict=True):
            if place.ndim != 2 or place.shape[1] < 2 or len(place) != len(yaw):
                raise DataError(
                    f"{file}: needs position [t 2] and as many yaw, found {list(place.shape)} and {len(yaw)}"
                )
        self._place = [place[:, :2].astype(np.float64) for place, _ in poses]
        self._yaw = [yaw.astype(np.float64).reshape(-1) for _, yaw in poses]
        self.names = [str((f if self._stored else f.parent).relative_to(self.root)) for f in self.files]
        self.lengths = np.array([len(p) for p in self._place], dtype=np.int64)

    def _poses(self, file: Path) -> tuple[Array, Array]:
        if not self._stored:
            held = read_numbers(file)
            missing = [name for name in ("position", "yaw") if name not in held]
            if missing:
                raise DataError(
                    f"{file}: holds {', '.join(held) or 'nothing'}: {', '.join(missing)} must be among them"
                )
            return held["position"], held["yaw"].reshape(-1)
        try:
            with need("h5py", "worlds", "reading HDF5").File(file, "r") as opened:
                return opened["jackal/position"][()], opened["jackal/yaw"][()].reshape(-1)
        except (OSError, KeyError) as error:
            raise DataError(f"{file}: needs jackal/position and jackal/yaw: {error}") from error

    def observe(self, episode: int, rows: NDArray[np.int64]) -> dict[str, Array]:
        """See `Episodes`."""
        file = self.files[episode]
        if self._stored:
            with need("h5py", "worlds", "reading HDF5").File(file, "r") as held:
                seen = [bytes(np.asarray(held["images/rgb_left"][int(i)]).tobytes()) for i in rows]
        else:
            pictures = [file.parent / f"{i}.jpg" for i in rows]
            gone = next((p for p in pictures if not p.is_file()), None)
            if gone is not None:
                raise DataError(
                    f"{gone}: there is no such picture, and its trajectory has {self.lengths[episode]} poses"
                )
            seen = [p.read_bytes() for p in pictures]
        try:
            frames = np.stack([decode(BytesIO(raw), 3).permute(1, 2, 0).numpy() for raw in seen])
        except DataError as error:
            raise DataError(f"{file}, rows {rows[0]} to {rows[-1]}: {error}") from error
        place, yaw = self._place[episode][rows], self._yaw[episode][rows]
        return {"frames": frames, "position": place.astype(np.float32), "yaw": yaw.astype(np.float32)}

    def act(self, episode: int, rows: NDArray[np.int64]) -> Array:
        """See `Episodes`: one waypoint, however many frames lie between."""
        return waypoints(self._place[episode][rows], self._yaw[episode][rows], self._spacing)


@part("source", "recon")
class ReconSource(EpisodeSource):
    """RECON and its kin: HDF5 files, or folders of pictures with traj_data.pkl; actions [t 3] are waypoints, facts position and yaw.

    spacing: metres of a waypoint unit (recon 0.25). rate: frames a second of the pictures (4). See `EpisodeSource`.
    """

    def __init__(
        self,
        *,
        path: str,
        spacing: Annotated[float, Gt(0)] = 0.25,
        rate: Annotated[float, Gt(0)] = 4.0,
        frames: Annotated[int, Ge(2)] = 4,
        stride: Annotated[int, Ge(0)] = 0,
        every: Annotated[int, Ge(1)] = 1,
        side: Annotated[int, Ge(0)] = 224,
        held: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
        short: Literal["stop", "skip"] = "skip",
        split: str = "train",
    ) -> None:
        super().__init__(
            _Recon(Path(path), spacing, rate), frames=frames, stride=stride, every=every, side=side, split=split, held=held, short=short
        )  # fmt: skip
