"""Inverse dynamics: which action led from one state to the next."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part

__all__ = ["InverseMLP"]


@part("inverse", "mlp")
class InverseMLP(nn.Module):
    """Both states side by side through linear maps with ReLU between them: 1024-256-256-2 for Two Rooms in EB-JEPA (arXiv 2602.03604)."""

    def __init__(self, dim: int, actions: int, *, hidden: tuple[Annotated[int, Gt(0)], ...] = (256, 256)) -> None:
        super().__init__()
        if actions < 1:
            raise RecipeError("inverse 'mlp' recovers an action, and the data have none: leave the setting out")
        widths = (2 * dim, *hidden)
        layers = [module for into, out in pairwise(widths) for module in (nn.Linear(into, out), nn.ReLU())]
        self.model = nn.Sequential(*layers, nn.Linear(widths[-1], actions))

    def forward(self, before: Float[Tensor, "*n d"], after: Float[Tensor, "*n d"]) -> Float[Tensor, "*n a"]:
        """The action between the states."""
        return self.model(torch.cat([before, after], -1))  # type: ignore[no-any-return]
