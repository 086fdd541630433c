"""VIbCReg: VICReg on whitened embeddings, with correlations in the place of covariances."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.covariance import centred, variance
from tacit.ops.duality import off_diagonal_squares
from tacit.ops.precision import full, without_autocast
from tacit.ops.whitening import iterated_whitened

__all__ = ["VIbCReg"]

Weight = Annotated[float, Ge(0)]


@part("objective", "vibcreg")
class VIbCReg(nn.Module):
    """Whiten both views, pull them together, keep every feature's spread, remove the correlation of features.

        loss = invariance * mean_n,d (a - b)^2
             + variance   * mean over both views of mean_d relu(1 - sqrt(var_d + 1e-4))
             + covariance * sum  over both views of mean over all d^2 entries of the off-diagonal squares of the correlation

    Views are first whitened by IterNorm in blocks of `block` features with `iterations` Newton steps (0 steps leaves that out, for
    projectors that end in it). All statistics are those of the m samples of all ranks. The variance term averages the two
    views, as in 'vicreg'. Source: arXiv 2109.00783; weights 25, 25, 200; blocks of 64 and 5 steps are IterNorm's (arXiv 1904.03441).
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(
        self,
        *,
        invariance: Weight = 25.0,
        variance: Weight = 25.0,
        covariance: Weight = 200.0,
        block: Annotated[int, Ge(1)] = 64,
        iterations: Annotated[int, Ge(0)] = 5,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.block, self.iterations = block, iterations

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each, and their sum under 'loss'."""
        demand_pairs("vibcreg", a, b, ranks)
        with without_autocast(a):
            a, b = full(a), full(b)
            if self.iterations:
                a, b = (iterated_whitened(z, self.block, self.iterations, ranks=ranks) for z in (a, b))
            apart = ranks.total((a - b).square().mean()) / ranks.size
            narrow, overlap = a.new_zeros(()), a.new_zeros(())
            for view in (a, b):
                z = centred(view, ranks)
                spread = variance(z, ranks)
                narrow = narrow + torch.relu(1 - torch.sqrt(spread + 1e-4)).mean() / 2
                lengths = torch.sqrt((spread * (z.shape[0] * ranks.size - 1)).clamp(min=1e-12))
                overlap = overlap + off_diagonal_squares(z / lengths, side="dimension", ranks=ranks) / z.shape[1] ** 2
            terms = {
                "invariance": self.invariance * apart,
                "variance": self.variance * narrow,
                "covariance": self.covariance * overlap,
            }
            return {"loss": terms["invariance"] + terms["variance"] + terms["covariance"], **terms}

    def extra_repr(self) -> str:
        """The settings, for print."""
        return (
            f"invariance={self.invariance}, variance={self.variance}, covariance={self.covariance}, "
            f"block={self.block}, iterations={self.iterations}"
        )
