"""Spectra of embeddings and the label-free criteria that are read from them. Every function is pure.

Legend: z [n d] one sample per row; s singular values of z, not centred unless said; lam eigenvalues of a covariance.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.errors import DataError

__all__ = [
    "add_gram",
    "alpha_req",
    "classical_rank",
    "gram",
    "lidar",
    "mirror",
    "nesum",
    "participation_ratio",
    "rankme",
    "rankme_renormalised",
    "self_cluster",
    "singular_values",
    "spectrum_area",
    "stable_rank",
]

_LEAF = 256  # columns of the smallest product: wide enough for full speed of a matrix product


def add_gram(z: Float[Tensor, "n d"], out: Float[Tensor, "d d"]) -> None:
    """Add z^T z to `out`, on and above the diagonal only (what lies below is not defined): little more than half of the work."""
    d = z.shape[1]
    if d <= _LEAF or z.is_cuda:
        out.addmm_(z.T, z)
        return
    half = (d // 2 + 63) // 64 * 64
    add_gram(z[:, :half], out[:half, :half])
    add_gram(z[:, half:], out[half:, half:])
    out[:half, half:].addmm_(z[:, :half].T, z[:, half:])


def mirror(upper: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric matrix of which `upper` holds the part on and above the diagonal."""
    full = upper.triu()
    return full.add_(upper.triu(1).T)


def gram(z: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """z^T z in float64, exactly symmetric."""
    z = z.double()
    out = z.new_zeros(z.shape[1], z.shape[1])
    add_gram(z, out)
    return mirror(out)


def singular_values(z: Float[Tensor, "n d"]) -> Float[Tensor, " r"]:
    """All min(n, d) singular values of z, largest first, computed in float64."""
    return torch.linalg.svdvals(z.double())


def _shares(values: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """`values` over their sum; zeros stay zeros where there is nothing to divide."""
    if values.ndim != 1 or not len(values):
        raise DataError(f"a spectrum is a vector of at least one value, found shape {tuple(values.shape)}")
    values = values.double().clamp(min=0)
    total = values.sum()
    return values / total if total > 0 else values


def _entropy(p: Float[Tensor, " r"]) -> float:
    return float(-torch.special.xlogy(p, p).sum())


def rankme(s: Float[Tensor, " r"], eps: float = 1e-7) -> float:
    """exp(-sum_k p_k log p_k), p_k = s_k / sum(s) + eps: RankMe (arXiv 2210.02885, eq. 1).

    As published, p is not normalised again after adding eps, so a flat spectrum of r values gives slightly more than r
    (2050.78 at r = 2048) and a rank of one slightly more than 1. Embeddings that are all zero have p = eps.
    """
    return math.exp(_entropy(_shares(s) + eps))


def rankme_renormalised(s: Float[Tensor, " r"]) -> float:
    """exp of the entropy of s_k / sum(s): the effective rank of Roy & Vetterli (2007), between 1 and r; 0 for a spectrum of zeros."""
    p = _shares(s)
    return math.exp(_entropy(p)) if p.sum() > 0 else 0.0


def classical_rank(s: Float[Tensor, " r"], n: int, d: int) -> int:
    """How many s_k exceed s_1 max(n, d) times float32's unit of rounding: the rank that float32 embeddings can show."""
    if s[0] <= 0:
        return 0
    return int((s > s[0] * max(n, d) * torch.finfo(torch.float32).eps).sum())


def stable_rank(s: Float[Tensor, " r"]) -> float:
    """sum_k s_k^2 / s_1^2: at most the rank, and not moved by small singular values; 0 for a spectrum of zeros."""
    squares = s.double().square()
    return float(squares.sum() / squares.max()) if squares.max() > 0 else 0.0


def nesum(lam: Float[Tensor, " r"]) -> float:
    """sum_k lam_k / lam_1 of covariance eigenvalues (He & Ozay 2022); 0 for a spectrum of zeros."""
    lam = lam.double().clamp(min=0)
    return float(lam.sum() / lam.max()) if lam.max() > 0 else 0.0


def participation_ratio(lam: Float[Tensor, " r"]) -> float:
    """(sum lam)^2 / sum lam^2 of covariance eigenvalues: the number of directions that carry the variance."""
    lam = lam.double().clamp(min=0)
    squares = lam.square().sum()
    return float(lam.sum().square() / squares) if squares > 0 else 0.0


def alpha_req(lam: Float[Tensor, " r"], low: int = 11, high: int = 100) -> float:
    """The exponent a of lam_j ~ j^-a, fitted over j = low..high (from 1) in log-log with weights 1/j (alpha-ReQ).

    Closest to 1 is taken as best. The range is a free choice of the literature; it is cut to the eigenvalues above
    rounding, and nan is returned where fewer than 3 of them are left.
    """
    lam = lam.double()
    lam = lam[low - 1 : high]
    lam = lam[lam > 0] if not len(lam) else lam[lam > lam.max() * 1e-12]
    if len(lam) < 3 or lam.max() <= 0:
        return float("nan")
    j = torch.arange(low, low + len(lam), dtype=torch.float64, device=lam.device)
    x, y, w = j.log(), lam.log(), 1 / j
    x = x - (w * x).sum() / w.sum()
    return float(-(w * x * y).sum() / (w * x * x).sum())


def spectrum_area(lam: Float[Tensor, " r"]) -> float:
    """Mean of the cumulative share of variance over the eigenvalues: (r+1)/(2r) for a flat spectrum, 1 for one direction."""
    return float(_shares(lam.sort(descending=True).values).cumsum(0).mean())


def lidar(between: Float[Tensor, "d d"], within: Float[Tensor, "d d"], delta: float = 1e-4, eps: float = 1e-8) -> float:
    """exp(-sum p log p), p = l / sum(l) + eps, l the eigenvalues of W^-1/2 B W^-1/2, W = within + delta I (arXiv 2312.04000).

    between: covariance of the class means; within: pooled covariance about them. The eigenvalues are taken from L^-1 B L^-T with
    W = L L^T: the same ones, without a root of W. 0 where the classes share one mean.
    """
    d = len(within)
    lower = torch.linalg.cholesky(within.double() + delta * torch.eye(d, dtype=torch.float64, device=within.device))
    half = torch.linalg.solve_triangular(lower, between.double(), upper=False)
    whitened = torch.linalg.solve_triangular(lower, half.T, upper=False)
    p = _shares(torch.linalg.eigvalsh((whitened + whitened.T) / 2))
    return math.exp(_entropy(p + eps)) if p.sum() > 0 else 0.0


def self_cluster(units: Float[Tensor, "d d"], n: int) -> float:
    """(d |u^T u|_F^2 - n (d + n - 1)) / ((d - 1) (n - 1) n) of n unit rows u, from `units` = u^T u.

    0 in expectation for directions that are uniform on the sphere, 1 if all rows are equal; the n x n products of the
    definition are those of d x d (their Frobenius norms agree). nan for a single row or a single feature.
    """
    d = len(units)
    if n < 2 or d < 2:
        return float("nan")
    energy = float(units.double().square().sum())
    return (d * energy - n * (d + n - 1)) / ((d - 1) * (n - 1) * n)
