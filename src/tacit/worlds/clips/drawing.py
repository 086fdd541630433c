"""Drawing moving digits and shapes, sub-pixel exact, into clips of bytes.

Legend: n clips, f frames, s the side of a frame in pixels, k objects. Positions are centres in pixels, (row, column), pixel (0, 0)
having its centre at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["SHAPES", "draw"]

SHAPES = ("disc", "square", "triangle", "cross", "ring")  # the meaning of kind - 1; kind 0 is a digit


def _compiled(function: Callable[..., Any]) -> Any:
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")
    except RuntimeError:  # numba found no writable folder for its cache
        return numba.njit(function, nogil=True, error_model="numpy")


@_compiled
def _scan(scan: Any, y: float, x: float) -> float:
    """An 8 x 8 scan between its pixels, bilinear, zero outside."""
    y, x = y + 3.5, x + 3.5
    top, left = int(np.floor(y)), int(np.floor(x))
    v, u = y - top, x - left
    value = 0.0
    for dy in range(2):
        for dx in range(2):
            if 0 <= top + dy < 8 and 0 <= left + dx < 8:
                value += (v if dy else 1 - v) * (u if dx else 1 - u) * scan[top + dy, left + dx]
    return value


@_compiled
def _distance(kind: int, y: float, x: float, r: float) -> float:
    """Signed distance in pixels to the edge of a shape of radius r around the origin, negative inside."""
    if kind == 1:
        return np.sqrt(y * y + x * x) - r
    if kind == 2:
        return max(abs(y), abs(x)) - 0.8 * r
    if kind == 3:
        return max(y - 0.6 * r, 0.9 * abs(x) - 0.5 * y - 0.6 * r)
    if kind == 4:
        return min(max(abs(y) - r, abs(x) - 0.3 * r), max(abs(x) - r, abs(y) - 0.3 * r))
    return abs(np.sqrt(y * y + x * x) - 0.75 * r) - 0.25 * r


@_compiled
def draw(place: Any, velocity: Any, kind: Any, radius: Any, light: Any, scan: Any, ground: Any, out: Any) -> None:
    """Write clips out [n f s s] (uint8): k objects each on a flat ground, later ones over earlier ones.

    place [n k 2] at frame 0, velocity [n k 2] in pixels a frame; an object turns back where its centre comes within its radius of the edge.
    kind [n k] (-1: no object), radius [n k] in pixels, light [n k] and ground [n] in [0, 1]; scan [n 8 8] is the digit of each clip.
    """
    n, frames, side, _ = out.shape
    for i in range(n):
        for f in range(frames):
            frame = np.full((side, side), ground[i])
            for k in range(kind.shape[1]):
                if kind[i, k] < 0:
                    continue
                r = radius[i, k]
                room = side - 2 * r
                y = abs((place[i, k, 0] - r + f * velocity[i, k, 0] + room) % (2 * room) - room) + r
                x = abs((place[i, k, 1] - r + f * velocity[i, k, 1] + room) % (2 * room) - room) + r
                reach = r * 1.3 + 1
                for row in range(max(0, int(y - reach)), min(side, int(y + reach) + 1)):
                    for column in range(max(0, int(x - reach)), min(side, int(x + reach) + 1)):
                        dy, dx = row + 0.5 - y, column + 0.5 - x
                        if kind[i, k] == 0:
                            cover = _scan(scan[i], dy * 4 / r, dx * 4 / r)
                        else:
                            cover = min(1.0, max(0.0, 0.5 - _distance(kind[i, k], dy, dx, r)))
                        frame[row, column] += cover * (light[i, k] - frame[row, column])
            for row in range(side):
                for column in range(side):
                    out[i, f, row, column] = np.uint8(min(255.0, max(0.0, np.rint(frame[row, column] * 255))))
