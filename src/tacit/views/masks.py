"""Masks over the patches of a view, each a function of (seed, epoch, sample id, view): draws of `draws` under a key of their own.

Legend: n samples, rows x columns patches, k of them. Ratios are fractions of the patches.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.random import key
from tacit.ops.compiled import jit
from tacit.views.draws import mix, uniform

__all__ = ["blocks", "focal", "scattered"]

_SMALLEST, _TRIES = 4, 10  # patches of the least block, tries for each block
_SLENDER = math.log(0.3)  # of a block, height over width is between 0.3 and 1 / 0.3


@jit
def _block(state: Any, at: int, want: int, rows: int, columns: int, out: Any) -> int:
    """Hide blocks until `want` patches are hidden or no block fits in ten tries; the next draw's number."""
    hidden, largest = 0, max(1, (rows * columns) // 2)
    while hidden < want:
        room, fits = min(want - hidden, largest), False
        for _ in range(_TRIES):
            area = _SMALLEST + (room - _SMALLEST) * uniform(state, at)
            shape = math.exp(_SLENDER * (1 - 2 * uniform(state, at + 1)))
            top, left = uniform(state, at + 2), uniform(state, at + 3)
            at += 4
            h, w = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if h < 1 or w < 1 or h >= rows or w >= columns:
                continue
            first, second = int(top * (rows - h + 1)), int(left * (columns - w + 1))
            new = 0
            for y in range(first, first + h):
                for x in range(second, second + w):
                    new += not out[y, x]
            if 0 < new <= room:
                out[first : first + h, second : second + w] = True
                hidden += new
                fits = True
                break
        if not fits:
            break
    return at


@jit
def _blocks(root: Any, ids: Any, index: Any, share: float, low: float, high: float, out: Any) -> None:
    for i in range(len(ids)):
        state = mix(mix(root ^ np.uint64(ids[i])) ^ index)
        if uniform(state, 0) < share:
            ratio = low + (high - low) * uniform(state, 1)
            _block(state, 2, int(ratio * out[i].size), out.shape[1], out.shape[2], out[i])


@jit
def _scattered(root: Any, ids: Any, index: Any, patches: int, keep: Any) -> None:
    for i in range(len(ids)):
        state = mix(mix(root ^ np.uint64(ids[i])) ^ index)
        noise = np.array([uniform(state, j) for j in range(patches)])
        keep[i] = np.sort(np.argsort(noise)[: keep.shape[1]])


@jit
def _focal(root: Any, ids: Any, index: Any, rows: int, columns: int, h: int, w: int, keep: Any) -> None:
    for i in range(len(ids)):
        state = mix(mix(root ^ np.uint64(ids[i])) ^ index)
        top, left = int(uniform(state, 0) * (rows - h + 1)), int(uniform(state, 1) * (columns - w + 1))
        for j in range(h * w):
            keep[i, j] = (top + j // w) * columns + left + j % w


def _root(seed: int, epoch: int) -> Any:
    return np.uint64(key(seed, "mask", epoch))


def blocks(
    ids: NDArray[np.int64], grid: tuple[int, int], share: float, ratio: tuple[float, float], seed: int, epoch: int, index: int
) -> NDArray[np.bool_]:  # fmt: skip
    """Hidden patches [n k]: a sample is masked with chance `share`, then in blocks up to a part of its patches uniform in `ratio`.

    A block has an area uniform from 4 to what is left, of log aspect uniform between those of 0.3 and 1 / 0.3; one that would hide too
    much is drawn again, ten times. iBOT and DINOv2 (arXiv 2111.07832, 2304.07193), whose codes draw the ratios of a batch in
    equal strata; here each view draws by itself, so that it can be made again.
    """
    out = np.zeros((len(ids), *grid), np.bool_)
    _blocks(_root(seed, epoch), ids, np.uint64(index), float(share), float(ratio[0]), float(ratio[1]), out)
    return out.reshape(len(ids), -1)


def scattered(
    ids: NDArray[np.int64], grid: tuple[int, int], ratio: float, seed: int, epoch: int, index: int
) -> NDArray[np.int64]:
    """Visible patches [n v], ascending: all but a random part `ratio`, v = floor(k (1 - ratio)), at least one (MSN, arXiv 2204.07141)."""
    patches = grid[0] * grid[1]
    keep = np.empty((len(ids), max(1, math.floor(patches * (1 - ratio) + 1e-9))), np.int64)
    _scattered(_root(seed, epoch), ids, np.uint64(index), patches, keep)
    return keep


def focal(
    ids: NDArray[np.int64], grid: tuple[int, int], ratio: float, seed: int, epoch: int, index: int
) -> NDArray[np.int64]:
    """Visible patches [n v], ascending: one rectangle of the view's shape somewhere in it, of about 1 - `ratio` of its patches."""
    side = math.sqrt(1 - ratio)
    h, w = (max(1, round(side * length)) for length in grid)
    keep = np.empty((len(ids), h * w), np.int64)
    _focal(_root(seed, epoch), ids, np.uint64(index), grid[0], grid[1], h, w, keep)
    return keep
