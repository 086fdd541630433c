"""Drawing: a picture from its factors, every picture by itself. Legend: n pictures of side s; factors as in `source.FACTORS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tacit.core.random import key
from tacit.worlds.glyphs.letters import segments

__all__ = ["COLUMNS", "draw", "sample"]

COLUMNS = ("x", "y", "scale", "rotation", "thickness", "slant", "hue", "saturation", "value", "background", "gradient")
_GOLDEN, _FIRST, _SECOND = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_GRAIN = 100  # draws of a picture before those of its grain


def _jit(function: Callable[..., Any]) -> Any:
    """Compiled without the GIL; kept on disk where a folder for it is writable."""
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")
    except RuntimeError:
        return numba.njit(function, nogil=True, error_model="numpy")


@_jit
def _mix(x: Any) -> Any:
    """The mix of `core.random`."""
    x = x + _GOLDEN
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


@_jit
def _uniform(state: Any, number: int) -> float:
    """`core.random.uniform`."""
    return np.float64(_mix(state + np.uint64(number) * _GOLDEN) >> _11) * 2.0**-53


@_jit
def _sample(root: Any, ids: Any, classes: int, low: Any, high: Any, label: Any, factors: Any) -> None:
    for i in range(len(ids)):
        state = _mix(root ^ np.uint64(ids[i]))
        label[i] = int(_uniform(state, 0) * classes)
        for j in range(factors.shape[1]):
            factors[i, j] = low[j] + (high[j] - low[j]) * _uniform(state, 1 + j)


@_jit
def _draw(root: Any, ids: Any, label: Any, factors: Any, lines: Any, begin: Any, grain: float, out: Any) -> None:
    side = out.shape[2]
    half = side / 2
    for i in range(len(ids)):
        state = _mix(root ^ np.uint64(ids[i]))
        x, y, scale, rotation, thickness, slant, hue, saturation, value, ground, gradient = factors[i]
        turn = math.radians(rotation)
        cos, sin, lean, size = math.cos(turn), math.sin(turn), math.tan(math.radians(slant)), scale * half
        first, last = begin[label[i]], begin[label[i] + 1]
        ends = np.empty((last - first, 4))
        left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
        for j in range(last - first):
            for k in range(0, 4, 2):
                u, v = lines[first + j, k] - lean * lines[first + j, k + 1], lines[first + j, k + 1]
                ends[j, k] = half + x * half + size * (cos * u - sin * v)
                ends[j, k + 1] = half + y * half + size * (sin * u + cos * v)
                left, right = min(left, ends[j, k]), max(right, ends[j, k])
                top, bottom = min(top, ends[j, k + 1]), max(bottom, ends[j, k + 1])
        reach = thickness / 2 + 1
        for r in range(side):
            for c in range(side):
                py, px, near = r + 0.5, c + 0.5, 1e18
                if left - reach < px < right + reach and top - reach < py < bottom + reach:
                    for j in range(last - first):
                        ax, ay = ends[j, 0], ends[j, 1]
                        dx, dy = ends[j, 2] - ax, ends[j, 3] - ay
                        t = ((px - ax) * dx + (py - ay) * dy) / max(dx * dx + dy * dy, 1e-12)
                        t = min(max(t, 0.0), 1.0)
                        ex, ey = px - ax - t * dx, py - ay - t * dy
                        near = min(near, ex * ex + ey * ey)
                ink = min(max(thickness / 2 + 0.5 - math.sqrt(near), 0.0), 1.0)
                paper = ground + gradient * (c - r) / side
                paper += grain * (_uniform(state, _GRAIN + r * side + c) - 0.5)
                for channel in range(3):
                    k = ((5 - 2 * channel) % 6 + 6 * hue) % 6.0  # red 5, green 3, blue 1: HSV without branches
                    colour = value - value * saturation * max(0.0, min(1.0, min(k, 4.0 - k)))
                    shade = paper + ink * (colour - paper)
                    out[i, channel, r, c] = np.uint8(min(max(shade, 0.0), 1.0) * 255 + 0.5)


def sample(
    ids: NDArray[np.int64], seed: int, split: str, classes: int, ranges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class [n] and factors [n 11] of these samples: each uniform in its range [11 2], functions of (seed, split, id)."""
    label, factors = np.empty(len(ids), np.int64), np.empty((len(ids), len(COLUMNS)))
    root = np.uint64(key(seed, "glyphs", split))
    _sample(root, ids, classes, ranges[:, 0].copy(), ranges[:, 1].copy(), label, factors)
    return label, factors


def draw(
    ids: NDArray[np.int64],
    label: NDArray[np.int64],
    factors: NDArray[np.float64],
    side: int,
    grain: float = 0.0,
    seed: int = 0,
    split: str = "train",
) -> NDArray[np.uint8]:
    """Pictures uint8 [n 3 s s]: ink of soft edges at the distance of half the thickness to the nearest stroke, over a shaded ground.

    `grain` is the width of uniform noise on the ground, a function of (seed, split, id) too.
    """
    out = np.empty((len(ids), 3, side, side), np.uint8)
    lines, begin = segments()
    _draw(np.uint64(key(seed, "glyphs", split)), ids, label, factors, lines, begin, float(grain), out)
    return out
