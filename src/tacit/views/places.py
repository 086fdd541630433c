"""Where the cells of a view's feature map lie in the raw picture. Legend: n samples, k = rows x columns cells."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["places"]


def places(how: Mapping[str, Tensor], grid: tuple[int, int]) -> Float[Tensor, "n k 2"]:
    """(row, column) in pixels of the raw picture of the centre of each cell, from a view's recorded crop, mirror and rotation.

    The way of `views.Image` backwards: the view is turned about its centre, mirrored, and its box laid into the picture.
    """
    missing = [name for name in ("box", "flip", "angle") if name not in how]
    if missing:
        raise DataError(
            f"places of a view follow from its recorded parameters, and {', '.join(missing)} are missing: use views that record "
            "them, for example views=pair with view=image"
        )
    box = how["box"].float()
    y, x = (2 * (torch.arange(size, device=box.device) + 0.5) / size - 1 for size in grid)
    y, x = torch.meshgrid(y, x, indexing="ij")
    y, x = y.flatten(), x.flatten()
    turn = torch.deg2rad(how["angle"].to(box))[:, None]
    u = turn.cos() * x - turn.sin() * y
    v = turn.sin() * x + turn.cos() * y
    u = torch.where(how["flip"].to(box.device)[:, None], -u, u)
    row = box[:, :1] + (v + 1) / 2 * box[:, 2:3]
    column = box[:, 1:2] + (u + 1) / 2 * box[:, 3:]
    return torch.stack([row, column], dim=2)
