"""VICReg with exponential repulsion: between dimensions (-exp), or between samples (-ctr)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.duality import Duality
from tacit.objectives.pairs import demand_pairs

__all__ = ["VICRegCtr", "VICRegExp"]

Weight = Annotated[float, Ge(0)]


@part("objective", "vicreg-exp")
class VICRegExp(nn.Module):
    """VICReg with the log-sum-exp of covariances in the place of their squares.

        loss = invariance * mean_n,d (a - b)^2
             + variance   * mean over both views of mean_d relu(gamma - sqrt(var_d + eps))
             + covariance * sum  over both views of mean_i log sum_{j != i} exp(C_ij / temperature)

    C is the unbiased covariance of the samples of all ranks; the other terms are those of 'vicreg'. The exponential repels
    positive covariances alone, and is fragile in half precision; it is computed in float32. The temperature is a free choice.
    Source: arXiv 2206.02574, section 4.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(
        self,
        *,
        invariance: Weight = 25.0,
        variance: Weight = 25.0,
        covariance: Weight = 1.0,
        temperature: Annotated[float, Gt(0)] = 0.1,
        gamma: Annotated[float, Gt(0)] = 1.0,
        eps: Annotated[float, Gt(0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.family = _vicreg("dimension", invariance, variance, covariance, temperature, gamma, eps)

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each, and their sum under 'loss'."""
        demand_pairs("vicreg-exp", a, b, ranks)
        return _named(self.family(a, b, ranks))

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: the mean squared difference over features."""
        return self.family.energy(a, b)


@part("objective", "vicreg-ctr")
class VICRegCtr(nn.Module):
    """VICReg-exp on the transposed embeddings: a contrastive criterion with the terms of a non-contrastive one.

        loss = invariance * mean_n,d (a - b)^2
             + variance   * mean over both views of mean_i relu(gamma - sqrt(mean_d z_i^2 + eps))
             + covariance * sum  over both views of mean_i log sum_{j != i} exp(G_ij / temperature),  G = Z Z^T / d

    z are the embeddings centred over the batch of all ranks; the hinge holds the length of each sample, sqrt(d) at gamma 1 as
    its dimension form does, and 1 at gamma 1/sqrt(d). Dimensions are not centred a second time across a sample, so
    the criterion does not change under rotations. Trains in mixed precision, where -exp does not. Source: arXiv 2206.02574, section 4.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(
        self,
        *,
        invariance: Weight = 25.0,
        variance: Weight = 25.0,
        covariance: Weight = 1.0,
        temperature: Annotated[float, Gt(0)] = 0.1,
        gamma: Annotated[float, Gt(0)] = 1.0,
        eps: Annotated[float, Gt(0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.family = _vicreg("sample", invariance, variance, covariance, temperature, gamma, eps)

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms, each over all ranks and the same on each, and their sum under 'loss'."""
        demand_pairs("vicreg-ctr", a, b, ranks)
        return _named(self.family(a, b, ranks))

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: the mean squared difference over features."""
        return self.family.energy(a, b)


def _vicreg(
    side: Literal["sample", "dimension"],
    invariance: float,
    variance: float,
    covariance: float,
    temperature: float,
    gamma: float,
    eps: float,
) -> Duality:
    return Duality(
        repulsion="exponential",
        side=side,
        pull=invariance,
        variance=variance,
        push=covariance,
        temperature=temperature,
        gamma=gamma,
        eps=eps,
    )


def _named(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms under the names that VICReg has for them."""
    names = {"attraction": "invariance", "repulsion": "covariance"}
    return {names.get(name, name): term for name, term in terms.items()}
