"""Glyphs as a source of samples, drawn when they are asked for."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.worlds.glyphs.drawing import COLUMNS, draw, sample
from tacit.worlds.glyphs.letters import LETTERS

__all__ = ["GlyphsSource"]

_SPLITS = ("train", "test")
_MEASURED = 512  # pictures of the training split whose mean and deviation normalise
Range = tuple[float, float]
Unit = tuple[Annotated[float, Ge(0), Le(1)], Annotated[float, Ge(0), Le(1)]]


@part("source", "glyphs")
class GlyphsSource:
    """Capital letters drawn from strokes, in colour, with known nuisances: no files, no download.

    Sample i of a split is a function of (seed, split, i). View 'image' is uint8 [n 3 size size]; facts: 'label', the letter, and every
    nuisance as float32 [n], uniform in its range: x, y (of the centre, in half sides from the middle), scale (half height
    over half side), rotation and slant (degrees), thickness (pixels at size 32), hue (turns), saturation, value (of the ink),
    background (its grey), gradient (its change from corner to corner). grain: width of the noise on the background.

    The test split has a quarter of `count` samples. A range of two equal numbers takes a nuisance away.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Ge(4)] = 12_000,
        size: Annotated[int, Ge(8)] = 32,
        classes: Annotated[int, Ge(2), Le(26)] = 26,
        x: Range = (-0.25, 0.25),
        y: Range = (-0.25, 0.25),
        scale: Range = (0.4, 0.7),
        rotation: Range = (-25.0, 25.0),
        thickness: Range = (1.5, 4.0),
        slant: Range = (-15.0, 15.0),
        hue: Range = (0.0, 1.0),
        saturation: Unit = (0.4, 1.0),
        value: Unit = (0.7, 1.0),
        background: Unit = (0.0, 0.4),
        gradient: Range = (-0.2, 0.2),
        grain: Annotated[float, Ge(0), Le(1)] = 0.1,
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if split not in _SPLITS:
            raise UnknownNameError(unknown("split", split, _SPLITS))
        self._ranges = np.array(
            [x, y, scale, rotation, thickness, slant, hue, saturation, value, background, gradient], np.float64
        )
        self._count, self._size, self._classes = count, size, classes
        self._grain, self._split, self._seed = grain, split, seed
        mean, std = _statistics(count, size, classes, self._ranges.tobytes(), grain, seed)
        names = tuple(LETTERS[:classes])
        self.facts = Facts(
            channels=3, shape=(size, size), classes=names, mean=mean, std=std, factors=COLUMNS
        )  # fmt: skip

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Ranges must rise; letters and strokes have a size."""
        for name in COLUMNS:
            low, high = settings[name]
            if low > high:
                yield f"{name}: needs (low, high) with low <= high, found ({low}, {high}): swap them"
        for name in ("scale", "thickness"):
            if settings[name][0] <= 0:
                yield f"{name}: needs positive numbers, found {settings[name]}"

    def __len__(self) -> int:
        return self._count if self._split == "train" else self._count // 4

    def digest(self) -> str:
        """Changes with every setting."""
        words = [1, self._count, self._size, self._classes, self._ranges.tolist(), self._grain, self._split, self._seed]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The pictures of these indices with all that is known of them."""
        ids = np.asarray(indices, dtype=np.int64)
        for i in ids:
            if not 0 <= i < len(self):
                raise DataError(f"sample {i} does not exist: there are {len(self)}, from 0 to {len(self) - 1}")
        label, factors = sample(ids, self._seed, self._split, self._classes, self._ranges)
        drawn = _at_size(factors, self._size)
        pictures = draw(ids, label, drawn, self._size, self._grain, self._seed, self._split)
        columns = torch.from_numpy(factors.astype(np.float32))
        facts = {"label": torch.from_numpy(label), **{name: columns[:, j] for j, name in enumerate(COLUMNS)}}
        return Batch({"image": View(torch.from_numpy(pictures))}, torch.from_numpy(ids.copy()), facts=facts)


def _at_size(factors: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The factors with the thickness in pixels of this size."""
    drawn = factors.copy()
    drawn[:, COLUMNS.index("thickness")] *= size / 32
    return drawn


@functools.lru_cache(maxsize=8)
def _statistics(
    count: int, size: int, classes: int, ranges: bytes, grain: float, seed: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of the first training pictures."""
    ids = np.arange(min(count, _MEASURED), dtype=np.int64)
    label, factors = sample(ids, seed, "train", classes, np.frombuffer(ranges).reshape(-1, 2))
    pictures = draw(ids, label, _at_size(factors, size), size, grain, seed, "train").astype(np.float64) / 255
    return tuple(pictures.mean((0, 2, 3)).tolist()), tuple(pictures.std((0, 2, 3)).tolist())
