"""Alignment and uniformity on the unit sphere, the two things that a contrastive loss does."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import unit

__all__ = ["AlignmentUniformity"]


@part("objective", "alignment-uniformity")
class AlignmentUniformity(nn.Module):
    """Bring unit vectors of partners together and spread all of them over the sphere.

        loss = mean_i ||u_i - v_i||^alpha + weight / 2 * sum over both views of log mean_{i < j} exp(-t ||u_i - u_j||^2)

    Pairs i < j are those of all ranks. Values: 0 at collapse; -2 t weight for equal views of orthogonal
    samples. Source: arXiv 2005.10242; alpha 2, t 2, weight 1 (other ports: t 1).
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(
        self,
        *,
        alpha: Annotated[float, Gt(0)] = 2.0,
        t: Annotated[float, Gt(0)] = 2.0,
        weight: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.alpha, self.t, self.weight = alpha, t, weight

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each, and their sum under 'loss'."""
        demand_pairs("alignment-uniformity", a, b, ranks)
        with without_autocast(a):
            a, b = unit(full(a)), unit(full(b))
            squares = (a - b).square().sum(dim=1)
            if self.alpha < 2:
                squares = squares.clamp(min=1e-12)  # the slope of a smaller power has no bound at zero
            aligned = ranks.total((squares ** (self.alpha / 2)).mean()) / ranks.size
            spread = self.weight / 2 * (self._uniformity(a, ranks) + self._uniformity(b, ranks))
            return {"loss": aligned + spread, "alignment": aligned, "uniformity": spread}

    def _uniformity(self, u: Tensor, ranks: Ranks) -> Tensor:
        """log mean over pairs of exp(-2 t (1 - cosine)); each pair counts twice, as (i, j) and (j, i)."""
        n, m = u.shape[0], u.shape[0] * ranks.size
        closeness = torch.exp(2 * self.t * (u @ ranks.gather(u).T - 1))
        others = closeness.sum() - closeness.diagonal(n * ranks.rank).sum()
        return torch.log(ranks.total(others) / (m * (m - 1)))

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: ||u - v||^alpha of their unit vectors."""
        return (unit(full(a)) - unit(full(b))).square().sum(dim=-1) ** (self.alpha / 2)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"alpha={self.alpha}, t={self.t}, weight={self.weight}"
