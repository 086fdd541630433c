"""The spectral contrastive loss: inner products of positives up, squares of those of negatives down."""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.duality import off_diagonal_squares
from tacit.ops.precision import full, without_autocast

__all__ = ["SpectralContrastive"]


@part("objective", "spectral-contrastive")
class SpectralContrastive(nn.Module):
    """Factor the graph of augmentations: pull positives by their inner product, push negatives by its square.

        loss = -2 mean_i a_i . b_i + mean_{i != j} (a_i . b_j)^2

    Embeddings are not normalised, the squares bound their lengths. Negatives are all pairs of one view against the other, over all ranks;
    their sum is made from two [d d] moments where d < m. Values: -2 for orthonormal rows of equal views;
    a rotation of both views changes nothing. Source: arXiv 2106.04156, eq. 6.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(self) -> None:  # without it the settings would be read from torch's own signature
        super().__init__()

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Attraction and repulsion over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("spectral-contrastive", a, b, ranks)
        with without_autocast(a):
            a, b = full(a), full(b)
            m = a.shape[0] * ranks.size
            pull = -2 * ranks.total((a * b).sum()) / m
            push = off_diagonal_squares(a, b, "sample", ranks) / (m * (m - 1))
            return {"loss": pull + push, "attraction": pull, "repulsion": push}

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How little two embeddings belong together: minus their inner product."""
        return -(full(a) * full(b)).sum(dim=-1)
