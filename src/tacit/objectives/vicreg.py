"""VICReg: invariance between views, variance of every feature, no covariance between features."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.covariance import centred, off_diagonal_energy, variance
from tacit.ops.precision import full, without_autocast

__all__ = ["VICReg"]

Weight = Annotated[float, Ge(0)]


@part("objective", "vicreg")
class VICReg(nn.Module):
    """Pull two views together, keep every feature's spread, decorrelate the features.

        loss = invariance * mean_n,d (a - b)^2
             + variance   * mean over both views of mean_d relu(gamma - sqrt(var_d + eps))
             + covariance * sum  over both views of sum_{i != j} C_ij^2 / d

    This is the form of the authors' code (facebookresearch/vicreg), to which the weights 25, 25, 1 belong. `scaling` names others, which
    need other weights for the same balance:

        'official'    as above
        'paper'       invariance mean_n |a - b|^2 (without 1/d), variance summed over the views
        'solo-learn'  variance summed over the views
        'vicregl'     covariance averaged over the views (the code of VICRegL, arXiv 2210.01571)

    Mean, variance (divisor m - 1) and covariance run over the m samples of all ranks.
    The authors' code divides by the configured batch size minus 1, which is wrong for a smaller last batch; here m is counted.

    Values: constant embeddings cost variance * (gamma - sqrt(eps)); white equal views cost nothing.
    Source: arXiv 2105.04906; eps 1e-4 from the authors' code.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(
        self,
        *,
        invariance: Weight = 25.0,
        variance: Weight = 25.0,
        covariance: Weight = 1.0,
        gamma: Annotated[float, Gt(0)] = 1.0,
        eps: Annotated[float, Gt(0)] = 1e-4,
        scaling: Literal["official", "paper", "solo-learn", "vicregl"] = "official",
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.gamma, self.eps, self.scaling = gamma, eps, scaling

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each, and their sum under 'loss'."""
        demand_pairs("vicreg", a, b, ranks)
        summed = self.scaling in ("paper", "solo-learn")
        with without_autocast(a):
            a, b = full(a), full(b)
            apart = ranks.total((a - b).square().mean()) / ranks.size * (a.shape[1] if self.scaling == "paper" else 1)
            narrow, overlap = a.new_zeros(()), a.new_zeros(())
            for view in (a, b):
                z = centred(view, ranks)
                spread = torch.sqrt(variance(z, ranks) + self.eps)
                narrow = narrow + torch.relu(self.gamma - spread).mean() / (1 if summed else 2)
                overlap = overlap + off_diagonal_energy(z, ranks) / (
                    z.shape[1] * (2 if self.scaling == "vicregl" else 1)
                )
            terms = {
                "invariance": self.invariance * apart,
                "variance": self.variance * narrow,
                "covariance": self.covariance * overlap,
            }
            return {"loss": terms["invariance"] + terms["variance"] + terms["covariance"], **terms}

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: the mean squared difference over features."""
        return (full(a) - full(b)).square().mean(dim=-1)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return (
            f"invariance={self.invariance}, variance={self.variance}, covariance={self.covariance}, "
            f"gamma={self.gamma}, eps={self.eps}, scaling={self.scaling!r}"
        )
