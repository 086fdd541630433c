"""The colour operations of a view on a CUDA card as one kernel: each sample in its own order, read twice, written once.

The first pass brings a sample up to its contrast operation and sums its grey; the second does all four operations and the grey.
Importing this module needs triton, which torch for CUDA brings. Legend: n samples, p pixels of a view.
"""

from __future__ import annotations

from typing import Any

import torch
import triton  # type: ignore[import-untyped, unused-ignore]
import triton.language as tl  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

__all__ = ["colour"]

_RED, _GREEN, _BLUE = tl.constexpr(0.2989), tl.constexpr(0.587), tl.constexpr(0.114)


@triton.jit
def _unit(x: Any) -> Any:
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _spoke(k: Any, high: Any, chroma: Any) -> Any:
    k = k - 6.0 * tl.floor(k / 6.0)
    return high - chroma * _unit(tl.minimum(k, 4.0 - k))


@triton.jit
def _turned(r: Any, g: Any, b: Any, turn: Any) -> Any:
    high, low = tl.maximum(tl.maximum(r, g), b), tl.minimum(tl.minimum(r, g), b)
    chroma = high - low
    numerator = tl.where(high == r, g - b, tl.where(high == g, b - r, r - g))
    sector = tl.where(high == r, 0.0, tl.where(high == g, 2.0, 4.0))
    hue = numerator / tl.where(chroma > 0, chroma, 1.0) + sector + 6.0 * turn
    return _spoke(hue + 5.0, high, chroma), _spoke(hue + 3.0, high, chroma), _spoke(hue + 1.0, high, chroma)


@triton.jit
def _applied(operation: Any, factor: Any, mean: Any, r: Any, g: Any, b: Any) -> Any:
    if operation == 3:
        if factor != 0:
            r, g, b = _turned(r, g, b, factor)
    else:  # blend with black, with the mean, or with the grey of each pixel
        other = mean
        if operation == 2:
            other = _RED * r + _GREEN * g + _BLUE * b
        if operation == 0:
            other = 0.0 * r
        rest = (1.0 - factor) * other
        r, g, b = _unit(factor * r + rest), _unit(factor * g + rest), _unit(factor * b + rest)
    return r, g, b


@triton.jit
def _colour(views: Any, order: Any, jitter: Any, grey: Any, p: Any, block: tl.constexpr) -> None:
    i = tl.program_id(0)
    view = views + i.to(tl.int64) * 3 * p
    to_grey = tl.load(grey + i)
    second, third, fourth = tl.load(order + 4 * i + 1), tl.load(order + 4 * i + 2), tl.load(order + 4 * i + 3)
    contrast = tl.where(second == 1, 1, 0) + tl.where(third == 1, 2, 0) + tl.where(fourth == 1, 3, 0)  # its place
    total = tl.zeros((block,), tl.float32)
    if tl.load(jitter + 4 * i + 1) != 1:
        for start in range(0, p, block):
            at = start + tl.arange(0, block)
            inside = at < p
            r, g, b = (
                tl.load(view + at, inside, 0.0),
                tl.load(view + p + at, inside, 0.0),
                tl.load(view + 2 * p + at, inside, 0.0),
            )
            for k in tl.static_range(3):
                if k < contrast:
                    operation = tl.load(order + 4 * i + k)
                    r, g, b = _applied(operation, tl.load(jitter + 4 * i + operation), 0.0 * r, r, g, b)
            total += tl.where(inside, _RED * r + _GREEN * g + _BLUE * b, 0.0)
    mean = tl.sum(total, 0) / p
    for start in range(0, p, block):
        at = start + tl.arange(0, block)
        inside = at < p
        r, g, b = (
            tl.load(view + at, inside, 0.0),
            tl.load(view + p + at, inside, 0.0),
            tl.load(view + 2 * p + at, inside, 0.0),
        )
        for k in tl.static_range(4):
            operation = tl.load(order + 4 * i + k)
            r, g, b = _applied(operation, tl.load(jitter + 4 * i + operation), mean + 0.0 * r, r, g, b)
        if to_grey != 0:
            r, g, b = _applied(2, 0.0, 0.0 * r, r, g, b)
        tl.store(view + at, r, inside)
        tl.store(view + p + at, g, inside)
        tl.store(view + 2 * p + at, b, inside)


def colour(x: Tensor, order: Tensor, jitter: Tensor, grey: Tensor) -> Tensor:
    """Views x [n 3 s s] in [0, 1], float32 and contiguous, changed in place: jitter [n 4] in the order [n 4] (int32), then grey [n]."""
    p = x.shape[2] * x.shape[3]
    with torch.cuda.device_of(x):
        _colour[(len(x),)](x, order, jitter, grey, p, block=min(1024, triton.next_power_of_2(p)))
    return x
