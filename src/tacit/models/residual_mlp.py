"""A perceptron as the dynamics of a world model, and pixels as its states: for worlds whose pictures are small and simple."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.impala import image_size
from tacit.models.stages import demand_all_tokens, demand_layers

__all__ = ["Pixels", "ResidualMLP"]


@part("encoder", "pixels")
class Pixels(nn.Module):
    """The picture itself, flattened: nothing is learned, and prediction in its space is prediction of pixels (LAPO)."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        height, width = image_size("pixels", facts)
        self.dim = facts.channels * height * width

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n c*h*w]."""
        demand_all_tokens("pixels", keep)
        return Features(x.flatten(1))

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """The one layer there is."""
        demand_layers(which, self.layer_names())
        return [x.flatten(1) for _ in which]

    def layer_names(self) -> list[str]:
        """The pixels."""
        return ["pixels"]


@part("dynamics", "mlp")
class ResidualMLP(nn.Module):
    """z' = z + W relu(.. relu(V (z, a))): the change is predicted; it starts at zero, so that nothing moves at first."""

    context, lead = 1, 0

    def __init__(
        self, dim: int, actions: int, places: int = 1, *, hidden: tuple[Annotated[int, Gt(0)], ...] = (512, 512)
    ) -> None:
        super().__init__()
        if places != 1:
            raise RecipeError(f"dynamics 'mlp' moves one vector, the states have {places} places: set state=pooled")
        widths = (dim + actions, *hidden)
        layers = [module for into, out in pairwise(widths) for module in (nn.Linear(into, out), nn.ReLU())]
        last = nn.Linear(widths[-1], dim)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.model = nn.Sequential(*layers, last)

    def forward(self, states: Float[Tensor, "n t d"], actions: Float[Tensor, "n t a"]) -> Float[Tensor, "n t d"]:
        """What follows each of the states under the action beside it."""
        return states + self.model(torch.cat([states, actions], -1))  # type: ignore[no-any-return]
