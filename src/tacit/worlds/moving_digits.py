"""Moving digits: two handwritten digits that drift and bounce in a dark square, made from embedded scans or read from the published file.

Legend: n clips, t frames, k digits. Source: Moving MNIST (arXiv 1502.04681); the split and the location targets are EB-JEPA's
(arXiv 2602.03604).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.random import key
from tacit.core.values import Batch, Facts, View

__all__ = ["MovingDigits", "MovingDigitsFile", "MovingDigitsViews", "locations"]

SIZE, DIGIT = 64, 28  # pixels of a frame, of a digit
_SPEED = 0.1 * (SIZE - DIGIT)  # pixels a frame
_VALID, _CLIP = 1000, 10  # videos of the published file kept for validation; frames of a clip
_SPLITS = ("train", "valid", "test")


@functools.cache
def _scans() -> NDArray[np.float32]:
    """The 1,797 embedded 8 x 8 scans, enlarged to 28 x 28 by cubic splines, in [0, 255]."""
    from sklearn.datasets import load_digits

    small = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16
    large = F.interpolate(small, size=(DIGIT, DIGIT), mode="bicubic", align_corners=False).clamp(0, 1)
    return (255 * large[:, 0]).numpy()


@part("source", "moving-digits")
class MovingDigits:
    """Clips of digits that move straight at 3.6 pixels a frame and bounce off the borders; no files, no download.

    Sample i of a split is a function of (seed, split, i). View 'image' is uint8 [n 1 t 64 64]; digits that overlap show the brighter one.
    Facts: position [n t k 2], the upper left corners (x, y) in pixels, and digit [n k]. Every third scan is kept for valid and test.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Ge(1)] = 10_000,
        frames: Annotated[int, Ge(2)] = _CLIP,
        digits: Annotated[int, Ge(1), Le(8)] = 2,
        speed: Annotated[float, Gt(0), Le(18)] = _SPEED,
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if split not in _SPLITS:
            raise UnknownNameError(unknown("split", split, _SPLITS))
        self._count, self._frames, self._digits, self._speed, self._split, self._seed = (
            count,
            frames,
            digits,
            speed,
            split,
            seed,
        )
        self.facts = Facts(channels=1, shape=(frames, SIZE, SIZE), factors=("position", "digit"))

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """Changes with every setting."""
        given = [1, self._count, self._frames, self._digits, self._speed, self._split, self._seed]
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices."""
        from sklearn.datasets import load_digits

        ids = _checked(indices, self._count)
        pool = np.arange(len(_scans()))
        pool = pool[(pool % 3 == 0) == (self._split != "train")]
        frames = np.zeros((len(ids), 1, self._frames, SIZE, SIZE), np.uint8)
        where = np.zeros((len(ids), self._frames, self._digits, 2), np.float32)
        which = np.zeros((len(ids), self._digits), np.int64)
        labels = load_digits().target
        for n, i in enumerate(ids):
            rng = np.random.Generator(np.random.Philox(key=key(self._seed, "moving-digits", self._split, int(i))))
            scans = pool[rng.integers(len(pool), size=self._digits)]
            where[n], which[n] = _bounced(rng, self._frames, self._digits, self._speed), labels[scans]
            for t in range(self._frames):
                for scan, (x, y) in zip(scans, where[n, t].astype(int), strict=True):
                    place = frames[n, 0, t, y : y + DIGIT, x : x + DIGIT]
                    np.maximum(place, _scans()[scan].astype(np.uint8), out=place)
        facts = {"position": torch.from_numpy(where), "digit": torch.from_numpy(which)}
        return Batch({"image": View(torch.from_numpy(frames))}, torch.from_numpy(ids), facts=facts)


def _bounced(rng: np.random.Generator, frames: int, digits: int, speed: float) -> NDArray[np.float64]:
    """Corners [t k 2] of digits that fly straight and are mirrored at the borders: a triangle wave of the free flight."""
    room = SIZE - DIGIT
    angle = rng.uniform(0, 2 * np.pi, digits)
    start = rng.uniform(0, room, (digits, 2))
    free = start + np.arange(frames)[:, None, None] * speed * np.stack([np.cos(angle), np.sin(angle)], -1)
    return room - np.abs(free % (2 * room) - room)


@part("source", "moving-digits-file")
class MovingDigitsFile:
    """The published `mnist_test_seq.npy`: uint8 (20, 10000, 64, 64), frames first, cut into two clips of ten frames each.

    The videos are permuted by numpy's RandomState(2025); the first 1000 are 'valid' (and 'test'), the others 'train': 2,000 and 18,000
    clips, as in EB-JEPA. Smaller files of the same form keep a tenth for validation. The file is mapped, not read as a whole.
    """

    def __init__(self, *, path: str, split: str = "train") -> None:
        self._path = Path(path)
        if split not in _SPLITS:
            raise UnknownNameError(unknown("split", split, _SPLITS))
        if not self._path.is_file():
            raise DataError(
                f"{path}: there is no such file; it is published as mnist_test_seq.npy (Moving MNIST, 782 MB)"
            )
        try:
            self._videos: Any = np.load(self._path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path} cannot be read as an array: {error}") from error
        shape, kind = self._videos.shape, self._videos.dtype
        if len(shape) != 4 or kind != np.uint8 or shape[2:] != (SIZE, SIZE) or shape[0] < _CLIP or shape[1] < 2:
            raise DataError(
                f"{path}: needs uint8 [frames videos 64 64] with at least {_CLIP} frames and 2 videos, frames first, "
                f"found {kind} {list(shape)}"
            )
        order = np.random.RandomState(2025).permutation(shape[1])  # the published split
        kept = _VALID if shape[1] == 10_000 else max(1, shape[1] // 10)
        self._chosen = order[kept:] if split == "train" else order[:kept]
        self._cuts = shape[0] // _CLIP
        self.facts = Facts(channels=1, shape=(_CLIP, SIZE, SIZE))

    def __len__(self) -> int:
        return len(self._chosen) * self._cuts

    def digest(self) -> str:
        """Changes with the file and the split."""
        stat = self._path.stat()
        return hashlib.sha256(
            f"{self._path.resolve()} {stat.st_size} {stat.st_mtime_ns} {self._chosen[:8]}".encode()
        ).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices: uint8 [n 1 10 64 64]."""
        ids = _checked(indices, len(self))
        video, cut = np.divmod(ids, self._cuts)
        clips = [self._videos[c * _CLIP : (c + 1) * _CLIP, self._chosen[v]] for v, c in zip(video, cut, strict=True)]
        return Batch({"image": View(torch.from_numpy(np.stack(clips)[:, None].copy()))}, torch.from_numpy(ids))


