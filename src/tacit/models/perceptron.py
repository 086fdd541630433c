"""An encoder without convolutions for simple pictures: what a laptop trains at ten thousand frames a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.impala import image_size
from tacit.models.stages import demand_all_tokens, demand_layers

__all__ = ["Perceptron"]

PositiveInt = Annotated[int, Gt(0)]


@part("encoder", "perceptron")
class Perceptron(nn.Module):
    """All pixels through linear maps with ReLU between them and a layer norm at the end; knows where things are.

    hidden: the widths between. The norm is a module `norm` of its own, so that a predictor can share it. No paper: on pictures of 32 x 32
    pixels 40 times as fast on a processor as 'impala' on 65 x 65.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        hidden: tuple[PositiveInt, ...] = (512, 512),
        width: PositiveInt = 128,
    ) -> None:
        super().__init__()
        height, across = image_size("perceptron", facts)
        sizes = (facts.channels * height * across, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(into, out) for into, out in zip(sizes[:-1], hidden, strict=True))
        self.map = nn.Linear(sizes[-1], width)
        self.norm = nn.LayerNorm(width)
        self.dim = width

    def _stages(self, x: Tensor) -> list[Tensor]:
        x = x.flatten(1)
        found = []
        for layer in self.hidden:
            x = F.relu(layer(x))
            found.append(x)
        return [*found, self.norm(self.map(x))]

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n dim]; there are no tokens."""
        demand_all_tokens("perceptron", keep)
        return Features(self._stages(x)[-1])

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Outputs of the named layers; 'norm' is the feature itself."""
        demand_layers(which, self.layer_names())
        found = dict(zip(self.layer_names(), self._stages(x), strict=True))
        return [found[name] for name in which]

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return [*(f"hidden.{i}" for i in range(len(self.hidden))), "norm"]
