"""SimCLR and DCL that repel opposite directions too: |cosine| or cosine^2 in the place of the cosine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.dcl import contrastive
from tacit.objectives.pairs import demand_pairs

__all__ = ["DCLAbs", "DCLSq", "SimCLRAbs", "SimCLRSq"]

# The pull stays that of the cosine itself: only the repulsion is transformed, the positive in SimCLR's denominator with it. Flipping
# the sign of both views of a sample changes none of the four. Source: arXiv 2206.02574, section 3 and appendix; temperature 0.1.


@part("objective", "simclr-abs")
class SimCLRAbs(nn.Module):
    """SimCLR with |cosine| in the denominator.

        loss = mean over the 2m rows i of [ -cosine_i,pos(i) / temperature + log sum_{j != i} exp(|cosine_ij| / temperature) ]

    The positive stays in the denominator. An orthogonal negative repels least, so the optimum spreads samples like
    the squares of the non-contrastive side do. Source: arXiv 2206.02574.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.family = contrastive("exponential", temperature, "absolute")

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Attraction and repulsion over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("simclr-abs", a, b, ranks)
        return self.family(a, b, ranks)  # type: ignore[no-any-return]

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return self.family.energy(a, b)


@part("objective", "simclr-sq")
class SimCLRSq(nn.Module):
    """SimCLR with cosine^2 in the denominator.

        loss = mean over the 2m rows i of [ -cosine_i,pos(i) / temperature + log sum_{j != i} exp(cosine_ij^2 / temperature) ]

    The positive stays in the denominator. An orthogonal negative repels least, so the optimum spreads samples like
    the squares of the non-contrastive side do. Source: arXiv 2206.02574.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.family = contrastive("exponential", temperature, "square")

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Attraction and repulsion over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("simclr-sq", a, b, ranks)
        return self.family(a, b, ranks)  # type: ignore[no-any-return]

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return self.family.energy(a, b)


@part("objective", "dcl-abs")
class DCLAbs(nn.Module):
    """DCL with |cosine| between negatives.

        loss = mean over the 2m rows i of [ -cosine_i,pos(i) / temperature + log sum_{j != i, pos(i)} exp(|cosine_ij| / temperature) ]

    Only the 2m - 2 negatives repel. An orthogonal negative repels least, so the optimum spreads samples like
    the squares of the non-contrastive side do. Source: arXiv 2206.02574.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.family = contrastive("decoupled", temperature, "absolute")

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Attraction and repulsion over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("dcl-abs", a, b, ranks)
        return self.family(a, b, ranks)  # type: ignore[no-any-return]

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return self.family.energy(a, b)


@part("objective", "dcl-sq")
class DCLSq(nn.Module):
    """DCL with cosine^2 between negatives.

        loss = mean over the 2m rows i of [ -cosine_i,pos(i) / temperature + log sum_{j != i, pos(i)} exp(cosine_ij^2 / temperature) ]

    Only the 2m - 2 negatives repel. An orthogonal negative repels least, so the optimum spreads samples like
    the squares of the non-contrastive side do. Source: arXiv 2206.02574.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.family = contrastive("decoupled", temperature, "square")

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Attraction and repulsion over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("dcl-sq", a, b, ranks)
        return self.family(a, b, ranks)  # type: ignore[no-any-return]

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return self.family.energy(a, b)
