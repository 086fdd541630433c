"""A small convolutional network for small images: what a laptop trains in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Gt, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.stages import demand_all_tokens, features_of_map, run

__all__ = ["ConvNet"]


@part("encoder", "convnet")
class ConvNet(nn.Module):
    """A chain of 3x3 convolution, batch norm, ReLU; every stage but the first halves height and width.

    For images of 8 to 64 pixels. `widths`: the channels of each stage; the last is `dim`. Pooled features are the mean over
    places. No paper: a yardstick for demonstrations and tests.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        widths: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (32, 64, 128, 256),
    ) -> None:
        super().__init__()
        stages = []
        for i, (into, out) in enumerate(zip((facts.channels, *widths[:-1]), widths, strict=True)):
            convolution = nn.Conv2d(into, out, 3, stride=1 if i == 0 else 2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            stages.append(nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)))
        self.stages = nn.Sequential(*stages)
        self.dim = widths[-1]

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n dim], and the places of the last map as tokens."""
        demand_all_tokens("convnet", keep)
        return features_of_map(self.stages(x))

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Mean over places of the named stages; the last is the pooled feature itself."""
        return run(dict(zip(self.layer_names(), self.stages, strict=True)), x, which)

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return [f"stages.{i}" for i in range(len(self.stages))]
