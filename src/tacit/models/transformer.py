"""The pre-norm transformer block that every network of patches here is made of. Legend: n samples, t tokens, d features."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import stochastic_depth

from tacit.models.packing import Segments, packed_attention
from tacit.ops.positions import rotate

__all__ = ["MLP", "Attention", "Block", "Init", "SwiGLU", "initialise", "run_blocks"]

Init = Literal["xavier", "normal", "rescaled"]


class Attention(nn.Module):
    """Multi-head self-attention with one map for queries, keys and values (rows in that order, head by head)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "n t d"], rotary: Tensor | None = None, mask: Tensor | Segments | None = None
    ) -> Float[Tensor, "n t d"]:
        """`rotary` turns queries and keys (`ops.positions.rope`, [t 2 e] or [n t 2 e]); `mask` is True where a key may be seen, or says
        which tokens of one packed row belong together."""
        n, t, d = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads)
        if rotary is not None:
            turned = rotate(qkv[:, :, :2], rotary[..., None, None, :, :])
            q, k, v = (*turned.permute(2, 0, 3, 1, 4), qkv[:, :, 2].transpose(1, 2))
        else:
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if isinstance(mask, Segments):
            mixed = packed_attention(q, k, v, mask)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(mixed.transpose(1, 2).reshape(n, t, d))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Token by token."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """fc3(silu(fc1 x) * fc2 x), the gated form (arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(width, hidden)
        self.fc3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Token by token."""
        return self.fc3(F.silu(self.fc1(x)) * self.fc2(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). `drop_path` is the chance that a sample skips a branch in training."""

    def __init__(
        self, width: int, heads: int, hidden: int, drop_path: float = 0.0, *, eps: float = 1e-6, gated: bool = False
    ) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=eps), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp: nn.Module = SwiGLU(width, hidden) if gated else MLP(width, hidden)
        self.drop_path = drop_path

    def forward(self, x: Tensor, rotary: Tensor | None = None, mask: Tensor | Segments | None = None) -> Tensor:
        """As `parts`, without the second result."""
        return self.parts(x, rotary, mask)[0]

    def parts(
        self, x: Tensor, rotary: Tensor | None = None, mask: Tensor | Segments | None = None
    ) -> tuple[Tensor, Tensor]:
        """The output, and the output of the second branch alone, before it is added (what data2vec's teacher averages)."""
        x = x + self._kept(self.attn(self.norm1(x), rotary, mask), mask)
        branch = self.mlp(self.norm2(x))
        return x + self._kept(branch, mask), branch

    def _kept(self, branch: Tensor, mask: Tensor | Segments | None) -> Tensor:
        """The branch, skipped by some samples in training."""
        if not isinstance(mask, Segments) or not self.drop_path or not self.training:
            return stochastic_depth(branch, self.drop_path, "row", self.training)
        each = stochastic_depth(branch.new_ones(len(mask.lengths), 1), self.drop_path, "row", True)
        return branch * each.repeat_interleave(torch.tensor(mask.lengths, device=each.device), dim=0)[None]


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    rotary: Tensor | None,
    mask: Tensor | Segments | None,
    save_memory: bool,
) -> Tensor:
    """The blocks one after the other; `save_memory` keeps only the inputs of blocks and computes the rest again backwards.

    With Segments of a padded batch as the mask x [n t d] is packed: fillings are not computed and come back as zeros.
    """
    if isinstance(mask, Segments) and mask.real is not None:
        if rotary is not None:
            rotary = mask.pack(rotary.expand(len(x), *rotary.shape[-3:]))
        return mask.unpack(_run(blocks, mask.pack(x), rotary, mask, save_memory))
    return _run(blocks, x, rotary, mask, save_memory)


def _run(
    blocks: Iterable[nn.Module],
    x: Tensor,
    rotary: Tensor | None,
    mask: Tensor | Segments | None,
    save_memory: bool,
) -> Tensor:
    for block in blocks:
        if save_memory and torch.is_grad_enabled():
            x = checkpoint(block, x, rotary, mask, use_reentrant=False)
        else:
            x = block(x, rotary, mask)
    return x


@torch.no_grad()
def initialise(module: nn.Module, init: Init) -> None:
    """First weights of all linear and patch maps in `module`, biases 0.

    xavier: uniform (MAE, arXiv 2111.06377). normal: standard deviation 0.02, cut at 2 (I-JEPA and V-JEPA as trained). rescaled: the
    same, and the last map of each branch of block l = 1, 2, ... divided by sqrt(2 l) (V-JEPA 2).
    """
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d | nn.Conv3d):
            if init == "xavier":
                nn.init.xavier_uniform_(child.weight.flatten(1))  # a patch map as the linear map that it is
            else:
                nn.init.trunc_normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
    if init == "rescaled":
        blocks = [child for child in module.modules() if isinstance(child, Block)]
        for layer, block in enumerate(blocks, start=1):
            last = block.mlp.fc3 if isinstance(block.mlp, SwiGLU) else block.mlp.fc2
            for linear in (block.attn.proj, last):
                linear.weight.div_(math.sqrt(2 * layer))  # type: ignore[operator, union-attr]
