"""Similarity of embeddings. Legend: n samples of this rank, m of all ranks, d features. Every function is pure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tacit.core.ranks import ALONE, Ranks
from tacit.ops.contrast import log_sum_exp

__all__ = ["cosine", "nt_xent", "unit"]


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
    Each rank computes its own 2n rows against all 2m columns, tile by tile (`contrast.log_sum_exp`): first derivatives only.
    """
    rows = unit(torch.cat([a, b]))
    n, columns = a.shape[0], None
    m = n * ranks.size
    if ranks.size > 1:
        everyone = ranks.gather(torch.cat([rows[:n], rows[n:]], dim=1))  # both views in one exchange, [m 2d]
        columns = torch.cat(everyone.chunk(2, dim=1))
    own = torch.arange(n, device=rows.device) + ranks.rank * n
    itself, partner = torch.cat([own, own + m])[:, None], torch.cat([own + m, own])
    local = log_sum_exp(rows, columns, itself, temperature, bounded=True, partner=partner)
    return ranks.total(local) / (2 * m)
