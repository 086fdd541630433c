"""Which tokens of a grid are seen and which are predicted. Ids count tokens in raster order (frame, row, column).

A mask of one sample is a pair (context, targets): sorted ids that the encoder sees, and one or several arrays of sorted ids to be
predicted. Draws come from a `Stream`, so that the same arithmetic serves numbers that are functions of a key and the torch
generators of the published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError

__all__ = [
    "Ids", "KeyStream", "Mask", "Stream", "TorchStream", "Truncate", "block_2d", "block_3d", "causal", "inverse_block", "multi_block_2d",
    "multi_block_3d", "picture", "random_tokens", "random_tube", "random_units", "truncate",
]  # fmt: skip

Ids = NDArray[np.int64]
Range = tuple[float, float]
Truncate = Literal["first", "random", "none", "packed"]


class Mask(NamedTuple):
    """Sorted ids of one sample: what the encoder sees, and what is to be predicted from it."""

    context: Ids
    targets: tuple[Ids, ...]


@runtime_checkable
class Stream(Protocol):
    """Where draws come from."""

    def uniform(self) -> float:
        """In [0, 1)."""
        ...

    def below(self, n: int) -> int:
        """One of 0..n-1."""
        ...

    def order(self, n: int) -> Ids:
        """A permutation of 0..n-1."""
        ...


class KeyStream:
    """Draws that are a function of a 64-bit key."""

    def __init__(self, key: int) -> None:
        self._draw = np.random.Generator(np.random.Philox(key=key))

    def uniform(self) -> float:
        """In [0, 1)."""
        return float(self._draw.random())

    def below(self, n: int) -> int:
        """One of 0..n-1."""
        return int(self._draw.integers(n))

    def order(self, n: int) -> Ids:
        """A permutation of 0..n-1."""
        return self._draw.permutation(n)


class TorchStream:
    """Draws of a torch generator, one call each, as the published collators make them; None is the global generator."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator

    def uniform(self) -> float:
        """torch.rand(1)."""
        return float(torch.rand(1, generator=self._generator))

    def below(self, n: int) -> int:
        """torch.randint(0, n, (1,))."""
        return int(torch.randint(0, n, (1,), generator=self._generator))

    def order(self, n: int) -> Ids:
        """torch.randperm(n)."""
        return torch.randperm(n, generator=self._generator).numpy()


def _between(u: float, limits: Range) -> float:
    return limits[0] + u * (limits[1] - limits[0])


def block_2d(
    stream: Stream, grid: Sequence[int], scale: Range, aspect: Range, *, official: bool = False
) -> tuple[int, int]:
    """Height and width of a block: an area of `scale` of the grid, height over width within `aspect`.

    official (I-JEPA): one number drives both, so that large blocks are tall ones, and no block is as high or wide as the grid.
    """
    height, width = grid
    u = stream.uniform()
    keep = int(height * width * _between(u, scale))
    ratio = _between(u if official else stream.uniform(), aspect)
    limit = (height - 1, width - 1) if official else (height, width)
    h, w = round(math.sqrt(keep * ratio)), round(math.sqrt(keep / ratio))
    return max(1, min(h, limit[0])), max(1, min(w, limit[1]))


def block_3d(stream: Stream, grid: Sequence[int], temporal: Range, scale: Range, aspect: Range) -> tuple[int, int, int]:
    """Frames, height and width of a block: three draws, in the order time, area, aspect (V-JEPA)."""
    frames, height, width = grid
    t = max(1, int(frames * _between(stream.uniform(), temporal)))
    keep = int(height * width * _between(stream.uniform(), scale))
    ratio = _between(stream.uniform(), aspect)
    h, w = min(round(math.sqrt(keep * ratio)), height), min(round(math.sqrt(keep / ratio)), width)
    return t, max(1, h), max(1, w)


