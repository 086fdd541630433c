"""The two sides of a batch: the Gram matrix of its samples and the covariance of its dimensions (arXiv 2206.02574).

Legend: a, b, z [n d] on this rank, m = n * ranks.size samples of all ranks, d dimensions. The sample side of two views is
M = A B^T [m m], the dimension side M = A^T B [d d]. Because ||Z Z^T||_F = ||Z^T Z||_F, and ||A B^T||_F^2 = <A^T A, B^T B>, sums of
squares of either side are computed on whichever matrix is smaller. Every function is pure, and defined on all ranks.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.ranks import ALONE, Ranks
from tacit.ops.contrast import Entries, absolute_sum, log_sum_exp
from tacit.ops.covariance import centred, off_diagonal_energy
from tacit.ops.gradients import known, wanted
from tacit.ops.whitening import standardised

__all__ = ["Repulsion", "Scaling", "Sets", "Side", "normalised", "off_diagonal_squares", "repulsion", "smaller_gram"]

Side = Literal["sample", "dimension"]
Scaling = Literal["none", "centred", "samples", "centred-samples", "dimensions"]
Sets = Literal["each", "joint", "cross"]
Repulsion = Literal["square", "absolute", "exponential", "decoupled"]


def normalised(z: Float[Tensor, "n d"], how: Scaling, ranks: Ranks = ALONE) -> Float[Tensor, "n d"]:
    """`z` with entries of mean square one where lengths are fixed: rows of norm sqrt(d), or dimensions of unit variance.

    'samples': rows; 'centred-samples': rows after centring over all samples; 'dimensions': centred, each of biased variance one;
    'centred': centring alone.
    """
    if how == "dimensions":
        return standardised(z, ranks)
    if how.startswith("centred"):
        z = centred(z, ranks)
    if not how.endswith("samples"):
        return z
    return z * (z.shape[1] ** 0.5 / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=1e-12))


def smaller_gram(z: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Float[Tensor, "k k"]:
    """Z^T Z [d d] if d <= m, else Z Z^T [m m]: the same eigenvalues but for zeros, so the same trace, norms and spectral sums."""
    if z.shape[0] * ranks.size < z.shape[1]:
        everyone = ranks.gather(z)
        return everyone @ everyone.T
    return ranks.total(z.T @ z)


def off_diagonal_squares(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"] | None = None, side: Side = "dimension", ranks: Ranks = ALONE
) -> Float[Tensor, ""]:
    """sum_{i != j} M_ij^2 of the given side of `a` and `b` (of `a` with itself if None), on the cheaper route.

    Value and gradient are those of the side asked for on either route; the gradient is written out: first derivatives only.
    """
    m, d = a.shape[0] * ranks.size, a.shape[1]
    if side == "dimension" and b is None:
        return off_diagonal_energy(a, ranks) * (m - 1) ** 2
    views = [a] if b is None else [a, b]
    route, keep = _ROUTES[side, m < d], wanted(*views)
    with torch.no_grad():
        share, slopes = route([z.detach() for z in views], ranks, keep)
    return ranks.total(known("off_diagonal_squares", share, *zip(views, slopes, strict=False)))


# Each route returns this rank's share of the sum, and the gradient of the whole sum with respect to this rank's rows of each view.
# A view with itself is a list of one, whose gradient is the sum of both. Sums of squares go row by row: short sums stay exact.

_Found = tuple[Tensor, list[Tensor]]


def _sample_gram(views: list[Tensor], ranks: Ranks, slopes: bool) -> _Found:
    a, b = views[0], views[-1]
    everyone = [ranks.gather(z) for z in views]
    first = a.shape[0] * ranks.rank
    m = a @ everyone[-1].T
    m.diagonal(first).zero_()
    share = torch.linalg.vector_norm(m, dim=1).square().sum()
    if not slopes:
        return share, []
    if len(views) == 1:
        return share, [(4 * m) @ everyone[0]]  # factors go to the smaller matrix
    back = m.T if ranks.size == 1 else b @ everyone[0].T
    if ranks.size > 1:
        back.diagonal(first).zero_()
    return share, [(2 * m) @ everyone[1], (2 * back) @ everyone[0]]


def _sample_covariance(views: list[Tensor], ranks: Ranks, slopes: bool) -> _Found:
    a, b = views[0], views[-1]
    moments = [ranks.total(z.T @ z) for z in views]
    p = (a * b).sum(dim=1, keepdim=True)
    share = (moments[0] * moments[-1]).sum(dim=1).sum() / ranks.size - p.square().sum()
    if not slopes:
        return share, []
    if len(views) == 1:
        return share, [torch.addcmul(a @ (4 * moments[0]), a, p, value=-4)]
    crossed = ((a, b, moments[1]), (b, a, moments[0]))
    return share, [torch.addcmul(x @ (2 * s), y, p, value=-2) for x, y, s in crossed]


def _dimension_gram(views: list[Tensor], ranks: Ranks, slopes: bool) -> _Found:
    a, b = views
    everyone = [ranks.gather(z) for z in views]
    own = (a * b).sum(dim=0)
    diagonal = ranks.total(own)
    grams = [z @ e.T for z, e in zip(views, everyone, strict=True)]
    share = (grams[0] * grams[1]).sum(dim=1).sum() - (own * diagonal).sum()
    if not slopes:
        return share, []
    crossed = ((grams[1], everyone[0], b), (grams[0], everyone[1], a))
    return share, [torch.addcmul((2 * g) @ e, z, diagonal, value=-2) for g, e, z in crossed]


def _dimension_covariance(views: list[Tensor], ranks: Ranks, slopes: bool) -> _Found:
    a, b = views
    c = ranks.total(a.T @ b).fill_diagonal_(0)
    share = torch.linalg.vector_norm(c, dim=1).square().sum() / ranks.size
    return share, [b @ (2 * c.T), a @ (2 * c)] if slopes else []


_ROUTES = {
    ("sample", True): _sample_gram,
    ("sample", False): _sample_covariance,
    ("dimension", True): _dimension_gram,
    ("dimension", False): _dimension_covariance,
}


def repulsion(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    kind: Repulsion,
    *,
    side: Side,
    sets: Sets,
    divisor: float,
    entries: Entries = "plain",
    temperature: float = 1.0,
    bounded: bool = False,
    ranks: Ranks = ALONE,
) -> Float[Tensor, ""]:
    """The mean over the rows i of M / divisor of their repulsion from the other rows.

    kind: 'square' sum_{j != i} M_ij^2, 'absolute' sum_{j != i} |M_ij|, 'exponential' log sum_{j != i} exp(phi(M_ij) / temperature),
    'decoupled' the same without the partner of i. sets: 'each' view with itself, the sum of both; both views stacked,
    'joint', [2m 2m] on the sample side; or one against the other, 'cross', where the diagonal holds the partners and stays in the
    sum of 'exponential'; both directions are averaged. bounded: no |M / divisor| is above 1.
    """
    pairs: list[tuple[Tensor, Tensor | None]] = [(a, None), (b, None)] if sets == "each" else [(a, b)]
    if sets == "joint":
        pairs = [(torch.cat([a, b]), None)]
    if kind == "square":
        count = pairs[0][0].shape[0] * ranks.size if side == "sample" else a.shape[1]
        squares = [off_diagonal_squares(x, y, side, ranks) for x, y in pairs]
        return torch.stack(squares).sum() / (count * divisor**2)
    if sets == "cross":
        pairs.append((b, a))
    found = a.new_zeros(())
    for x, y in pairs:
        columns: Tensor | None
        rows, columns, first, count = _opposed(x, x if y is None else y, side, ranks)
        itself = first + torch.arange(len(rows), device=rows.device)[:, None]
        hidden = itself
        columns = None if y is None and ranks.size == 1 else columns  # the rows themselves
        if sets == "joint" and kind == "decoupled":
            hidden = torch.cat([itself, itself.roll(len(rows) // 2, dims=0)], dim=1)
        elif sets == "cross" and kind == "exponential":
            hidden = itself[:, :0]
        if kind == "absolute":
            share = absolute_sum(rows, columns, hidden, divisor)
        else:
            share = log_sum_exp(rows, columns, hidden, temperature, entries, bounded, divisor)
        found = found + ranks.total(share) / count
    return found / 2 if sets == "cross" else found


def _opposed(x: Tensor, y: Tensor, side: Side, ranks: Ranks) -> tuple[Tensor, Tensor, int, int]:
    """This rank's rows of M, all its columns, the number of the first row and the number of all rows."""
    everyone = ranks.gather(y)
    if side == "sample":
        return x, everyone, len(x) * ranks.rank, len(everyone)
    d = x.shape[1]
    start, stop = (d * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1))
    theirs = everyone if x is y else ranks.gather(x)
    return theirs.T[start:stop], everyone.T, start, d
