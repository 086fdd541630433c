"""A perceptron as the dynamics of a world model, and pixels as its states: for worlds whose pictures are small and simple."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
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
    """The picture itself, flattened: nothing is learned, and prediction in its space is prediction of pixels (LAPO).

    blur: deviation in pixels of a Gaussian that smooths the picture first, so that the distance between two states tells how far apart
    small things are before they touch. patch: side of square patches that are tokens of their own, for states of tokens (0: none).
    """

    def __init__(self, facts: Facts, *, blur: Annotated[float, Ge(0)] = 0.0, patch: Annotated[int, Ge(0)] = 0) -> None:
        super().__init__()
        height, width = image_size("pixels", facts)
        if patch and (height % patch or width % patch):
            raise RecipeError(f"encoder 'pixels': pictures of {height} x {width} pixels have no patches of {patch}")
        self.blur, self.patch = blur, patch
        self.dim = facts.channels * (patch * patch if patch else height * width)

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n c*h*w]; with patches the mean of the tokens [n k c*p*p]."""
        demand_all_tokens("pixels", keep)
        x = _smooth(x, self.blur)
        if not self.patch:
            return Features(x.flatten(1))
        p = self.patch
        patches = x.unfold(2, p, p).unfold(3, p, p)  # [n c h/p w/p p p]
        tokens = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        return Features(tokens.mean(1), tokens, (patches.shape[2], patches.shape[3]))

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """The one layer there is."""
        demand_layers(which, self.layer_names())
        return [self(x).pooled for _ in which]

    def layer_names(self) -> list[str]:
        """The pixels."""
        return ["pixels"]


def _smooth(x: Tensor, std: float) -> Tensor:
    """[n c h w] under a Gaussian cut at three deviations, edges repeated; scaled so that a single bright pixel keeps its energy."""
    if not std:
        return x
    reach = min(math.ceil(3 * std), min(x.shape[-2:]) - 1)
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    bell = (-at.square() / (2 * std * std)).exp()
    bell = bell / bell.square().sum().sqrt()
    flat = F.pad(x.flatten(0, 1).unsqueeze(1), (reach,) * 4, mode="replicate")
    flat = F.conv2d(F.conv2d(flat, bell.view(1, 1, -1, 1)), bell.view(1, 1, 1, -1))
    return flat.view(x.shape)


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
