"""Decoupled contrastive learning: the partner of a view does not repel it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.duality import Duality
from tacit.objectives.pairs import demand_pairs
from tacit.ops.contrast import Entries
from tacit.ops.duality import Repulsion
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine

__all__ = ["DCL", "DCLW", "contrastive"]


def contrastive(repulsion: Repulsion, temperature: float, entries: Entries = "plain", pull: bool = True) -> Duality:
    """The contrastive member of the duality family: cosines of all 2m views, with its partner pulled at 1 / temperature."""
    return Duality(
        repulsion=repulsion,
        side="sample",
        normalisation="samples",
        entries=entries,
        sets="joint",
        attraction="product",
        pull=1 / temperature if pull else 0.0,
        push=1.0,
        variance=0.0,
        temperature=temperature,
    )


@part("objective", "dcl")
class DCL(nn.Module):
    """Contrast each view with all other samples, the positive left out of the denominator.

        loss = mean over the 2m rows i of both views of [ -s_i,pos(i) + log sum_{j != i, pos(i)} exp s_ij ],  s = cosine / temperature

    The 2m - 2 negatives are those of all ranks. Without the positive in the denominator the gradient does not fade for easy
    pairs, so small batches lose less than under SimCLR.

    Values: log(2m - 2) - 1/temperature for orthonormal pairs of equal views. Source: arXiv 2110.06848 eq. 6, temperature 0.1.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.family = contrastive("decoupled", temperature)

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Attraction and repulsion over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("dcl", a, b, ranks)
        return self.family(a, b, ranks)  # type: ignore[no-any-return]

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return self.family.energy(a, b)


@part("objective", "dclw")
class DCLW(nn.Module):
    """DCL with hard positives weighted up: the further apart two views are, the more they are pulled.

        loss = mean over the 2m rows i of [ -w_i s_i,pos(i) + log sum_{j != i, pos(i)} exp s_ij ],
        w_i = 2 - m softmax_i(cosine(a_i, b_i) / sigma)

    The weights have mean one over all ranks and pass no gradient. Source: arXiv 2110.06848 section 3.3; sigma 0.5.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1, sigma: Annotated[float, Gt(0)] = 0.5) -> None:
        super().__init__()
        self.temperature, self.sigma = temperature, sigma
        self.family = contrastive("decoupled", temperature, pull=False)

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Weighted attraction and repulsion over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("dclw", a, b, ranks)
        with without_autocast(a):
            close = cosine(full(a), full(b))
            mass = torch.exp((close.detach() - 1) / self.sigma)  # cosines are at most 1, so this shift serves all ranks
            weight = 2 - mass * (len(mass) * ranks.size) / ranks.total(mass.sum())
            pull = -ranks.total((weight * close).mean()) / (ranks.size * self.temperature)
            push = self.family(a, b, ranks)["repulsion"]
            return {"loss": pull + push, "attraction": pull, "repulsion": push}

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return self.family.energy(a, b)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}, sigma={self.sigma}"
