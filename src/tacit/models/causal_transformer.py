"""A transformer over the places of a few frames as the dynamics of a world model: a frame sees itself and those before it."""

from __future__ import annotations

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
        self,
        past: Float[Tensor, "p c *s"],
        done: Float[Tensor, "p c a"],
        states: Float[Tensor, "s t *s"],
        actions: Float[Tensor, "s t a"],
    ) -> Float[Tensor, "s t *s"]:
        """What follows each of `states` after the frames `past` with what was done in them, shared by the s / p samples of each problem.

        Equals `forward` of both side by side, with past repeated for every sample; no frame sees later ones, so that the keys and
        values of the past are computed once a problem.
        """
        (p, c), (s, t) = past.shape[:2], states.shape[:2]
        if c + t > self.context:
            raise DataError(
                f"dynamics 'causal-transformer' sees {self.context} frames, found {c} + {t}: shorten the past"
            )
        x, by = self._tokens(states.reshape(s, t, self.places, self.dim), actions, c)
        before, by_before = self._tokens(past.reshape(p, c, self.places, self.dim), done, 0)
        whole = (c + t) * self.places
        mask, inner = self.seen[c * self.places : whole, :whole], self.seen[: c * self.places, : c * self.places]
        block: Any
        for block in self.blocks:
            before, held = block.remember(before, inner, by_before)
            x = block(x, mask, by, tuple(one.repeat_interleave(s // p, 0) for one in held))
        return self.norm(x)[..., : self.dim].reshape(states.shape)


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

    def forward(self, x: Tensor, mask: Tensor, by: Tensor | None, held: tuple[Tensor, ...] | None = None) -> Tensor:
        """held: keys and values [n heads m width] of tokens before these."""
        return self._through(x, mask, by, held)[0]

    def remember(self, x: Tensor, mask: Tensor, by: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and the keys and values of its tokens."""
        return self._through(x, mask, by, None)

    def _through(
        self, x: Tensor, mask: Tensor, by: Tensor | None, held: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self.modulate is None or by is None:
            seen, own = self._attend(self.norm1(x), mask, held)
            x = x + seen
            return x + self.mlp(self.norm2(x)), own
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(by).chunk(6, -1)
        seen, own = self._attend(self.norm1(x) * (1 + scale1) + shift1, mask, held)
        x = x + gate1 * seen
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2), own

    def _attend(self, x: Tensor, mask: Tensor, held: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        own = (k, v)
        if held is not None:
            k, v = torch.cat([held[0], k], 2), torch.cat([held[1], v], 2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(n, t, -1)), own
