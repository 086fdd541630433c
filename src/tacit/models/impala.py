"""The encoder of the IMPALA agent: a residual network without norms that keeps places, for pictures in which a small thing moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.stages import demand_all_tokens, run

__all__ = ["Impala"]

PositiveInt = Annotated[int, Gt(0)]


@part("encoder", "impala")
class Impala(nn.Module):
    """Stacks of convolution, max-pool of stride 2 and residual blocks, then all places flattened into one linear map and a layer norm.

        stack:  x <- pool(conv(x));  x <- relu(x + conv(relu(conv(x))))  for each block
        z = norm(W flatten(relu(x)) + b)

    Unlike a mean over places the flattened map knows where a thing is; the picture's size is therefore fixed by the facts. 65 x 65
    pixels of 2 channels give 1,426,096 parameters. The norm is a module `norm` of its own, so that a predictor can share it.
    Source: arXiv 1802.01561, with the widths, the linear map and the norm of EB-JEPA (arXiv 2602.03604).
    """

    def __init__(
        self,
        facts: Facts,
        *,
        channels: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (16, 32, 32),
        blocks: Annotated[int, Ge(0)] = 2,
        width: PositiveInt = 512,
    ) -> None:
        super().__init__()
        height, across = image_size("impala", facts)
        stacks = []
        for into, out in zip((facts.channels, *channels[:-1]), channels, strict=True):
            stacks.append(_Stack(into, out, blocks))
            height, across = (height + 1) // 2, (across + 1) // 2
        self.stacks = nn.Sequential(*stacks)
        self.map = nn.Linear(channels[-1] * height * across, width)
        self.norm = nn.LayerNorm(width)
        self.dim = width

    def _flat(self, x: Tensor) -> Tensor:
        return self.norm(self.map(torch.relu(x).flatten(1)))  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n dim]; there are no tokens."""
        demand_all_tokens("impala", keep)
        return Features(self._flat(self.stacks(_laid(x))))

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Mean over places of the named stacks; 'norm' is the feature itself."""
        stages = dict(zip(self.layer_names(), (*self.stacks, self._flat), strict=True))
        return run(stages, _laid(x), which, lambda y: y.mean(dim=(2, 3)) if y.ndim == 4 else y)

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return [*(f"stacks.{i}" for i in range(len(self.stacks))), "norm"]


def _laid(x: Tensor) -> Tensor:
    """Channels last on a processor, whose pools and narrow convolutions take half the time then."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class _Stack(nn.Sequential):
    def __init__(self, into: int, out: int, blocks: int) -> None:
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        super().__init__(nn.Conv2d(into, out, 3, padding=1), pool, *(_Block(out) for _ in range(blocks)))


def image_size(kind: str, facts: Facts) -> tuple[int, int]:
    """Height and width of the pictures, refused where they are not known."""
    if facts.shape is None or len(facts.shape) < 2:
        raise RecipeError(
            f"{kind!r} needs pictures of one known size, and the samples have several: crop or resize them in the views"
        )
    return facts.shape[-2], facts.shape[-1]
