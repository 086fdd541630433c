"""Second moments of a batch of embeddings. Legend: n samples of this rank, m = n * ranks.size of all, d features.

Every function is pure, and defined on the batch of all ranks.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.ranks import ALONE, Ranks
from tacit.ops.precision import only_once

__all__ = ["centred", "covariance", "off_diagonal_energy", "variance"]


def centred(z: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Float[Tensor, "n d"]:
    """`z` minus its mean over all m samples."""
    return z - ranks.total(z.sum(dim=0)) / (z.shape[0] * ranks.size)


def variance(z: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Float[Tensor, " d"]:
    """Unbiased variance (divisor m - 1) of each feature of the centred rows `z`."""
    return ranks.total(z.square().sum(dim=0)) / (z.shape[0] * ranks.size - 1)


def covariance(z: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Float[Tensor, "d d"]:
    """Unbiased covariance (divisor m - 1) of the centred rows `z`."""
    return ranks.total(z.T @ z) / (z.shape[0] * ranks.size - 1)


def off_diagonal_energy(z: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Float[Tensor, ""]:
    """Sum of the squared off-diagonal entries of the covariance C of the centred rows `z`: sum_{i != j} C_ij^2.

    Because ||Z^T Z||_F = ||Z Z^T||_F (arXiv 2206.02574, prop. 3.1) it is computed on the cheaper side, with the same value
    and gradient: on the Gram matrix, exchanging [m d] embeddings, if m < d; on the covariance, exchanging [d d], otherwise.
    The gradient is written out, `4 (G Z - Z diag C) / (m - 1)^2` in units of Z^T Z: first derivatives only.
    """
    m, known = z.shape[0] * ranks.size, z.detach()
    if m < z.shape[1]:
        share: Tensor = _GramShare.apply(z, ranks.gather(known), ranks.total(known.square().sum(dim=0)))
    else:
        share = _CovarianceShare.apply(z, ranks.total(known.T @ known).fill_diagonal_(0), ranks.size)
    return ranks.total(share) / (m - 1) ** 2


# The shares of all ranks add up to the energy E, and each share's gradient is that of E with respect to the rank's own
# rows. The total of shares therefore has E as value and, summed over ranks by the backward of `total`, its gradient.


class _GramShare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, everyone: Tensor, norms: Tensor) -> Tensor:
        gram = z @ everyone.T
        ctx.save_for_backward(z, everyone, norms, gram)
        # row norms, then their squares: two short sums stay exact in float32 where one running sum over all entries does not
        return torch.linalg.vector_norm(gram, dim=1).square().sum() - (z.square().sum(dim=0) * norms).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        only_once("off_diagonal_energy")
        z, everyone, norms, gram = ctx.saved_tensors
        return (4 * gradient) * torch.addcmul(gram @ everyone, z, norms, value=-1), None, None


class _CovarianceShare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, off_diagonal: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(z, off_diagonal)
        return torch.linalg.vector_norm(off_diagonal, dim=1).square().sum() / size

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        only_once("off_diagonal_energy")
        z, off_diagonal = ctx.saved_tensors
        return (4 * gradient) * (z @ off_diagonal), None, None
