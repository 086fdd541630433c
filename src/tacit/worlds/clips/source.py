"""Generated clips as a source: no files, no download, any number of samples."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.random import key, uniform
from tacit.core.values import Batch, Facts, View
from tacit.worlds.clips.drawing import SHAPES, draw

__all__ = ["DIRECTIONS", "ClipSource", "Grey"]

DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")
_SPLITS = ("train", "test")
_SHAPES_MOST = 8  # draws are numbered 20 an object
Grey = Annotated[float, Ge(0.35), Le(0.65)]  # of the ground: objects are up to 0.35 brighter or darker


@part("source", "clips")
class ClipSource:
    """Clips of a moving digit among moving shapes; sample i of a split is a function of (seed, split, i).

    The digit, a scan of scikit-learn's, moves straight on in one of eight directions and stays in the picture; up to `shapes` discs,
    squares, triangles, crosses and rings behind it move on their own and turn back at the edges. Positions, speeds, sizes and greys
    are independent of each other, and everything is brighter or darker than the ground by chance, so that no sum over pixels tells
    the motion. View 'image' is uint8 [n c f s s], grey in each channel.
    Facts: direction (of 8), identity (the digit), count (shapes), speed in pixels a frame, position [n 2] of the digit at frame 0, in
    pixels. `label` names the one of direction, identity and count that stands under 'label' as well. Splits train and test share no
    scan of a digit.

    frames, side: of a clip, in pixels. speed: slowest and fastest, of digit and shapes; the digit's is bounded by the room that it has.
    ground: darkest and brightest of the ground, one grey a clip; two equal numbers take it away as something that a clip can be told by.
    moves: 'shape' puts a large disc, square, triangle, cross or ring in the digit's place, and identity (of 5) is which.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Ge(1)] = 10_000,
        frames: Annotated[int, Ge(2)] = 8,
        side: Annotated[int, Ge(24)] = 32,
        shapes: Annotated[int, Ge(0)] = 2,
        channels: Literal[1, 3] = 1,
        speed: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.75, 2.0),
        ground: tuple[Grey, Grey] = (0.35, 0.65),
        moves: Literal["digit", "shape"] = "digit",
        label: Literal["direction", "identity", "count"] = "direction",
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if split not in _SPLITS:
            raise UnknownNameError(unknown("split", split, _SPLITS))
        if shapes > _SHAPES_MOST:
            raise DataError(
                f"source 'clips' draws at most {_SHAPES_MOST} shapes beside the digit, found shapes={shapes}: take fewer"
            )
        self._count, self._frames, self._side, self._shapes, self._speed = count, frames, side, shapes, speed
        self._channels, self._ground = channels, ground
        self._label, self._split, self._seed = label, split, seed
        self._settings = [2, count, frames, side, shapes, channels, *speed, *ground, label, split, seed]
        self._settings += [] if moves == "digit" else [moves]
        self._movers = tuple("0123456789") if moves == "digit" else SHAPES
        names = {"direction": DIRECTIONS, "identity": self._movers, "count": tuple(map(str, range(shapes + 1)))}
        self.facts = Facts(
            channels=channels, shape=(frames, side, side), classes=names[label], mean=(0.5,) * channels, std=(0.11,) * channels,
            factors=("direction", "identity", "count", "speed", "position"),
        )  # fmt: skip

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Ranges must rise."""
        for name in ("speed", "ground"):
            low, high = settings[name]
            if low > high:
                yield f"{name}: needs (low, high) with low <= high, found ({low}, {high}): swap them"

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """Changes with every setting."""
        return hashlib.sha256(json.dumps(self._settings).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices."""
        ids = np.asarray(indices, dtype=np.int64).reshape(-1)
        for i in ids.tolist():
            if not 0 <= i < self._count:
                raise DataError(f"sample {i} does not exist: there are {self._count}, from 0 to {self._count - 1}")
        n, k = len(ids), self._shapes + 1
        place, velocity = np.empty((n, k, 2)), np.empty((n, k, 2))
        kind, radius, light = np.full((n, k), -1, np.int64), np.ones((n, k)), np.zeros((n, k))
        scan, ground = np.zeros((n, 8, 8)), np.empty(n)
        facts: dict[str, list[float]] = {name: [] for name in self.facts.factors[:4]}
        scans, places = _scans()[self._split], []
        for row, i in enumerate(ids.tolist()):
            state = key(self._seed, "clips", self._split, i)
            draws = [uniform(state, number) for number in range(20 * k)]
            darkest, brightest = self._ground
            count, ground[row] = int(draws[2] * k), darkest + (brightest - darkest) * draws[4]
            for j in range(k):
                place[row, j], velocity[row, j], kind[row, j], radius[row, j], light[row, j] = self._object(
                    draws[20 * j + 10 : 20 * j + 20], ground[row], digit=j == k - 1, there=j >= k - 1 - count
                )
            identity = int(draws[1] * len(self._movers))
            if self._movers is SHAPES:
                kind[row, -1] = 1 + identity
            else:
                scan[row] = scans[identity][int(draws[3] * len(scans[identity]))]
            facts["direction"].append(int(draws[20 * k - 10] * len(DIRECTIONS)))
            facts["identity"].append(identity)
            facts["count"].append(count)
            facts["speed"].append(math.hypot(*velocity[row, -1]))
            places.append(place[row, -1].tolist())
        out = np.empty((n, self._frames, self._side, self._side), np.uint8)
        draw(place, velocity, kind, radius, light, scan, ground, out)
        known: dict[str, Tensor] = {
            name: torch.tensor(facts[name], dtype=torch.int64) for name in ("direction", "identity", "count")
        }
        known |= {"speed": torch.tensor(facts["speed"]), "position": torch.tensor(places).reshape(n, 2)}
        clips = torch.from_numpy(out)[:, None].repeat(1, self._channels, 1, 1, 1)
        return Batch({"image": View(clips)}, torch.from_numpy(ids), facts={**known, "label": known[self._label]})

    def _object(
        self, u: list[float], ground: float, *, digit: bool, there: bool
    ) -> tuple[list[float], list[float], int, float, float]:
        """(place, velocity, kind, radius, light) of one object from ten draws.

        The middle of the digit's way is drawn without regard to the direction, so where it starts does not tell where it goes.
        """
        radius = self._side * ((0.23 if digit else 0.1) + 0.05 * u[1])
        room, steps = self._side - 2 * radius, self._frames - 1
        slow, fast = self._speed
        speed = slow + (fast - slow) * u[2]
        speed = min(speed, room / steps) if digit else speed
        turn = int(u[0] * 8) / 8 if digit else u[0]
        velocity = [speed * math.sin(2 * math.pi * turn), speed * math.cos(2 * math.pi * turn)]
        free = room - steps * speed if digit else room
        middle = [self._side / 2 + (one - 0.5) * free for one in u[3:5]]
        place = [at - one * steps / 2 for at, one in zip(middle, velocity, strict=True)] if digit else middle
        kind = 0 if digit else 1 + int(u[5] * len(SHAPES)) if there else -1
        contrast = (0.25 + 0.1 * u[6]) * (1 if u[7] < 0.5 else -1)
        return place, velocity, kind, radius, ground + contrast


@functools.cache
def _scans() -> dict[str, list[NDArray[np.float64]]]:
    """Of each split and digit, its scans [m 8 8] in [0, 1]; every fifth scan of a digit is a test scan."""
    from sklearn.datasets import load_digits  # here: importing scikit-learn takes most of a second

    data, labels = load_digits(return_X_y=True)
    found: dict[str, list[NDArray[np.float64]]] = {"train": [], "test": []}
    for digit in range(10):
        own = data[labels == digit].reshape(-1, 8, 8) / 16
        test = np.arange(len(own)) % 5 == 4
        found["train"].append(own[~test])
        found["test"].append(own[test])
    return found
