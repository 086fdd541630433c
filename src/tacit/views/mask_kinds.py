"""Kinds of masks: which tokens of a grid an encoder sees, and which it must predict. The draws are `ops.masks`.

Draws are a function of (seed, epoch, sample id, number of the mask). With compat='official' the size of the blocks is shared by
the batch, as in the published collators, and so a function of the batch's first sample; places are drawn by torch's generators.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Protocol

import torch
from annotated_types import Ge, Gt, Le, Lt

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.random import key, torch_seed
from tacit.ops import masks
from tacit.ops.masks import KeyStream, Mask, Stream, TorchStream
from tacit.ops.positions import Compat

__all__ = ["CausalMask", "InverseBlock", "Masks", "MultiBlock", "MultiBlock3D", "RandomMask", "RandomTube"]

Fraction = Annotated[float, Gt(0), Le(1)]
Ratio = Annotated[float, Gt(0), Lt(1)]
Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


class Masks(Protocol):
    """Draws one mask a sample."""

    def draw(self, ids: Sequence[int], seed: int, epoch: int, index: int) -> list[Mask]:
        """Of the samples `ids`; `index` numbers the masks of one view."""
        ...


def _stream(official: bool, *numbers: int | str) -> Stream:
    if not official:
        return KeyStream(key(*numbers))
    return TorchStream(torch.Generator().manual_seed(torch_seed(*numbers)))


def _need(grid: Sequence[int], dims: int, kind: str) -> None:
    if len(grid) != dims:
        found, wanted = ("images", "clips") if dims == 3 else ("clips", "images")
        raise RecipeError(f"mask {kind!r} is made for {wanted}, the samples are {found}: choose another kind of mask")


def _rising(settings: Mapping[str, Any], *names: str) -> Iterable[str]:
    for name in names:
        low, high = settings[name]
        if low > high:
            yield f"{name}: needs (low, high) with low <= high, found ({low}, {high}): swap them"


@part("mask", "multi-block")
class MultiBlock:
    """Four target blocks and one large context block minus them, on images: I-JEPA (arXiv 2301.08243).

    scale, aspect: area and height over width of the targets; context: area of the context block, a square. compat='official' draws
    scale and aspect from one number and never reaches the last row and column of the grid.
    """

    def __init__(
        self,
        grid: Sequence[int],
        *,
        scale: tuple[Fraction, Fraction] = (0.15, 0.2),
        aspect: tuple[Positive, Positive] = (0.75, 1.5),
        context: tuple[Fraction, Fraction] = (0.85, 1.0),
        targets: Count = 4,
        min_keep: Annotated[int, Ge(0)] = 10,
        overlap: bool = False,
        compat: Compat = "correct",
    ) -> None:
        _need(grid, 2, "multi-block")
        self.grid, self.scale, self.aspect, self.context = tuple(grid), scale, aspect, context
        self.targets, self.min_keep, self.overlap, self.official = targets, min_keep, overlap, compat == "official"

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Ranges must rise."""
        yield from _rising(settings, "scale", "aspect", "context")

    def draw(self, ids: Sequence[int], seed: int, epoch: int, index: int) -> list[Mask]:
        """One context and several targets each."""
        found, sizes = [], None
        if self.official:
            sizes = self._sizes(_stream(True, seed, "size of blocks", epoch, ids[0], index))
        for one in ids:
            stream = _stream(self.official, seed, "mask", epoch, one, index)
            target, context = sizes or self._sizes(stream)
            found.append(
                masks.multi_block_2d(
                    stream, self.grid, target, context, targets=self.targets, min_keep=self.min_keep,
                    overlap=self.overlap, official=self.official,
                )
            )  # fmt: skip
        return found

    def _sizes(self, stream: Stream) -> tuple[tuple[int, int], tuple[int, int]]:
        target = masks.block_2d(stream, self.grid, self.scale, self.aspect, official=self.official)
        return target, masks.block_2d(stream, self.grid, self.context, (1.0, 1.0), official=self.official)


