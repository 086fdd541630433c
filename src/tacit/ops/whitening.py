"""Batches made white or of unit variance. Legend: n samples of this rank, m of all ranks, d features. Every function is pure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tacit.core.ranks import ALONE, Ranks
from tacit.ops.covariance import centred, covariance

__all__ = ["cholesky_whitened", "iterated_whitened", "standardised"]


def standardised(z: Float[Tensor, "n d"], ranks: Ranks = ALONE, eps: float = 1e-5) -> Float[Tensor, "n d"]:
    """Zero mean and unit biased variance (divisor m) of each feature over all ranks: a batch norm without scale and shift."""
    if ranks.size == 1:
        return F.batch_norm(z, None, None, training=True, eps=eps)  # the same in one kernel
    z = centred(z, ranks)
    moment = ranks.total(z.square().sum(dim=0)) / (z.shape[0] * ranks.size)
    return z * torch.rsqrt(moment + eps)


def cholesky_whitened(z: Float[Tensor, "n d"], shrinkage: float = 1e-6) -> Float[Tensor, "n d"]:
    """Rows W z with W the inverse Cholesky factor of the unbiased covariance C: zero mean, covariance one (arXiv 2007.06346).

    shrinkage: C + shrinkage * mean variance * I is factored, so that a covariance of small rank stays finite.
    """
    z = centred(z)
    c = covariance(z)
    ridge = shrinkage * (c.diagonal().mean() + 1e-12)
    factor = torch.linalg.cholesky(c + ridge * torch.eye(len(c), dtype=c.dtype, device=c.device))
    return torch.linalg.solve_triangular(factor, z.T, upper=False).T


def iterated_whitened(
    z: Float[Tensor, "n d"], width: int = 64, iterations: int = 5, eps: float = 1e-5, ranks: Ranks = ALONE
) -> Float[Tensor, "n d"]:
    """Rows multiplied by C^(-1/2), block by block of `width` features, by Newton's iteration (IterNorm, arXiv 1904.03441).

    C is the biased covariance (divisor m) plus eps. P_0 = 1, P_{k+1} = (3 P_k - P_k^3 C / tr C) / 2, and C^(-1/2) = P / sqrt(tr C), in
    the coupled form that carries Q = P C / tr C along and stays stable: few iterations leave the smallest eigenvalues short of
    one, on purpose. A last block may be padded.
    """
    n, d = z.shape
    width = min(width, d)
    blocks = F.pad(centred(z, ranks), (0, -d % width)).view(n, -1, width).transpose(0, 1)  # [g n width]
    c = ranks.total(blocks.mT @ blocks) / (n * ranks.size)
    one = torch.eye(width, dtype=z.dtype, device=z.device)
    c = c + eps * one
    trace = c.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    p, q = one.expand_as(c), c / trace
    for _ in range(iterations):
        step = 1.5 * one - 0.5 * (p @ q)
        p, q = step @ p, q @ step
    white = blocks @ (p * torch.rsqrt(trace))
    return white.transpose(0, 1).reshape(n, -1)[:, :d]
