"""A transformer over the places of a few frames as the dynamics of a world model: a frame sees itself and those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part

__all__ = ["CausalTransformer"]

PositiveInt = Annotated[int, Gt(0)]
Past = Sequence[tuple[Tensor, Tensor]]  # keys and values [p heads tokens width] of every block


@part("dynamics", "causal-transformer")
class CausalTransformer(nn.Module):
    """Tokens of up to `frames` frames, each with its action, through pre-norm blocks with a mask that is causal over frames.

    condition 'concat': the action, mapped to `action_width` numbers, is laid beside the features of every token (DINO-WM); its channels
    are dropped from what is predicted. 'adaln': every block shifts, scales and gates by a linear map of SiLU(action) (LeWM, JEPA-WMs),
    which starts at zero. Positions are learned, one for each place of each frame.

    Source: DINO-WM (arXiv 2411.04983): depth 6, 16 heads of 64, hidden 2048, dropout 0.1, 3 frames; 20,122,600 parameters at a width of 404
    with 196 places. Attention maps to heads * head_width features, whatever the width.
    """

    lead = 0

    def __init__(
        self,
        dim: int,
        actions: int,
        places: int = 1,
        *,
        frames: PositiveInt = 3,
        depth: PositiveInt = 6,
        heads: PositiveInt = 16,
        head_width: PositiveInt = 64,
        hidden: PositiveInt = 2048,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        condition: Literal["concat", "adaln"] = "concat",
        action_width: Annotated[int, Ge(0)] = 10,
    ) -> None:
        super().__init__()
        extra = action_width if condition == "concat" and actions else 0
        width = dim + extra
        if actions and not action_width:
            raise RecipeError(
                "dynamics 'causal-transformer': action_width=0 hides the actions that the data have: set it to 10"
            )
        self.context, self.dim, self.places, self.condition = frames, dim, places, condition
        self.action = nn.Linear(actions, action_width) if actions else None
        self.positions = nn.Parameter(torch.randn(frames, places, width))
        modulated = action_width if condition == "adaln" and actions else 0
        self.blocks = nn.ModuleList(_Block(width, heads, head_width, hidden, dropout, modulated) for _ in range(depth))
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(dropout)
        whole = torch.arange(frames).repeat_interleave(places)
        self.seen: Tensor
        self.register_buffer("seen", whole[:, None] >= whole[None], persistent=False)

    def forward(self, states: Float[Tensor, "n t *s"], actions: Float[Tensor, "n t a"]) -> Float[Tensor, "n t *s"]:
        """What follows each of the frames under the action beside it, as far as the frames up to it tell."""
        n, t = states.shape[:2]
        if t > self.context:
            raise DataError(
                f"dynamics 'causal-transformer' sees {self.context} frames, found {t}: shorten the clips to {self.context + 1} frames "
                "(data.frames), or raise system.predictor.frames"
            )
        x, by = self._tokens(states.reshape(n, t, self.places, self.dim), actions, 0)
        mask = self.seen[: x.shape[1], : x.shape[1]]
        for block in self.blocks:
            x = block(x, mask, by)
        return self.norm(x)[..., : self.dim].reshape(states.shape)

    def _tokens(self, x: Tensor, actions: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
        """Tokens [n t*k w] of states [n t k d] at positions from `first` on, and what modulates each of them."""
        given = None if self.action is None else self.action(actions)
        if given is not None and self.condition == "concat":
            x = torch.cat([x, given.unsqueeze(2).expand(-1, -1, self.places, -1)], -1)
        x = self.drop((x + self.positions[first : first + x.shape[1]]).flatten(1, 2))
        return x, given.repeat_interleave(self.places, 1) if given is not None and self.condition == "adaln" else None

    def extend(
        self, states: Float[Tensor, "s t *s"], actions: Float[Tensor, "s t a"], past: Past | None = None
    ) -> tuple[Float[Tensor, "s t *s"], Past]:
        """What follows each of `states` after the frames that left `past`, and what these and those leave for the frames to come.

        Equals `forward` of all of them side by side: no frame sees later ones, so that keys and values of a frame are computed once, and
        once for all s / p samples of p problems where the past is that of the problems.
        """
        s, t = states.shape[:2]
        c = past[0][0].shape[2] // self.places if past else 0
        if c + t > self.context:
            raise DataError(
                f"dynamics 'causal-transformer' sees {self.context} frames, found {c} + {t}: shorten the past"
            )
        x, by = self._tokens(states.reshape(s, t, self.places, self.dim), actions, c)
        whole = (c + t) * self.places
        mask, left = self.seen[c * self.places : whole, :whole], []
        block: Any
        for i, block in enumerate(self.blocks):
            x, own = block.extend(x, mask, by, past[i] if past else None)
            left.append(own)
        return self.norm(x)[..., : self.dim].reshape(states.shape), left


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float, modulated: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=not modulated) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(modulated, 6 * width)) if modulated else None
        if self.modulate is not None:
            for parameter in self.modulate.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, mask: Tensor, by: Tensor | None) -> Tensor:
        return self.extend(x, mask, by, None)[0]

    def extend(
        self, x: Tensor, mask: Tensor, by: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The same after tokens whose keys and values [p heads m width] are given, and those of all tokens."""
        if self.modulate is None or by is None:
            seen, left = self._attend(self.norm1(x), mask, past)
            x = x + seen
            return x + self.mlp(self.norm2(x)), left
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(by).chunk(6, -1)
        seen, left = self._attend(self.norm1(x) * (1 + scale1) + shift1, mask, past)
        x = x + gate1 * seen
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2), left

    def _attend(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = (torch.cat([_for_each(n, a), b], 2) for a, b in zip(past, (k, v), strict=True))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(n, t, -1)), (k, v)


def _for_each(rows: int, x: Tensor) -> Tensor:
    """x [p ..] again for each of a problem's rows: [rows ..]."""
    return x.unsqueeze(1).expand(-1, rows // len(x), *x.shape[1:]).flatten(0, 1)