@part("mask", "multi-block-3d")
class MultiBlock3D:
    """Blocks that reach through the clip; their union is predicted from the rest: V-JEPA (arXiv 2404.08471).

    Short-range: 8 blocks of 0.15 of the picture; long-range: 2 of 0.7. temporal: share of the frames a block spans. temporal_keep:
    what follows this share of the clip is hidden too. compat='official' shares the size of the blocks over the batch.
    """

    def __init__(
        self,
        grid: Sequence[int],
        *,
        blocks: Count = 8,
        scale: tuple[Fraction, Fraction] = (0.15, 0.15),
        aspect: tuple[Positive, Positive] = (0.75, 1.5),
        temporal: tuple[Fraction, Fraction] = (1.0, 1.0),
        temporal_keep: Fraction = 1.0,
        compat: Compat = "correct",
    ) -> None:
        _need(grid, 3, "multi-block-3d")
        self.grid, self.blocks, self.scale, self.aspect = tuple(grid), blocks, scale, aspect
        self.temporal, self.temporal_keep, self.official = temporal, temporal_keep, compat == "official"

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Ranges must rise."""
        yield from _rising(settings, "scale", "aspect", "temporal")

    def draw(self, ids: Sequence[int], seed: int, epoch: int, index: int) -> list[Mask]:
        """One context and one target each."""
        found, size = [], None
        if self.official:
            shared = _stream(True, seed, "size of blocks", epoch, ids[0], index)
            size = masks.block_3d(shared, self.grid, self.temporal, self.scale, self.aspect)
        for one in ids:
            stream = _stream(self.official, seed, "mask", epoch, one, index)
            own = size or masks.block_3d(stream, self.grid, self.temporal, self.scale, self.aspect)
            found.append(
                masks.multi_block_3d(stream, self.grid, own, blocks=self.blocks, temporal_keep=self.temporal_keep)
            )
        return found


class _Drawn(ABC):
    """Kinds that need one stream a sample and nothing else."""

    def draw(self, ids: Sequence[int], seed: int, epoch: int, index: int) -> list[Mask]:
        """One context and one target each."""
        return [self._one(_stream(False, seed, "mask", epoch, one, index)) for one in ids]

    @abstractmethod
    def _one(self, stream: Stream) -> Mask: ...


def _check_count(grid: Sequence[int], ratio: float) -> None:
    total = math.prod(grid)
    seen = int(total * (1 - ratio))
    if not 1 <= seen < total:
        raise RecipeError(
            f"ratio={ratio} of {total} tokens leaves {seen} of them visible: some must be seen and some hidden"
        )


@part("mask", "random")
class RandomMask(_Drawn):
    """A share `ratio` of the tokens is hidden at random: MAE (arXiv 2111.06377, 0.75), with `unit` > 1 in squares: SimMIM (0.6).

    unit: side of a square in tokens (SimMIM: 32 pixels, 2 tokens of 16).
    """

    def __init__(self, grid: Sequence[int], *, ratio: Ratio = 0.75, unit: Count = 1) -> None:
        _check_count(grid, ratio)
        self.grid, self.ratio, self.unit = tuple(grid), ratio, unit

    def _one(self, stream: Stream) -> Mask:
        if self.unit == 1:
            return masks.random_tokens(stream, self.grid, self.ratio)
        return masks.random_units(stream, self.grid, self.ratio, self.unit)


@part("mask", "random-tube")
class RandomTube(_Drawn):
    """A share `ratio` of the places is hidden at random in every frame alike (VideoMAE, arXiv 2203.12602)."""

    def __init__(self, grid: Sequence[int], *, ratio: Ratio = 0.9) -> None:
        _need(grid, 3, "random-tube")
        _check_count(grid[1:], ratio)
        self.grid, self.ratio = tuple(grid), ratio

    def _one(self, stream: Stream) -> Mask:
        return masks.random_tube(stream, self.grid, self.ratio)


@part("mask", "causal")
class CausalMask(_Drawn):
    """The first `visible` tubelets are seen, the rest of the clip is predicted."""

    def __init__(self, grid: Sequence[int], *, visible: Count = 1) -> None:
        _need(grid, 3, "causal")
        if visible >= grid[0]:
            raise RecipeError(f"visible={visible} of {grid[0]} tubelets leaves nothing to predict: take fewer")
        self.grid, self.visible = tuple(grid), visible

    def _one(self, stream: Stream) -> Mask:  # noqa: ARG002  (nothing is drawn)
        return masks.causal(self.grid, self.visible)


@part("mask", "inverse-block")
class InverseBlock(_Drawn):
    """One square block stays visible, the share `ratio` around it is predicted: data2vec 2 (arXiv 2212.07525).

    The block is drawn for 1 - ratio + adjust of the image, then trimmed or filled up at random to exactly 1 - ratio.
    """

    def __init__(
        self, grid: Sequence[int], *, ratio: Ratio = 0.8, adjust: Annotated[float, Ge(0), Lt(1)] = 0.07
    ) -> None:
        _need(grid, 2, "inverse-block")
        _check_count(grid, ratio)
        self.grid, self.ratio, self.adjust = tuple(grid), ratio, adjust

    def _one(self, stream: Stream) -> Mask:
        return masks.inverse_block(stream, self.grid, self.ratio, self.adjust)
