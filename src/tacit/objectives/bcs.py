"""EB-JEPA's SIGReg for two views: they meet, and projections of each are normal by the characteristic function, whatever the batch size."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.normality import directions
from tacit.ops.precision import full, without_autocast

__all__ = ["BCS"]


@part("objective", "bcs")
class BCS(nn.Module):
    """Pull two views together and make each an isotropic Gaussian along random directions.

        loss = mean_n,d (a - b)^2 + weight * mean over both views of BCS(z)
        BCS(z) = mean over directions w of the integral over |t| <= reach of e^{-t^2/2} |mean_n e^{i t z_n . w} - e^{-t^2/2}|^2 dt

    The integral is the trapezoid rule on `points` equispaced t from -reach to reach. Unlike LeJEPA's statistic it is not multiplied by
    the m samples of all ranks: 1.0503 / m on average for normal samples, 0.39996 for a batch collapsed to zero. The public code draws its
    directions from a seeded counter of its own; here they come from torch's generator, those of rank 0 on every rank.

    Source: EB-JEPA (arXiv 2602.03604): weight 10, 256 directions, 10 points.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(
        self,
        *,
        weight: Annotated[float, Ge(0)] = 10.0,
        directions: Annotated[int, Ge(1)] = 256,
        points: Annotated[int, Ge(2)] = 10,
        reach: Annotated[float, Gt(0)] = 3.0,
    ) -> None:
        super().__init__()
        self.weight, self.directions, self.points, self.reach = weight, directions, points, reach

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Both weighted terms over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("bcs", a, b, ranks)
        with without_autocast(a):
            a, b = full(a), full(b)
            axes = directions(a.shape[1], self.directions, a, ranks)
            apart = ranks.total((a - b).square().mean()) / ranks.size
            normal = (self._statistic(a @ axes, ranks) + self._statistic(b @ axes, ranks)) / 2
            terms = {"invariance": apart, "bcs": self.weight * normal}
            return {"loss": terms["invariance"] + terms["bcs"], **terms}

    def _statistic(self, y: Tensor, ranks: Ranks) -> Tensor:
        t = torch.linspace(-self.reach, self.reach, self.points, dtype=y.dtype, device=y.device)
        law, m = torch.exp(-t.square() / 2), len(y) * ranks.size
        at = y.unsqueeze(-1) * t
        waves = ranks.total(torch.stack([at.cos().sum(0), at.sin().sum(0)])) / m
        apart = (waves[0] - law).square() + waves[1].square()
        return torch.trapezoid(law * apart, t).mean()

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"weight={self.weight}, directions={self.directions}, points={self.points}, reach={self.reach}"