def _checked(indices: Sequence[int] | NDArray[np.int64], count: int) -> NDArray[np.int64]:
    ids = np.asarray(indices, dtype=np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= count):
        raise DataError(f"clips are numbered from 0 to {count - 1}, found {ids.min()} to {ids.max()}")
    return ids


@part("views", "moving-digits")
class MovingDigitsViews:
    """The one view 'image' of moving digits: values over 255, as published, without augmentation.

    shrink: side of the blocks of pixels whose mean is seen (1: as published).
    """

    names: tuple[str, ...] = ("image",)

    def __init__(self, facts: Facts, *, shrink: Annotated[int, Ge(1), Le(8)] = 1) -> None:
        self.shrink = shrink
        shape = facts.shape and (*facts.shape[:-2], *(n // shrink for n in facts.shape[-2:]))
        self.facts = replace(facts, shape=shape, mean=(0.0,) * facts.channels, std=(1.0,) * facts.channels)

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:  # noqa: ARG002  (nothing is drawn)
        """The same as `plain`."""
        return self.plain(batch)

    def plain(self, batch: Batch) -> Batch:
        """float32 in [0, 1] of the same shape, height and width divided by `shrink`."""
        data = batch.views["image"].data
        if not isinstance(data, Tensor) or data.dtype != torch.uint8:
            raise DataError(
                "views 'moving-digits' take uint8 clips of one size: use the source moving-digits or moving-digits-file"
            )
        x = data.float() / 255
        if self.shrink > 1:
            x = F.avg_pool2d(x.flatten(0, -4), self.shrink).view(
                *x.shape[:-2], *(n // self.shrink for n in x.shape[-2:])
            )
        return Batch({"image": View(x)}, batch.ids, batch.action, batch.facts)


def locations(frames: Tensor, cells: int = 8) -> Tensor:
    """Where digits are: bool [... 8 8] of frames [... 64 64], the cell that holds the middle of each connected bright region's box.

    Bright is above half of the frame's range; regions touch at corners too. Digits that touch are one region, so that the target is noisy
    by construction. Source: EB-JEPA's detection target.
    """
    flat = frames.reshape(-1, *frames.shape[-2:]).float().numpy()
    found = np.zeros((len(flat), cells, cells), bool)
    around = np.ones((3, 3), bool)
    for frame, cell in zip(flat, found, strict=True):
        labelled, _ = ndimage.label(frame > (frame.min() + frame.max()) / 2, around)
        for rows, columns in ndimage.find_objects(labelled):
            y, x = ((s.start + (s.stop - s.start) // 2) for s in (rows, columns))
            cell[int(y / len(frame) * cells), int(x / frame.shape[1] * cells)] = True
    return torch.from_numpy(found).view(*frames.shape[:-2], cells, cells)