def multi_block_2d(
    stream: Stream,
    grid: Sequence[int],
    target: Sequence[int],
    context: Sequence[int],
    *,
    targets: int = 4,
    min_keep: int = 10,
    overlap: bool = False,
    official: bool = False,
) -> Mask:
    """I-JEPA's masks (arXiv 2301.08243): `targets` blocks of one size at random places, and a large context block minus them.

    A draw that leaves `min_keep` tokens or fewer is repeated; after 20 failures one target less is cut out of the context, after 20
    more another. official: blocks never touch the last row and the last column of the grid (an upper end read as exclusive).
    """
    height, width = grid

    def place(size: Sequence[int], allowed: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
        for failures in range(20 * (len(allowed) + 1)):
            top = stream.below(height - size[0] + (not official))
            left = stream.below(width - size[1] + (not official))
            block = np.zeros((height, width), dtype=bool)
            block[top : top + size[0], left : left + size[1]] = True
            for free in allowed[: len(allowed) - failures // 20]:
                block &= free
            if np.count_nonzero(block) > min_keep:
                return block
        raise RecipeError(
            f"no block of {size[0]} x {size[1]} tokens on a grid of {height} x {width} keeps more than min_keep={min_keep} tokens: "
            "lower min_keep, or enlarge the blocks"
        )

    blocks = [place(target, ()) for _ in range(targets)]
    seen = place(context, () if overlap else [~block for block in blocks])
    return Mask(np.flatnonzero(seen), tuple(np.flatnonzero(block) for block in blocks))


def multi_block_3d(
    stream: Stream, grid: Sequence[int], size: Sequence[int], *, blocks: int = 8, temporal_keep: float = 1.0
) -> Mask:
    """V-JEPA's masks (arXiv 2404.08471): `blocks` blocks of one size; what they cover is the target, the rest the context.

    temporal_keep < 1 hides all tubelets after that share of the clip as well. A draw without context is repeated.
    """
    frames, height, width = grid
    for _ in range(1000):
        seen = np.ones((frames, height, width), dtype=bool)
        for _ in range(blocks):
            top, left = stream.below(height - size[1] + 1), stream.below(width - size[2] + 1)
            start = stream.below(frames - size[0] + 1)
            seen[start : start + size[0], top : top + size[1], left : left + size[2]] = False
        seen[max(1, int(frames * temporal_keep)) :] = False
        if seen.any():
            return _split(seen)
    raise RecipeError(
        f"{blocks} blocks of {' x '.join(map(str, size))} tokens cover the whole grid of {' x '.join(map(str, grid))}: take fewer or "
        "smaller ones"
    )


def _split(seen: NDArray[np.bool_]) -> Mask:
    return Mask(np.flatnonzero(seen), (np.flatnonzero(~seen),))


def random_tokens(stream: Stream, grid: Sequence[int], ratio: float) -> Mask:
    """MAE's mask: int(N (1 - ratio)) tokens chosen at random are seen, the others predicted."""
    total = math.prod(grid)
    seen = np.zeros(total, dtype=bool)
    seen[stream.order(total)[: int(total * (1 - ratio))]] = True
    return _split(seen)


def random_units(stream: Stream, grid: Sequence[int], ratio: float, unit: int) -> Mask:
    """SimMIM's mask: squares of unit x unit tokens, ceil(units * ratio) of them hidden at random."""
    *frames, height, width = grid
    if height % unit or width % unit:
        raise RecipeError(f"units of {unit} tokens do not divide a grid of {height} x {width}: choose another unit")
    coarse = (*frames, height // unit, width // unit)
    total = math.prod(coarse)
    seen = np.ones(total, dtype=bool)
    seen[stream.order(total)[: math.ceil(total * ratio)]] = False
    return _split(seen.reshape(coarse).repeat(unit, axis=-2).repeat(unit, axis=-1))


def random_tube(stream: Stream, grid: Sequence[int], ratio: float) -> Mask:
    """Random places of the picture, hidden in every frame: int(H W (1 - ratio)) of them are seen (VideoMAE, arXiv 2203.12602)."""
    frames, height, width = grid
    plane = np.zeros(height * width, dtype=bool)
    plane[stream.order(height * width)[: int(height * width * (1 - ratio))]] = True
    return _split(np.broadcast_to(plane, (frames, height * width)))


def causal(grid: Sequence[int], visible: int) -> Mask:
    """The first `visible` tubelets are seen, the rest of the clip is predicted; nothing is drawn."""
    seen = np.zeros(tuple(grid), dtype=bool)
    seen[:visible] = True
    return _split(seen)


def inverse_block(stream: Stream, grid: Sequence[int], ratio: float, adjust: float = 0.07) -> Mask:
    """data2vec 2's mask (arXiv 2212.07525): one square block stays visible, trimmed or filled at random to exactly N (1 - ratio) tokens.

    The block is drawn to cover 1 - ratio + adjust of the grid.
    """
    height, width = grid
    area = height * width * min(1.0, 1 - ratio + adjust)
    h = min(height, max(1, round(math.sqrt(area))))
    w = min(width, max(1, round(area / h)))
    top, left = stream.below(height - h + 1), stream.below(width - w + 1)
    inside = np.zeros((height, width), dtype=bool)
    inside[top : top + h, left : left + w] = True
    order = stream.order(height * width)
    order = order[np.argsort(~inside.ravel()[order], kind="stable")]  # the block first, both parts in random order
    seen = np.zeros(height * width, dtype=bool)
    seen[order[: max(1, int(height * width * (1 - ratio)))]] = True
    return _split(seen)


def truncate(rows: Sequence[Ids], how: Truncate, keys: Sequence[int]) -> Ids:
    """Rows of ids of unequal length as one array [n k].

    first: cut to the shortest row by keeping the first ids (the published collators; of a clip this drops the end). random: cut to the
    shortest row by keeping a random subset, sorted. none, packed: filled up with -1 to the longest row, so that no token is lost.
    keys[i] is the key of the draws of row i.
    """
    sizes = [len(row) for row in rows]
    if how in ("none", "packed"):
        out = np.full((len(rows), max(sizes)), -1, dtype=np.int64)
        for i, row in enumerate(rows):
            out[i, : len(row)] = row
        return out
    short = min(sizes)
    if short == 0:
        raise DataError("a mask of this batch is empty: lower the ratio, or choose other blocks")
    if how == "first":
        return np.stack([row[:short] for row in rows])
    return np.stack(
        [
            row if len(row) == short else np.sort(row[KeyStream(own).order(len(row))[:short]])
            for row, own in zip(rows, keys, strict=True)
        ]
    )


def picture(images: Tensor, seen: Tensor, grid: Sequence[int], shade: float = 0.25) -> Tensor:
    """Images [n c h w] or clips [n c f h w] in [0, 1] with the tokens that are not in `seen` (bool [n N]) darkened to `shade`."""
    light = torch.where(seen, 1.0, shade).reshape(len(images), 1, *grid).to(images.dtype)
    for axis, size in enumerate(images.shape[2:], start=2):
        light = light.repeat_interleave(size // light.shape[axis], dim=axis)
    return images * light
