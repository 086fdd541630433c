"""Inverse dynamics over two frames of tokens: a small transformer with a read-out token."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part

__all__ = ["InverseAttention"]

Positive = Annotated[int, Gt(0)]


@part("inverse", "attention")
class InverseAttention(nn.Module):
    """The tokens of both frames and a learned read-out token through pre-norm transformer blocks; the read-out says the action.

    places 0: states are vectors [n d], each one token. Every token carries which frame it is of and its place. LAWM (arXiv
    2601.05230) says what its inverse dynamics read and return and not how; AdaWorld (2503.18938) reads a prompt token as here.
    """

    def __init__(
        self,
        dim: int,
        actions: int,
        places: int = 0,
        *,
        width: Positive = 64,
        depth: Positive = 2,
        heads: Positive = 4,
    ) -> None:
        super().__init__()
        if actions < 1:
            raise RecipeError("inverse 'attention' recovers an action, and the data have none: leave the setting out")
        if width % heads:
            raise RecipeError(f"inverse 'attention': width {width} is not a multiple of its {heads} heads")
        self.places = places
        self.inward = nn.Linear(dim, width)
        self.frames = nn.Parameter(0.02 * torch.randn(2, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(max(1, places), width))
        self.prompt = nn.Parameter(0.02 * torch.randn(1, 1, width))
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, actions))

    def forward(self, before: Float[Tensor, "*n s"], after: Float[Tensor, "*n s"]) -> Float[Tensor, "*n a"]:
        """The action between the states, [n a] of [n d] or [n k d] (and the same with time: [n t ..])."""
        tail = 2 if self.places else 1
        lead = before.shape[: before.ndim - tail]
        a, b = (x.reshape(-1, max(1, self.places), x.shape[-1]) for x in (before, after))
        tokens = torch.cat(
            [self.inward(x) + self.positions + frame for x, frame in ((a, self.frames[0]), (b, self.frames[1]))], 1
        )
        read = self.blocks(torch.cat([self.prompt.expand(len(tokens), -1, -1), tokens], 1))[:, 0]
        return self.out(read).reshape(*lead, -1)  # type: ignore[no-any-return]
