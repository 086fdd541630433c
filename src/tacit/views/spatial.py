"""Spatial views of clips for evaluation: several squares along the longer side, as published protocols take them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tacit.core.errors import DataError

__all__ = ["spatial_views"]

_WHOLE = 224 / 256  # the share of the short side that a single central square covers


def spatial_views(clip: Tensor, size: int, count: int) -> Float[Tensor, "v c f s s"]:
    """Squares of `size` of one clip [c f h w], floats in [0, 1].

    3: the short side becomes `size`, squares at both ends and in the middle of the long side, (long - short) // 2 apart. 1: the short side
    becomes int(size 256 / 224), and the centre is cut out. Resizing is bilinear without antialiasing, as the published probes saw it.
    """
    if count not in (1, 3):
        raise DataError(f"clips are seen in 1 or 3 spatial views, found {count}")
    h, w = clip.shape[-2:]
    short = size if count == 3 else int(size / _WHOLE + 1e-6)
    height, width = (short, int(w * short / h)) if h <= w else (int(h * short / w), short)
    x = clip.float() / 255 if clip.dtype == torch.uint8 else clip.float()
    if (h, w) != (height, width):
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    if count == 1:
        top, left = (height - size) // 2, (width - size) // 2
        return x[None, :, :, top : top + size, left : left + size]
    move = (max(height, width) - size) // 2
    places = [(i * move, 0) if height > width else (0, i * move) for i in range(3)]
    return torch.stack([x[:, :, top : top + size, left : left + size] for top, left in places])
