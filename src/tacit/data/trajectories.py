"""Trajectories of one's own: a folder of episodes with pictures and actions, cut into clips."""

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

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.data.samples import Layout

__all__ = ["Trajectories", "TrajectoryViews", "recognise"]

_SPLITS = ("train", "valid", "test")
_STATISTICS = 64  # clips from which mean and deviation of the pictures are taken


def recognise(path: Path) -> Layout | None:
    """A folder with train/ (and valid/, test/) of .npz files that hold frames and actions."""
    there = tuple(s for s in _SPLITS if path.is_dir() and any((path / s).glob("*.npz")))
    if "train" not in there:
        return None
    try:
        with np.load(next(iter(sorted((path / "train").glob("*.npz")))), allow_pickle=False) as given:
            fits = {"frames", "actions"} <= set(given.files)
    except (ValueError, OSError, EOFError, BadZipFile):
        return None
    return Layout("trajectories", str(path), there, "an .npz an episode") if fits else None


@part("source", "trajectories")
class Trajectories:
    """A folder of episodes, one .npz each, with train/ and valid/ (and test/) below it: clips of `frames` frames with their actions.

    An episode holds `frames` uint8 [t h w c] and `actions` float [t a] or [t - 1 a]: action i leads from frame i to frame i + 1 (a missing
    last one becomes 0; it is not used). Other arrays of t rows, `position` [t 2] for example, become facts. All episodes have the same
    sizes and widths; those shorter than a window are refused. Clips begin every `stride` frames (0: they do not overlap).
    """

    def __init__(
        self,
        *,
        path: str,
        frames: Annotated[int, Ge(2)] = 17,
        stride: Annotated[int, Ge(0)] = 0,
        split: str = "train",
    ) -> None:
        place = Path(path) / split
        self._paths = sorted(place.glob("*.npz")) if place.is_dir() else []
        if not self._paths:
            there = sorted(p.name for p in Path(path).iterdir() if p.is_dir()) if Path(path).is_dir() else []
            raise DataError(f"{place} holds no episodes (.npz)" + (f"; {path} has {', '.join(there)}" if there else ""))
        self._frames, self._stride = frames, stride or frames
        self._episodes = [_read(file, frames) for file in self._paths]
        first = self._episodes[0]
        for file, episode in zip(self._paths, self._episodes, strict=True):
            for name, what in (("frames", "pictures"), ("actions", "actions")):
                if episode[name].shape[1:] != first[name].shape[1:]:
                    raise DataError(
                        f"{file}: its {what} have the shape {list(episode[name].shape[1:])}, those of {self._paths[0].name} "
                        f"{list(first[name].shape[1:])}: all episodes need the same"
                    )
        self._starts = [
            (k, s) for k, e in enumerate(self._episodes) for s in range(0, len(e["frames"]) - frames + 1, self._stride)
        ]
        _, height, width, channels = first["frames"].shape
        some = np.unique(np.linspace(0, len(self._starts) - 1, min(_STATISTICS, len(self._starts))).astype(int))
        pixels = np.concatenate([self._clip(i)["frames"].reshape(-1, channels) for i in some]) / 255.0
        self._extra = tuple(name for name in first if name not in ("frames", "actions"))
        self.facts = Facts(
            channels=channels,
            shape=(frames, height, width),
            mean=tuple(pixels.mean(0).tolist()),
            std=tuple(pixels.std(0).clip(1e-3).tolist()),
            action_dim=first["actions"].shape[1],
            factors=self._extra,
        )

    def _clip(self, i: int) -> dict[str, NDArray[Any]]:
        episode, start = self._starts[i]
        return {name: values[start : start + self._frames] for name, values in self._episodes[episode].items()}

    def __len__(self) -> int:
        return len(self._starts)

    def lengths(self) -> NDArray[np.int64]:
        """Frames of the episodes."""
        return np.array([len(e["frames"]) for e in self._episodes], dtype=np.int64)

    def name(self, i: int) -> str:
        """Episode and first frame of clip i."""
        episode, start = self._starts[i]
        return f"{self._paths[episode].name} from frame {start}"

    def digest(self) -> str:
        """Changes with the files and the windows."""
        files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self._paths]
        return hashlib.sha256(repr((files, self._frames, self._stride)).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """View 'image' uint8 [n c t h w], `action` [n t a]."""
        ids = np.asarray(indices, dtype=np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= len(self)):
            raise DataError(f"clips are numbered from 0 to {len(self) - 1}, found {ids.min()} to {ids.max()}")
        clips = [self._clip(int(i)) for i in ids]
        pictures = torch.from_numpy(np.stack([c["frames"] for c in clips])).permute(0, 4, 1, 2, 3).contiguous()
        facts = {name: torch.from_numpy(np.stack([c[name] for c in clips])) for name in self._extra}
        action = torch.from_numpy(np.stack([c["actions"] for c in clips]))
        return Batch({"image": View(pictures)}, torch.from_numpy(ids), action=action, facts=facts)


def _read(path: Path, window: int) -> dict[str, NDArray[Any]]:
    """The arrays of an episode, checked; as many actions as frames."""
    try:
        with np.load(path, allow_pickle=False) as given:
            found: dict[str, NDArray[Any]] = {name: given[name] for name in given.files}
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} cannot be read as arrays: {error}") from error
    for name, axes in (("frames", 4), ("actions", 2)):
        if name not in found or found[name].ndim != axes:
            shape = list(found[name].shape) if name in found else "none"
            raise DataError(f"{path}: an episode needs frames [t h w c] and actions [t a]; {name}: found {shape}")
    t, actions = len(found["frames"]), found["actions"].astype(np.float32)
    if found["frames"].dtype != np.uint8:
        raise DataError(f"{path}: frames must be uint8, found {found['frames'].dtype}")
    if t < window:
        raise DataError(
            f"{path}: the episode has {t} frames, a clip has {window}: lower data.frames or leave the episode out"
        )
    if len(actions) not in (t, t - 1):
        raise DataError(f"{path}: {t} frames need {t - 1} actions (or {t}, the last unused), found {len(actions)}")
    if not np.isfinite(actions).all():
        raise DataError(
            f"{path}: actions must be finite, found {int((~np.isfinite(actions)).sum())} numbers that are not"
        )
    if len(actions) < t:
        actions = np.concatenate([actions, np.zeros_like(actions[:1])])
    rest = {
        n: v.astype(np.float32) for n, v in found.items() if n not in ("frames", "actions") and v.ndim and len(v) == t
    }
    return {"frames": found["frames"], "actions": actions, **rest}


@part("views", "trajectories")
class TrajectoryViews:
    """The one view 'image' of trajectories, standardised by the statistics of the data; no augmentation. Bytes are taken over 255 first."""

    names: tuple[str, ...] = ("image",)

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:  # noqa: ARG002  (nothing is drawn)
        """The same as `plain`."""
        return self.plain(batch)

    def plain(self, batch: Batch) -> Batch:
        """float32 of the same shape."""
        data = batch.views["image"].data
        if isinstance(data, list):
            raise DataError("views 'trajectories' need clips of one size, found a list of different ones")
        shape = (1, -1, *(1,) * (data.ndim - 2))
        mean, std = (torch.tensor(v, device=data.device).view(shape) for v in (self.facts.mean, self.facts.std))
        x = data.float() / 255 if data.dtype == torch.uint8 else data.float()
        return Batch({"image": View((x - mean) / std)}, batch.ids, batch.action, batch.facts)
