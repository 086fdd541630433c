"""Similarity of embeddings. Legend: n samples of this rank, m of all ranks, d features. Every function is pure."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tacit.core.ranks import ALONE, Ranks
from tacit.ops.precision import only_once

__all__ = ["cosine", "nt_xent", "unit"]

_TILE = 1 << 26  # entries of the one logits buffer: 256 MiB in float32; larger batches are done by blocks of rows
_COLD = 0.025  # below this temperature exp(-2 / temperature) underflows in float32, and the row maximum is the shift


def unit(z: Float[Tensor, "*n d"], eps: float = 1e-12) -> Float[Tensor, "*n d"]:
    """Rows scaled to length one: z / max(||z||, eps)."""
    return F.normalize(z, dim=-1, eps=eps)


def cosine(a: Float[Tensor, "*n d"], b: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    """Cosine of each row of `a` with the same row of `b`, in [-1, 1]."""
    return (unit(a) * unit(b)).sum(dim=-1)


def nt_xent(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], temperature: float, ranks: Ranks = ALONE
) -> Float[Tensor, ""]:
    """Normalised temperature-scaled cross entropy (arXiv 2002.05709, eq. 1), the mean over the 2m rows of all ranks.

    With u the 2m unit rows of both views and s_ij = u_i . u_j / temperature:
    mean_i [ -s_i,pos(i) + log sum_{j != i} exp s_ij ]. The positive stays in the denominator, the row itself does not.
    Each rank computes its own 2n rows against all 2m columns, in one buffer that becomes the gradient in place:
    first derivatives only.
    """
    rows = unit(torch.cat([a, b]))
    n, columns = a.shape[0], rows.view_as(rows)  # a second name: a compiler wants distinct arguments
    if ranks.size > 1:
        everyone = ranks.gather(torch.cat([rows[:n], rows[n:]], dim=1))  # both views in one exchange, [m 2d]
        columns = torch.cat(everyone.chunk(2, dim=1))
    wanted = torch.is_grad_enabled() and rows.requires_grad
    local: Tensor = _NTXent.apply(rows, columns, ranks.rank * n, temperature, wanted)
    return ranks.total(local) / ranks.size


class _NTXent(torch.autograd.Function):
    """Mean over 2n unit rows; the gradient is made beside the value, so that no logits outlive the call."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, first: int, temperature: float, wanted: bool) -> Tensor:
        n, m = rows.shape[0] // 2, columns.shape[0] // 2
        own = torch.arange(first, first + n, device=rows.device)
        itself, positive = torch.cat([own, own + m])[:, None], torch.cat([own + m, own])[:, None]
        step = max(1, _TILE // (2 * m))
        loss = rows.new_zeros(())
        to_rows, to_columns = [], torch.zeros_like(columns) if wanted else columns
        for at in range(0, 2 * n, step):
            block = rows[at : at + step]
            logits = (block / temperature) @ columns.T
            pull = logits.gather(1, positive[at : at + step])
            logits.scatter_(1, itself[at : at + step], -torch.inf)
            peak = logits.amax(dim=1, keepdim=True) if temperature < _COLD else 1 / temperature
            mass = logits.sub_(peak).exp_().sum(dim=1, keepdim=True)
            loss = loss + (mass.log() + peak - pull).sum()
            if wanted:
                error = logits.div_(mass)  # softmax minus one-hot: the gradient of each row with respect to its logits
                error.scatter_add_(1, positive[at : at + step], torch.full_like(pull, -1.0))
                to_rows.append(error @ columns)
                to_columns = to_columns.addmm(error.T, block)
        if wanted:
            scale = 1 / (2 * n * temperature)
            ctx.save_for_backward(torch.cat(to_rows) * scale, to_columns * scale)
        return loss / (2 * n)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        only_once("nt_xent")
        to_rows, to_columns = ctx.saved_tensors
        return gradient * to_rows, gradient * to_columns, None, None, None
