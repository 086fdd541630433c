"""Attentive pooling: learned queries that read the tokens of a frozen encoder. Legend: n samples, t tokens, m queries, d features.

A query is a parameter, the same for every sample, so the key map can be applied to it instead of to every token, and the
value map after the mean over tokens instead of before:

    softmax_t(q . (K y_t + b)) = softmax_t((K' q) . y_t)          sum_t a_t (V y_t + c) = V (sum_t a_t y_t) + c

which is the same function with d / (heads m) times less arithmetic a token, and lets many probes share one pass over the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.models.transformer import MLP, Block, initialise

__all__ = ["AttentivePooler", "AttentiveProbe"]


class _CrossAttention(nn.Module):
    """The maps of a cross-attention without an output map, under their published names."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)


class _CrossBlock(nn.Module):
    """q + attention(q, norm(x)), then q + mlp(norm(q)): the raw query asks, the tokens are normalised."""

    def __init__(self, dim: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.heads, self.eps = heads, eps
        self.norm1, self.xattn = nn.LayerNorm(dim, eps=eps), _CrossAttention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=eps), MLP(dim, hidden)

    def forward(
        self, query: Float[Tensor, "1 m d"], x: Float[Tensor, "n t d"], mask: Bool[Tensor, "n t"] | None
    ) -> Float[Tensor, "n m d"]:
        d = x.shape[-1]
        y = F.layer_norm(x, (d,), eps=self.eps)  # the norm's own scale and shift are folded into the maps below
        key, value = self.xattn.kv.weight.reshape(2, self.heads, d // self.heads, d)
        q = self.xattn.q(query[0]).reshape(-1, self.heads, d // self.heads)
        asked = torch.einsum("mhe,hed->mhd", q, key) * (self.norm1.weight * (d // self.heads) ** -0.5)
        scores = torch.einsum("mhd,ntd->nmht", asked.to(y.dtype), y)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        mean = torch.einsum("nmht,ntd->nmhd", scores.softmax(dim=-1).to(y.dtype), y)
        mean = mean * self.norm1.weight + self.norm1.bias
        read = torch.einsum("nmhd,hed->nmhe", mean, value.to(mean.dtype)).flatten(2) + self.xattn.kv.bias[d:]
        out = query + read
        return out + self.mlp(self.norm2(out))  # type: ignore[no-any-return]


class AttentivePooler(nn.Module):
    """Pools tokens [n t d] into [n m d]: `depth` - 1 self-attention blocks over all tokens, then one cross-attention of `queries`.

    depth 1 is V-JEPA's pooler (arXiv 2404.08471), depth 4 V-JEPA 2's (arXiv 2506.09985, 16 heads for every encoder). Tokens carry no
    positions of the pooler's own, so their order does not matter. State-dict names are the published ones.
    """

    def __init__(
        self, dim: int, heads: int = 16, depth: int = 1, *, queries: int = 1, mlp_ratio: float = 4.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        if dim % heads or depth < 1 or queries < 1:
            raise RecipeError(
                f"an attentive pooler splits its width among heads and has at least one block and one query, found width {dim}, "
                f"heads {heads}, depth {depth}, queries {queries}: choose heads that divide the width"
            )
        hidden = int(dim * mlp_ratio)
        self.dim = dim
        self.query_tokens = nn.Parameter(torch.empty(1, queries, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, eps=eps) for _ in range(depth - 1))
        self.cross_attention_block = _CrossBlock(dim, heads, hidden, eps)
        initialise(self, "rescaled")
        nn.init.trunc_normal_(self.query_tokens, std=0.02)
        with torch.no_grad():
            self.cross_attention_block.mlp.fc2.weight.div_((2 * depth) ** 0.5)

    def forward(
        self, tokens: Float[Tensor, "n t d"], mask: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n m d"]:
        """`mask` is True for tokens that count; tokens of several clips of one video may stand one after the other."""
        seen = None if mask is None else mask[:, None, None, :]
        for block in self.blocks:
            tokens = block(tokens, None, seen)
        return self.cross_attention_block(self.query_tokens, tokens, mask)  # type: ignore[no-any-return]


class AttentiveProbe(nn.Module):
    """An attentive pooler and a linear classifier: logits [n c], or one entry a task with one query each.

    classes: a number (the published `linear`), or task -> number (`verb_classifier`, `noun_classifier`, ... as published for
    EPIC-KITCHENS-100).
    """

    def __init__(
        self,
        dim: int,
        classes: int | Mapping[str, int],
        *,
        heads: int = 16,
        depth: int = 1,
        mlp_ratio: float = 4.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.tasks = () if isinstance(classes, int) else tuple(classes)
        self.pooler = AttentivePooler(dim, heads, depth, queries=len(self.tasks) or 1, mlp_ratio=mlp_ratio, eps=eps)
        if isinstance(classes, int):
            self.linear = nn.Linear(dim, classes)
        else:
            for task, count in classes.items():
                self.add_module(f"{task}_classifier", nn.Linear(dim, count))
        for child in self.children():
            if isinstance(child, nn.Linear):
                nn.init.trunc_normal_(child.weight, std=0.02)
                nn.init.zeros_(child.bias)

    def forward(
        self, tokens: Float[Tensor, "n t d"], mask: Bool[Tensor, "n t"] | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Logits of every class."""
        pooled = self.pooler(tokens, mask)
        if not self.tasks:
            return self.linear(pooled[:, 0])  # type: ignore[no-any-return]
        return {task: getattr(self, f"{task}_classifier")(pooled[:, i]) for i, task in enumerate(self.tasks)}
