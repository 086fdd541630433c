"""Trajectories of Two Rooms on disk in PLDM's layout: written in shards, read as clips.

A shard is an .npz of M rows in the order of time, all trajectories equally long: `locations` [M 2] and `actions` [M 2] in pixels
(action i leads from row i to the next; the last of a trajectory leads out of it), `terminals` [M], 1 at the last row of each
trajectory, perhaps `observations` uint8 [M 65 65 2] (dot, walls; channels last). The published download has no observations: the
pictures are drawn from the locations, with the wall at 32 and the door at 10. Ours also says `layouts` [trajectories 2], (wall, door).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.worlds.rooms.layouts import SIZE, Layouts
from tacit.worlds.rooms.pictures import MEAN, STD, draw
from tacit.worlds.rooms.source import RoomClips
from tacit.worlds.rooms.trajectories import ACTIONS

__all__ = ["RoomFiles", "write_shard"]

_NEEDED = ("actions", "locations", "terminals")
_PUBLISHED = (32.0, 10.0)  # wall and door of the published file


def write_shard(source: RoomClips, ids: Sequence[int], path: Path, *, pictures: bool = False) -> int:
    """Write the trajectories of these samples (all 90 actions of each) as one .npz beside `path` and rename it; the number of rows."""
    made = source.trajectories(torch.as_tensor(ids))
    n, states = len(made.actions), made.positions[:, :ACTIONS]
    ends = np.zeros((n, ACTIONS), np.float32)
    ends[:, -1] = 1
    arrays: dict[str, NDArray[Any]] = {
        "actions": made.actions.reshape(-1, 2).numpy(),
        "locations": states.reshape(-1, 2).numpy(),
        "terminals": ends.reshape(-1),
        "layouts": torch.stack([made.layouts.wall, made.layouts.door], -1).numpy(),
    }
    if pictures:
        arrays["observations"] = draw(states, made.layouts).permute(0, 1, 3, 4, 2).reshape(-1, SIZE, SIZE, 2).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    beside.replace(path)
    return n * ACTIONS


@part("source", "rooms-file")
class RoomFiles:
    """Two Rooms from files in PLDM's layout: an .npz, or a folder of them (with train/ and valid/ below, or all one split).

    A sample is a window of `frames` rows; windows begin every `stride` rows (0: they do not overlap). View 'image' is uint8 [n 2 t 65 65],
    `action` [n t 2]; facts: position [n t 2], wall [n], door [n]. Episodes shorter than a window are refused.
    """

    def __init__(
        self,
        *,
        path: str,
        frames: Annotated[int, Ge(2)] = 17,
        stride: Annotated[int, Ge(0)] = 0,
        split: str = "train",
    ) -> None:
        self._frames, self._stride = frames, stride or frames
        files = _files(Path(path), split)
        self._shards = [_read(file, frames) for file in files]
        self._windows = [1 + (s["actions"].shape[1] - frames) // self._stride for s in self._shards]
        self._ends = np.cumsum([len(s["actions"]) * w for s, w in zip(self._shards, self._windows, strict=True)])
        self._names = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
        self.facts = Facts(
            channels=2,
            shape=(frames, SIZE, SIZE),
            mean=MEAN,
            std=STD,
            action_dim=2,
            factors=("position", "wall", "door"),
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def digest(self) -> str:
        """Changes with the files and the windows."""
        return hashlib.sha256(repr((self._names, self._frames, self._stride)).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The windows of these indices."""
        ids = np.asarray(indices, dtype=np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= len(self)):
            raise DataError(f"clips are numbered from 0 to {len(self) - 1}, found {ids.min()} to {ids.max()}")
        rows: dict[str, list[NDArray[Any]]] = {name: [] for name in ("actions", "locations", "layouts", "observations")}
        for i in ids:
            k = int(np.searchsorted(self._ends, i, side="right"))
            trajectory, window = divmod(int(i - (self._ends[k - 1] if k else 0)), self._windows[k])
            time = slice(window * self._stride, window * self._stride + self._frames)
            for name in rows:
                if name in self._shards[k]:
                    held = self._shards[k][name][trajectory]
                    rows[name].append(held if name == "layouts" else held[time])
        position, action = (torch.from_numpy(np.stack(rows[name])).float() for name in ("locations", "actions"))
        layouts = Layouts(*torch.from_numpy(np.stack(rows["layouts"])).float().unbind(-1))
        stored = len(rows["observations"]) == len(ids)
        picture: Tensor = (
            torch.from_numpy(np.stack(rows["observations"])).permute(0, 4, 1, 2, 3).contiguous()
            if stored
            else draw(position, layouts).transpose(1, 2)
        )
        facts = {"position": position, "wall": layouts.wall, "door": layouts.door}
        return Batch({"image": View(picture)}, torch.from_numpy(ids), action=action, facts=facts)


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        return [path]
    place = path / split if (path / split).is_dir() else path
    if not place.is_dir() or (place == path and (path / "train").is_dir()):
        there = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        raise DataError(
            f"{path} has no split {split!r}"
            + (f"; it has {', '.join(there)}" if there else ": there is no such folder")
        )
    files = sorted(place.glob("*.npz"))
    if not files:
        raise DataError(f"{place} holds no .npz: `tacit make rooms {path}` writes them")
    return files


def _read(path: Path, frames: int) -> dict[str, NDArray[Any]]:
    """The arrays of a shard by trajectory."""
    try:
        with np.load(path, allow_pickle=False) as given:
            arrays = {name: given[name] for name in given.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} cannot be read as arrays: {error}") from error
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise DataError(
            f"{path} has the arrays {', '.join(arrays) or '(none)'}: {', '.join(missing)} must be among them"
        )
    m = len(arrays["terminals"])
    for name, width in (("actions", 2), ("locations", 2)):
        if arrays[name].shape != (m, width):
            raise DataError(f"{path}: {name} must be [{m} {width}], one row a step, found {list(arrays[name].shape)}")
        if not np.isfinite(arrays[name]).all():
            raise DataError(
                f"{path}: {name} must be finite, found {int((~np.isfinite(arrays[name])).sum())} that are not"
            )
    ends = np.flatnonzero(arrays["terminals"]) + 1
    lengths = np.unique(np.diff(ends, prepend=0))
    if len(lengths) != 1 or ends[-1] != m:
        raise DataError(
            f"{path}: all trajectories must be equally long and end with a terminal, found the lengths {lengths.tolist()}"
        )
    length = int(lengths[0])
    if length < frames:
        raise DataError(f"{path}: its trajectories have {length} steps, a window has {frames}: lower data.frames")
    found = {name: arrays[name].reshape(-1, length, *arrays[name].shape[1:]) for name in ("actions", "locations")}
    if "observations" in arrays:
        seen = arrays["observations"]
        if seen.shape != (m, SIZE, SIZE, 2) or seen.dtype != np.uint8:
            raise DataError(f"{path}: observations must be uint8 [{m} 65 65 2], found {seen.dtype} {list(seen.shape)}")
        found["observations"] = seen.reshape(-1, length, SIZE, SIZE, 2)
    count = m // length
    found["layouts"] = arrays.get("layouts", np.tile(np.asarray(_PUBLISHED, np.float32), (count, 1)))
    if found["layouts"].shape != (count, 2):
        raise DataError(
            f"{path}: layouts must be [{count} 2], (wall, door) of each trajectory, found {list(found['layouts'].shape)}"
        )
    return found
