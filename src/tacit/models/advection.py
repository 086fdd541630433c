"""Pictures that are moved: the dynamics and the inverse dynamics of a camera that slides over a scene. States are pixels.

Legend: n pictures of c channels and s x s pixels, as states [n c s s]; r reach in pixels; k = (2 r + 1)^2 shifts; a action width.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part

__all__ = ["KernelDynamics", "ShiftInverse"]

Positive = Annotated[int, Gt(0)]


def _side(what: str, dim: int, channels: int) -> int:
    """Of square pictures of `channels` channels that have `dim` numbers."""
    side = math.isqrt(dim // channels)
    if channels * side * side != dim:
        raise RecipeError(
            f"{what} moves square pictures of {channels} channels, the states have {dim} numbers: take the encoder 'pixels' on square "
            "pictures, and set channels"
        )
    return side


@part("dynamics", "kernel")
class KernelDynamics(nn.Module):
    """The next picture is this one filtered by kernels that the action decides, one a channel: z'_c = softmax(net(a)_c) * z_c.

    A kernel of one entry 1 is a shift, a soft one moves by fractions of a pixel. Edges are repeated: what comes into sight is not
    imagined. A channel is a layer that moves as one, so that an action can only say how far, never where to. reach: the longest shift in
    pixels. Begins as the identity. Source: CDNA (arXiv 1605.07157), whose masks are the channels here.
    """

    context, lead = 1, 0

    def __init__(
        self,
        dim: int,
        actions: int,
        places: int = 1,
        *,
        channels: Positive = 1,
        reach: Positive = 3,
        hidden: tuple[Positive, ...] = (64, 64),
    ) -> None:
        super().__init__()
        if places != 1 or actions < 1:
            raise RecipeError(
                f"dynamics 'kernel' moves one picture under an action, found {places} places and actions of {actions} numbers"
            )
        self.channels, self.reach, self.side = channels, reach, _side("dynamics 'kernel'", dim, channels)
        widths = (actions, *hidden)
        layers = [
            module
            for into, out in zip(widths[:-1], hidden, strict=True)
            for module in (nn.Linear(into, out), nn.ReLU())
        ]
        last = nn.Linear(widths[-1], channels * (2 * reach + 1) ** 2)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
            last.bias.view(channels, -1)[:, (2 * reach + 1) ** 2 // 2] = 3.0  # the middle: nothing moves
        self.net = nn.Sequential(*layers, last)

    def forward(self, states: Float[Tensor, "n t d"], actions: Float[Tensor, "n t a"]) -> Float[Tensor, "n t d"]:
        """What follows each of the states under the action beside it."""
        kernels = torch.softmax(self.net(actions).flatten(0, 1).unflatten(1, (self.channels, -1)), -1)  # [m c k]
        pictures = states.reshape(-1, self.channels, self.side, self.side)
        spread = F.pad(pictures, (self.reach,) * 4, mode="replicate")
        shifted = F.unfold(spread, 2 * self.reach + 1)  # [m c*k s*s]
        shifted = shifted.unflatten(1, (self.channels, -1))
        return torch.einsum("mck,mckp->mcp", kernels, shifted).reshape(states.shape)


@part("inverse", "shift")
class ShiftInverse(nn.Module):
    """Which shift lays the second picture on the first: their difference at every shift up to `reach`, then a perceptron.

    For each channel and shift the mean squared difference over the middle, where both pictures overlap, standardised over the shifts of
    a pair: a perceptron on raw pixels has to learn that comparison first.
    """

    def __init__(
        self,
        dim: int,
        actions: int,
        *,
        channels: Positive = 1,
        reach: Positive = 3,
        hidden: tuple[Positive, ...] = (128, 128),
    ) -> None:
        super().__init__()
        self.channels, self.reach, self.side = channels, reach, _side("inverse 'shift'", dim, channels)
        if self.side <= 2 * reach:
            raise RecipeError(
                f"inverse 'shift': pictures of {self.side} pixels have no middle that all shifts up to {reach} see: lower reach"
            )
        widths = (channels * (2 * reach + 1) ** 2, *hidden)
        layers = [
            module
            for into, out in zip(widths[:-1], hidden, strict=True)
            for module in (nn.Linear(into, out), nn.ReLU())
        ]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], actions))

    def forward(self, before: Float[Tensor, "*n d"], after: Float[Tensor, "*n d"]) -> Float[Tensor, "*n a"]:
        """The action between the states."""
        r, c, s = self.reach, self.channels, self.side
        a, b = (x.reshape(-1, c, s, s) for x in (before, after))
        middle = b[:, :, r : s - r, r : s - r]
        gaps = [
            (a[:, :, y : y + s - 2 * r, x : x + s - 2 * r] - middle).square().mean((2, 3))
            for y in range(2 * r + 1)
            for x in range(2 * r + 1)
        ]
        seen = torch.stack(gaps, 2)  # [m c k]
        seen = (seen - seen.mean(2, keepdim=True)) / seen.std(2, keepdim=True).clamp_min(1e-6)
        return self.net(seen.flatten(1)).reshape(*before.shape[:-1], -1)  # type: ignore[no-any-return]
