"""The duality family: contrast samples or decorrelate dimensions, one criterion with two sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.contrast import Entries
from tacit.ops.covariance import variance
from tacit.ops.duality import Repulsion, Scaling, Sets, normalised, repulsion
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine

__all__ = ["Duality"]

Weight = Annotated[float, Ge(0)]


@part("objective", "duality")
class Duality(nn.Module):
    """Pull partners together and push the samples, or the dimensions, of a batch apart: contrastive and not, in one family.

        loss = pull * A + variance * V + push * R

    Embeddings are scaled by `normalisation` to entries of mean square one (rows of norm sqrt(d) for 'samples', unit biased variance for
    'dimensions'; 'none' and 'centred' leave lengths alone). The two sides of views Z are G = Z Z^T / d [m m], whose diagonal is
    then one, and C = Z^T Z / m [d d], likewise (m - 1 where lengths are left alone, so that C is the unbiased covariance).

    A, `attraction`: 'distance' mean_n,d (a - b)^2; 'product' -mean_n,d (a b), minus the cosine for 'samples'; 'diagonal' the mean
    of (M_ii - 1)^2 over the diagonal of the two views against each other.
    V: mean over both views of mean relu(gamma - sqrt(s + eps)), s the variance of each dimension, or on the sample side the mean
    square of each row.
    R: the mean over rows i of the side of sum_{j != i} M_ij^2 ('square'), sum |M_ij| ('absolute'), log sum_{j != i}
    exp(phi(M_ij) / temperature) ('exponential', phi by `entries`: x, |x| or x^2), or that without the partner ('decoupled').
    `sets`: the sum over 'each' view, both 'joint' in one batch of 2m, or one view against the other, 'cross'.
    `side` 'automatic' takes samples if m <= d, else dimensions: the smaller matrix, so it may change with the batch.

    Members: SimCLR (exponential, sample, samples, joint, product, pull 1/temperature, variance 0), -abs and -sq by `entries`; DCL the
    same with 'decoupled'; VICReg the defaults; VICReg-exp exponential; VICReg-ctr exponential on the sample side; Barlow Twins
    divided by d (square, dimension, dimensions, cross, diagonal, pull 1, push 0.0051, variance 0).
    For unit rows and unit dimensions the two sides of 'square' differ by a constant (arXiv 2206.02574, section 3).
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(
        self,
        *,
        repulsion: Repulsion = "square",
        side: Literal["sample", "dimension", "automatic"] = "dimension",
        normalisation: Scaling = "centred",
        entries: Entries = "plain",
        sets: Sets = "each",
        attraction: Literal["distance", "product", "diagonal"] = "distance",
        pull: Weight = 25.0,
        push: Weight = 1.0,
        variance: Weight = 25.0,
        temperature: Annotated[float, Gt(0)] = 0.1,
        gamma: Annotated[float, Gt(0)] = 1.0,
        eps: Annotated[float, Gt(0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.repulsion, self.side, self.normalisation, self.entries = repulsion, side, normalisation, entries
        self.sets, self.attraction = sets, attraction
        self.pull, self.push, self.variance = pull, push, variance
        self.temperature, self.gamma, self.eps = temperature, gamma, eps

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Refuse members that would not mean what their settings say."""
        kind, sets, side = settings["repulsion"], settings["sets"], settings["side"]
        if settings["entries"] != "plain" and kind in ("square", "absolute"):
            yield (
                f"entries {settings['entries']!r} is the phi of an exponential repulsion, found repulsion {kind!r}: "
                "use repulsion 'exponential' or 'decoupled', or leave entries 'plain'"
            )
        if kind == "decoupled" and sets != "cross" and (sets, side) != ("joint", "sample"):
            yield (
                f"repulsion 'decoupled' leaves out the partner, and there is none in sets {sets!r} on side {side!r}: "
                "use sets 'joint' on side 'sample', sets 'cross', or repulsion 'exponential'"
            )
        if settings["variance"] > 0 and settings["normalisation"] not in ("none", "centred"):
            yield (
                f"variance {settings['variance']} would hold a constant, because normalisation "
                f"{settings['normalisation']!r} fixes lengths: use variance 0, or normalisation 'centred' or 'none'"
            )

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each, and their sum under 'loss'."""
        demand_pairs("duality", a, b, ranks)
        m, d = a.shape[0] * ranks.size, a.shape[1]
        samples = self.side == "sample" or (self.side == "automatic" and m <= d)
        if not samples and d < 2:
            raise RecipeError(
                f"objective 'duality' on its dimension side needs at least 2 dimensions, found {d}: widen the projector"
            )
        with without_autocast(a):
            a, b = full(a), full(b)
            u, v = (normalised(z, self.normalisation, ranks) for z in (a, b))
            free = self.normalisation in ("none", "centred")
            rows = 2 * m if self.sets == "joint" else m
            divisor = d if samples else rows - 1 if free else rows
            terms = {
                "attraction": self.pull * self._attraction(*((a, b) if free else (u, v)), samples, divisor, ranks),
                "variance": self.variance * self._narrowness(u, v, samples, ranks),
                "repulsion": self.push
                * repulsion(
                    u,
                    v,
                    self.repulsion,
                    side="sample" if samples else "dimension",
                    sets=self.sets,
                    divisor=divisor,
                    entries=self.entries,
                    temperature=self.temperature,
                    bounded=samples and self.normalisation in ("samples", "centred-samples"),
                    ranks=ranks,
                ),
            }
            return {"loss": terms["attraction"] + terms["variance"] + terms["repulsion"], **terms}

    def _attraction(self, a: Tensor, b: Tensor, samples: bool, divisor: float, ranks: Ranks) -> Tensor:
        if self.attraction == "distance":
            return ranks.total((a - b).square().mean()) / ranks.size
        if self.attraction == "product":
            return -ranks.total((a * b).mean()) / ranks.size
        if samples:
            return ranks.total(((a * b).mean(dim=1) - 1).square().mean()) / ranks.size
        return (ranks.total((a * b).sum(dim=0)) / divisor - 1).square().mean()

    def _narrowness(self, u: Tensor, v: Tensor, samples: bool, ranks: Ranks) -> Tensor:
        if self.variance == 0:
            return u.new_zeros(())
        found = u.new_zeros(())
        for z in (u, v):
            spread = torch.sqrt((z.square().mean(dim=1) if samples else variance(z, ranks)) + self.eps)
            short = torch.relu(self.gamma - spread).mean()
            found = found + (ranks.total(short) / ranks.size if samples else short) / 2
        return found

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are: 1 - cosine for rows of fixed norm, else the mean squared difference over features."""
        a, b = full(a), full(b)
        if self.normalisation.endswith("samples"):
            return 1 - cosine(a, b)
        return (a - b).square().mean(dim=-1)

    def extra_repr(self) -> str:
        """The settings, for print."""
        words = ("repulsion", "side", "normalisation", "entries", "sets", "attraction")
        numbers = ("pull", "push", "variance", "temperature", "gamma", "eps")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in words + numbers)
