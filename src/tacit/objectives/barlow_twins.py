"""Barlow Twins: the cross-correlation of two views is the identity."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.duality import off_diagonal_squares
from tacit.ops.precision import full, without_autocast
from tacit.ops.whitening import standardised

__all__ = ["BarlowTwins"]


@part("objective", "barlow-twins")
class BarlowTwins(nn.Module):
    """Make the same feature of two views agree and different features independent.

        loss = scale * [ sum_i (C_ii - 1)^2 + redundancy * sum_{i != j} C_ij^2 ],  C = A^T B / m [d d]

    A and B are the views standardised per feature, by a batch norm without scale and shift (biased variance, eps 1e-5) over the m
    samples of all ranks; the gradient flows through these statistics on every rank, where the authors' code divides it
    by the number of ranks and others normalise each rank by itself. The off-diagonal sum is made from the two Gram matrices [m m] if
    m < d: the same value and gradient at m/d of the price.

    Values: d for constant embeddings (times scale); 0 for equal views with orthogonal centred features.
    Source: arXiv 2103.03230; redundancy 0.0051. Ports set scale to 0.025 - 0.1, on which the balance with weight decay depends.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(self, *, redundancy: Annotated[float, Ge(0)] = 0.0051, scale: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__()
        self.redundancy, self.scale = redundancy, scale

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each, and their sum under 'loss'."""
        demand_pairs("barlow-twins", a, b, ranks)
        with without_autocast(a):
            m = a.shape[0] * ranks.size
            a, b = standardised(full(a), ranks), standardised(full(b), ranks)
            if m < a.shape[1]:
                agreement = ranks.total((a * b).sum(dim=0)) / m
                overlap = off_diagonal_squares(a, b, "dimension", ranks) / m**2
            else:
                correlation = ranks.total(a.T @ b) / m
                agreement = correlation.diagonal()
                overlap = correlation.clone().fill_diagonal_(0).square().sum()
            terms = {
                "invariance": self.scale * (agreement - 1).square().sum(),
                "redundancy": self.scale * self.redundancy * overlap,
            }
            return {"loss": terms["invariance"] + terms["redundancy"], **terms}

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"redundancy={self.redundancy}, scale={self.scale}"
