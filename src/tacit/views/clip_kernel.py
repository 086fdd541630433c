"""Bytes of a crop to a resized, mirrored and normalised channel of a clip in one pass, for processors.

A row of the crop becomes floats in [0, 1] and is interpolated across once, however many rows of the output lie between it and the
next one. The arithmetic is that of torch's bilinear interpolation, its fused multiply-adds included. Torch has two orders and
chooses by the size and the number of threads: where it takes this one the bits are the same, elsewhere up to the last. Here they
depend on neither.

Legend: f frames, s side of the view. A `Taps` names, for each output along an axis, two pixels of the crop and their weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.ops.compiled import fused, jit

__all__ = ["Taps", "render_channel", "taps"]

Taps = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]
f4 = np.float32
_ONES = f4(255)


def taps(length: int, size: int, mirror: bool = False) -> Taps:
    """Where `length` pixels are read for `size` of them, corners not aligned."""
    at = np.maximum(float(f4(length) / f4(size)) * (np.arange(size) + 0.5) - 0.5, 0.0).astype(f4)
    first = at.astype(np.uint32)
    second = at - first.astype(f4)
    found = (first, np.minimum(first + 1, length - 1).astype(np.uint32), f4(1) - second, second)
    return tuple(np.ascontiguousarray(x[::-1]) for x in found) if mirror else found  # type: ignore[return-value]


@jit
def _across(pixels: Any, line: Any, a: Any, b: Any, near: Any, far: Any, row: Any) -> None:
    for i in range(len(line)):
        line[i] = f4(pixels[i]) / _ONES
    for i in range(len(row)):
        row[i] = fused(line[a[i]], near[i], line[b[i]] * far[i])


@jit
def _down(above: Any, below: Any, near: float, far: float, mean: float, std: float, row: Any) -> None:
    for i in range(len(row)):
        row[i] = (fused(above[i], near, below[i] * far) - mean) / std


@jit
def render_channel(
    frames: Any, top: int, left: int, width: int, across: Any, down: Any, mean: float, std: float, out: Any
) -> None:
    """Write out [f s s] float32 from the crop of frames [f h w] uint8 that begins at (top, left), with the taps of either axis."""
    a, b, near, far = across
    tops, lows, tops_near, lows_far = down
    line = np.empty(width, f4)
    above, below = np.empty(out.shape[2], f4), np.empty(out.shape[2], f4)
    for i in range(len(out)):
        in_above, in_below = -1, -1
        for y in range(out.shape[1]):
            high, low = top + int(tops[y]), top + int(lows[y])
            if high == in_below:
                above, below, in_above, in_below = below, above, in_below, in_above
            if high != in_above:
                _across(frames[i, high, left : left + width], line, a, b, near, far, above)
                in_above = high
            if low != in_below:
                _across(frames[i, low, left : left + width], line, a, b, near, far, below)
                in_below = low
            _down(above, below, tops_near[y], lows_far[y], mean, std, out[i, y])
