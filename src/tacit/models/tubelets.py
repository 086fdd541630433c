"""Pixels in the place of an encoder: what an attentive probe reads where nothing has been learned."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.values import Facts, Features
from tacit.ops.positions import sincos_grid

__all__ = ["Tubelets"]

_PLACE = 32  # numbers that tell a token's place


class Tubelets(nn.Module):
    """The tokens of a clip [n c f h w] are its normalised tubelets as they are, each beside the sines and cosines of its place.

    patch and tubelet are those of the encoder that it stands beside. Tokens of a probe have no order, so that without their places pixels
    could not tell where anything is; an encoder's tokens tell it, if it learned to. Nothing here has weights.
    """

    def __init__(self, facts: Facts, *, patch: int, tubelet: int) -> None:
        super().__init__()
        self.patch, self.tubelet = patch, tubelet
        self.dim = facts.channels * tubelet * patch**2 + _PLACE
        self.register_buffer("sides", torch.tensor([tubelet, patch, patch]))  # so that caches tell one from another

    def forward(self, x: Float[Tensor, "n c f h w"]) -> Features:
        """Tokens [n N d] by (frames, height, width), pooled [n d] their mean."""
        sides = (self.tubelet, self.patch, self.patch)
        grid = tuple(size // side for size, side in zip(x.shape[2:], sides, strict=True))
        split = [part for count, side in zip(grid, sides, strict=True) for part in (count, side)]
        pixels = x.reshape(*x.shape[:2], *split).permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(len(x), -1, self.dim - _PLACE)
        place = sincos_grid(grid, _PLACE, device=x.device).to(pixels.dtype)
        tokens = torch.cat([pixels, place.expand(len(x), -1, -1)], dim=2)
        return Features(tokens.mean(dim=1), tokens, grid)

    def layer_tokens(self, x: Tensor, which: Any) -> list[Tensor]:  # noqa: ARG002  (there are no layers)
        """What multi-layer probes read: the same tokens once."""
        return [self(x).tokens]
