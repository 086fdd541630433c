"""SimCLR: each view finds its partner among the views of all other samples."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine, nt_xent

__all__ = ["SimCLR"]


@part("objective", "simclr")
class SimCLR(nn.Module):
    """Contrast each view with its partner against all other samples (NT-Xent).

        loss = mean over the 2m rows i of both views of [ -s_i,pos(i) + log sum_{j != i} exp s_ij ],  s = cosine / temperature

    Conventions that differ between public implementations and are fixed here: rows are L2-normalised inside; the
    positive stays in the denominator; the mean runs over both directions and the batch of all m samples on all ranks, and
    the gradient flows back through the gathered negatives to the rank that made them.

    Values: log(2m - 1) when all embeddings are equal. Source: arXiv 2002.05709 eq. 1; temperature 0.1 is its ImageNet
    setting (0.5 on CIFAR-10; 0.15 in the tuned form of arXiv 2206.02574).
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The mean over all ranks, the same on each, under 'loss'."""
        demand_pairs("simclr", a, b, ranks)
        with without_autocast(a):
            return {"loss": nt_xent(full(a), full(b), self.temperature, ranks)}

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return 1 - cosine(full(a), full(b))

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}"
