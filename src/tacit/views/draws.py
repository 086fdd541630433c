"""The sampler: every parameter of a view is a function of (seed, epoch, sample id, view index, number of the draw).

The integer arithmetic is that of `core.random` (`key`, `uniform`), compiled; a test holds the two bit for bit equal.
Each parameter owns its draw number, so switching one operation on or off leaves all others as they were.

Legend: n samples. A parameter that was not drawn holds its neutral value (factor 1, hue 0, sigma 0, angle 0, false).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.core.random import key
from tacit.ops.compiled import jit
from tacit.ops.spread import spread

__all__ = ["OPERATIONS", "PARAMETERS", "Ranges", "draw", "drawing", "neutral"]

OPERATIONS = (
    "brightness",
    "contrast",
    "saturation",
    "hue",
)  # the meaning of 0..3 in 'order', and of columns of 'jitter'
PARAMETERS = (
    "source", "box", "flip", "angle", "order", "jitter", "grey", "sigma", "solarise", "noise", "noise_key",
)  # fmt: skip

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)

TRIES = 10
# Draw numbers. The crop takes four a try: area, aspect, top, left.
FLIP, JITTER, FACTORS, SHUFFLE, GREY, BLUR, SIGMA, SOLARISE, ANGLE, NOISE = 40, 41, 42, 46, 49, 50, 51, 52, 53, 54


class Ranges(NamedTuple):
    """What a view draws from: chances in [0, 1] and uniform ranges (low, high); angles in degrees, areas as fractions."""

    area: tuple[float, float]
    aspect: tuple[float, float]
    flip: float
    jitter: float
    factors: tuple[tuple[float, float], ...]  # of the four OPERATIONS
    grey: float
    blur: float
    sigma: tuple[float, float]
    solarise: float
    angle: float
    noise: float


@jit
def mix(x: Any) -> Any:
    """`core.random`'s mix: the finaliser of SplitMix64 on uint64."""
    x = x + GOLDEN
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


@jit
def uniform(state: Any, number: int) -> float:
    """`core.random.uniform`: draw `number` under the key `state`, in [0, 1) with 53 bits."""
    return np.float64(mix(state + np.uint64(number) * GOLDEN) >> _11) * 2.0**-53


@jit
def _between(state: Any, number: int, low: float, high: float) -> float:
    return low + (high - low) * uniform(state, number)


@jit
def _crop(state: Any, height: int, width: int, area: Any, aspect: Any, box: Any) -> None:
    """RandomResizedCrop: ten tries of an area and a log aspect, then the largest central box of an allowed aspect."""
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for attempt in range(TRIES):
        target = height * width * _between(state, 4 * attempt, area[0], area[1])
        shape = math.exp(_between(state, 4 * attempt + 1, low, high))
        w = round(math.sqrt(target * shape))
        h = round(math.sqrt(target / shape))
        if 0 < w <= width and 0 < h <= height:
            box[0] = int(uniform(state, 4 * attempt + 2) * (height - h + 1))
            box[1] = int(uniform(state, 4 * attempt + 3) * (width - w + 1))
            box[2] = h
            box[3] = w
            return
    h, w = height, width
    if width < height * aspect[0]:
        h = min(height, max(1, round(width / aspect[0])))
    elif width > height * aspect[1]:
        w = min(width, max(1, round(height * aspect[1])))
    box[0], box[1], box[2], box[3] = (height - h) // 2, (width - w) // 2, h, w


@jit
def _draw(
    begin: int, end: int, root: Any, ids: Any, index: Any, source: Any, ranges: Any,
    box: Any, flip: Any, angle: Any, order: Any, jitter: Any, grey: Any, sigma: Any, solarise: Any, noise: Any,
    noise_key: Any,
) -> None:  # fmt: skip
    for i in range(begin, end):
        state = mix(mix(root ^ np.uint64(ids[i])) ^ index)
        _crop(state, source[i, 0], source[i, 1], ranges.area, ranges.aspect, box[i])
        flip[i] = uniform(state, FLIP) < ranges.flip
        angle[i] = _between(state, ANGLE, -ranges.angle, ranges.angle)
        jitters = uniform(state, JITTER) < ranges.jitter
        for k in range(4):
            order[i, k] = k
            neutral = 0.0 if k == 3 else 1.0
            low, high = ranges.factors[k]
            jitter[i, k] = _between(state, FACTORS + k, low, high) if jitters else neutral
        for k in range(3, 0, -1):  # Fisher and Yates
            other = int(uniform(state, SHUFFLE + k - 1) * (k + 1))
            order[i, k], order[i, other] = order[i, other], order[i, k]
        grey[i] = uniform(state, GREY) < ranges.grey
        blurs = uniform(state, BLUR) < ranges.blur
        sigma[i] = _between(state, SIGMA, ranges.sigma[0], ranges.sigma[1]) if blurs else 0.0
        solarise[i] = uniform(state, SOLARISE) < ranges.solarise
        noise[i] = ranges.noise
        noise_key[i] = np.int64(mix(state + np.uint64(NOISE) * GOLDEN))


def _floats(value: Any) -> Any:
    """Numbers as floats, at any depth: one compiled form for every setting."""
    return tuple(_floats(item) for item in value) if isinstance(value, tuple) else float(value)


def neutral(source: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The parameters under which pictures of `source` [n 2] rows and columns stay whole and as they are."""
    n = len(source)
    how: dict[str, NDArray[Any]] = {
        "source": source,
        "box": np.concatenate([np.zeros_like(source), source], axis=1),
        "flip": np.zeros(n, np.bool_),
        "angle": np.zeros(n, np.float32),
        "order": np.tile(np.arange(4), (n, 1)),
        "jitter": np.tile(np.array([1, 1, 1, 0], np.float32), (n, 1)),
        "grey": np.zeros(n, np.bool_),
        "sigma": np.zeros(n, np.float32),
        "solarise": np.zeros(n, np.bool_),
        "noise": np.zeros(n, np.float32),
        "noise_key": np.zeros(n, np.int64),
    }
    return how


def draw(
    ids: NDArray[np.int64],
    source: NDArray[np.int64],
    ranges: Ranges,
    seed: int,
    epoch: int,
    index: int,
    threads: int = 1,
) -> dict[str, NDArray[Any]]:
    """The parameters of view number `index` of the samples `ids` [n], whose pictures have `source` [n 2] rows and columns.

    Returns, batch first: source [n 2]; box [n 4] (top, left, height, width in pixels of the source); flip [n];
    angle [n] in degrees, counter-clockwise; order [n 4], the permutation in which the four OPERATIONS act, and
    jitter [n 4], their factors (hue: a shift in turns); grey [n]; sigma [n] in pixels of the view, 0 for no blur;
    solarise [n]; noise [n], its standard deviation, and noise_key [n], the key of its draws.
    """
    how, work = drawing(ids, source, ranges, seed, epoch, index)
    spread(work, len(ids), threads, grain=256)
    return how


def drawing(
    ids: NDArray[np.int64], source: NDArray[np.int64], ranges: Ranges, seed: int, epoch: int, index: int
) -> tuple[dict[str, NDArray[Any]], Callable[[int, int], None]]:
    """What `draw` returns before anything is drawn, and the work that draws the samples begin..end into it."""
    how = neutral(source)
    ranges = Ranges(*_floats(tuple(ranges)))
    outputs = [how[name] for name in PARAMETERS[1:]]
    root = np.uint64(key(seed, "view", epoch))

    def work(begin: int, end: int) -> None:
        _draw(begin, end, root, ids, np.uint64(index), source, ranges, *outputs)

    return how, work
