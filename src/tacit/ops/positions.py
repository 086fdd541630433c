"""Positions of tokens on a grid. Every function is pure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["resize_grid", "sincos_2d"]


def sincos_2d(
    height: int, width: int, d: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "k d"]:
    """Fixed sine-cosine positions of a height x width grid of tokens in row-major order (arXiv 2111.06377, appendix A.1).

    d must be a multiple of 4: [sin row, cos row, sin column, cos column], each over d/4 wavelengths from 2 pi to 20000 pi
    tokens. Coordinates count tokens, so a larger grid continues the smaller one instead of stretching it.
    """
    if d % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, found {d}")
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    rates = 10000.0 ** -(torch.arange(d // 4, device=device, dtype=exact) / (d // 4))
    rows = torch.arange(height, device=device, dtype=exact)[:, None] * rates
    columns = torch.arange(width, device=device, dtype=exact)[:, None] * rates
    along_rows = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(height, width, d // 2)
    along_columns = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(height, width, d // 2)
    return torch.cat([along_rows, along_columns], dim=2).reshape(height * width, d).to(dtype)


def resize_grid(positions: Float[Tensor, "k d"], grid: tuple[int, int], new: tuple[int, int]) -> Float[Tensor, "k2 d"]:
    """Learned positions of one grid, resampled to another by bicubic interpolation with antialiasing."""
    if grid == new:
        return positions
    image = positions.T.reshape(1, positions.shape[1], *grid)
    return F.interpolate(image.float(), size=new, mode="bicubic", antialias=True)[0].flatten(1).T.to(positions.dtype)
