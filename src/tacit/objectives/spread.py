"""Regularisers of a world model's states: what keeps them spread. Legend: n clips, t frames, s the shape of a state, m rows, d features."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.ops.covariance import centred, off_diagonal_energy, variance
from tacit.ops.normality import directions, epps_pulley
from tacit.ops.precision import full, without_autocast

__all__ = ["SIGReg", "VarianceCovariance"]

Weight = Annotated[float, Ge(0)]
RanksKind = Literal["per-sample", "global", "gather"]


@part("regulariser", "vc")
class VarianceCovariance(nn.Module):
    """Every feature of the states keeps its spread, and features do not follow each other.

        variance   * mean_d relu(gamma - sqrt(var_d + eps))
      + covariance * mean of C_ij^2 over the d (d - 1) pairs i != j
      + over_time  * mean_n,d relu(gamma - sqrt(var over the frames of clip n + eps))

    Mean, variance and covariance (divisor m - 1) run over the rows of all ranks. frames: the rows are all frames of all clips (EB-JEPA), or
    the first of each (PLDM). places: of a state with several places each is a row ('samples'), or all are features together.
    The covariance is divided by d (d - 1), where VICReg divides by d: at d = 512 the same weight is 511 times weaker.

    Source: arXiv 2602.03604 and 2502.14819; defaults are those of EB-JEPA's Two Rooms.
    """

    ranks_kind: ClassVar[RanksKind] = "global"

    def __init__(
        self,
        *,
        variance: Weight = 16.0,
        covariance: Weight = 8.0,
        over_time: Weight = 0.0,
        gamma: Annotated[float, Gt(0)] = 1.0,
        eps: Annotated[float, Gt(0)] = 1e-4,
        frames: Literal["all", "first"] = "all",
        places: Literal["samples", "features"] = "samples",
    ) -> None:
        super().__init__()
        self.variance, self.covariance, self.over_time = variance, covariance, over_time
        self.gamma, self.eps, self.frames, self.places = gamma, eps, frames, places

    def forward(self, states: Float[Tensor, "n t *s"], ranks: Ranks = ALONE) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each."""
        with without_autocast(states):
            states = full(states)
            z = centred(self._rows(states[:, :1] if self.frames == "first" else states), ranks)
            m, d = len(z) * ranks.size, z.shape[1]
            if m < 2:
                raise DataError("regulariser 'vc' needs at least two states for a variance, found one: raise the batch")
            terms = {"variance": self.variance * self._narrow(variance(z, ranks)).mean()}
            if self.covariance:
                terms["covariance"] = self.covariance * off_diagonal_energy(z, ranks) / max(1, d * (d - 1))
            if self.over_time:
                still = self._narrow(states.var(1)).mean()
                terms["over_time"] = self.over_time * ranks.total(still) / ranks.size
            return terms

    def _rows(self, states: Tensor) -> Tensor:
        rows = states.flatten(0, 1)
        return rows.flatten(0, -2) if self.places == "samples" else rows.flatten(1)

    def _narrow(self, spread: Tensor) -> Tensor:
        return torch.relu(self.gamma - torch.sqrt(spread + self.eps))

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"variance={self.variance}, covariance={self.covariance}, over_time={self.over_time}, frames={self.frames!r}"


@part("regulariser", "sigreg")
class SIGReg(nn.Module):
    """The states of every time step are an isotropic Gaussian, tested along random directions.

        weight * mean over t of SIGReg(z_t),   SIGReg(z) = mean over directions w of the Epps-Pulley statistic of z . w against N(0, 1)

    The statistic grows with the m rows of all ranks (see `objective.lejepa`); directions are drawn at each call, one set for all frames.
    Places of a state are rows. Source: LeWM (arXiv 2603.19312): weight 0.09, 1024 directions, 17 knots on [0, 3].
    """

    ranks_kind: ClassVar[RanksKind] = "global"

    def __init__(
        self,
        *,
        weight: Weight = 0.09,
        directions: Annotated[int, Ge(1)] = 1024,
        knots: Annotated[int, Ge(2)] = 17,
        reach: Annotated[float, Gt(0)] = 3.0,
    ) -> None:
        super().__init__()
        self.weight, self.directions, self.knots, self.reach = weight, directions, knots, reach

    def forward(self, states: Float[Tensor, "n t *s"], ranks: Ranks = ALONE) -> dict[str, Float[Tensor, ""]]:
        """The weighted term over all ranks, the same on each."""
        with without_autocast(states):
            states = full(states)
            axes = directions(states.shape[-1], self.directions, states, ranks)
            found = [epps_pulley(z.flatten(0, -2) @ axes, ranks, self.knots, self.reach) for z in states.unbind(1)]
            return {"sigreg": self.weight * torch.stack(found).mean()}

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"weight={self.weight}, directions={self.directions}, knots={self.knots}, reach={self.reach}"
