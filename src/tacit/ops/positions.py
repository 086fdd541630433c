"""Positions of tokens on a grid, in raster order (frame, row, column). Every function is pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["Compat", "resample_grid", "resize_grid", "rope", "rotate", "sincos_2d", "sincos_grid"]

Compat = Literal["correct", "official"]


def sincos_2d(
    height: int, width: int, d: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "k d"]:
    """Fixed sine-cosine positions of a height x width grid of tokens in row-major order (arXiv 2111.06377, appendix A.1).

    d must be a multiple of 4: [sin row, cos row, sin column, cos column], each over d/4 wavelengths from 2 pi to 20000 pi
    tokens. Coordinates count tokens, so a larger grid continues the smaller one instead of stretching it.
    """
    return sincos_grid((height, width), d, device=device, dtype=dtype)


def _places(grid: Sequence[int], device: torch.device | None = None) -> Float[Tensor, "k a"]:
    """The coordinates of every token, float64."""
    axes = [torch.arange(size, dtype=torch.float64, device=device) for size in grid]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], dim=1)


def _waves(at: Float[Tensor, " k"], width: int) -> Float[Tensor, "k w"]:
    """[sin, cos] of one coordinate over width/2 wavelengths."""
    rates = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64, device=at.device) / (width // 2))
    angles = at[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_grid(
    grid: Sequence[int],
    d: int,
    compat: Compat = "correct",
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "k d"]:
    """Fixed sine-cosine positions of a grid (h, w) or (t, h, w), computed in float64 and rounded last.

    correct: [row, column] of d/2 each, or [frame, row, column] of sizes that fill d exactly (the first axes get what does not divide).
    official: as the published weights have it. 2-D (I-JEPA): [column, row]. 3-D (V-JEPA): three parts of 2 ceil(d/6), cut to d
    columns, so that the column axis loses its last channels where 6 does not divide d.
    """
    multiple = 4 if len(grid) == 2 else 2
    if d % multiple:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of {multiple}, found {d}")
    at = _places(grid, device)
    axes = list(range(len(grid)))
    if compat == "official" and len(grid) == 2:
        axes, sizes = axes[::-1], [d // 2] * 2
    elif compat == "official":
        sizes = [2 * -(-d // 6)] * 3
    else:
        pairs, parts = d // 2, len(grid)
        sizes = [2 * (pairs // parts + (axis < pairs % parts)) for axis in range(parts)]
    return torch.cat([_waves(at[:, axis], size) for axis, size in zip(axes, sizes, strict=True)], dim=1)[:, :d].to(
        dtype
    )


def rope(
    grid: Sequence[int],
    e: int,
    compat: Compat = "correct",
    *,
    scale: Sequence[float] | None = None,
    device: torch.device | None = None,
) -> Float[Tensor, "k 2 e"]:
    """Rotary positions of a grid (h, w) or (t, h, w) for heads of width e: cosines and signed sines, for `rotate`.

    `scale`: what a step along each axis counts, 1 by default.

    Each axis turns s = 2 (e // axes // 2) channels, in the order of the grid; the channels that remain pass unchanged. Channel pair
    (2i, 2i + 1) of an axis turns by p w_i with w_i = 10000^(-2i/s): scores depend on differences of positions alone.
    official (V-JEPA 2): the angles are tiled instead of repeated, channel c turns by p w_(c mod s/2), so the two members of a pair turn
    by different angles. That is no rotation (norms change by up to a fifth), and all released weights depend on it.
    """
    s = 2 * (e // len(grid) // 2)
    rates = 1.0 / 10000 ** (torch.arange(s // 2, dtype=torch.float32, device=device) / (s / 2.0))
    each = rates.repeat(2) if compat == "official" else rates.repeat_interleave(2)
    places = _places(grid, device).float()
    if scale is not None:
        places = places * torch.tensor(scale, device=device)
    angles = (places[:, :, None] * each).flatten(1)  # in float32, as the published code has them
    angles = F.pad(angles, (0, e - angles.shape[1]))
    sign = torch.tensor([-1.0, 1.0], device=device).repeat(-(-e // 2))[:e]
    return torch.stack([angles.cos(), angles.sin() * sign], dim=1)


def rotate(x: Float[Tensor, "... e"], table: Float[Tensor, "... 2 e"]) -> Float[Tensor, "... e"]:
    """x cos + J x sin, where J turns each pair (a, b) of channels into (-b, a); `table` is broadcast over the leading axes."""
    cos, sin = table.to(x.dtype).unbind(-2)
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cos + swapped * sin


def resize_grid(positions: Float[Tensor, "k d"], grid: tuple[int, int], new: tuple[int, int]) -> Float[Tensor, "k2 d"]:
    """Learned positions of one grid, resampled to another by bicubic interpolation with antialiasing."""
    if grid == new:
        return positions
    image = positions.T.reshape(1, positions.shape[1], *grid)
    return F.interpolate(image.float(), size=new, mode="bicubic", antialias=True)[0].flatten(1).T.to(positions.dtype)


def resample_grid(positions: Float[Tensor, "k d"], grid: Sequence[int], new: Sequence[int]) -> Float[Tensor, "k2 d"]:
    """Fixed positions of one grid, resampled to another so that both span the same range: trilinear for clips, as V-JEPA does it, and
    bicubic for images, without antialiasing."""
    table = positions.T.reshape(1, positions.shape[1], *grid)
    mode = "trilinear" if len(grid) == 3 else "bicubic"
    return F.interpolate(table, size=tuple(new), mode=mode, align_corners=False)[0].flatten(1).T
