"""MMCR: the manifold of centroids fills space, the manifold of each sample's views does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs, demand_views, mean_view
from tacit.ops.duality import smaller_gram
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine, unit

__all__ = ["MMCR"]


@part("objective", "mmcr")
class MMCR(nn.Module):
    """Maximise the nuclear norm of the centroids of views, and lower that of the views of each sample.

        loss = -||C||_* + local / m * sum_i ||Z_i||_*,  c_i = (u_i + v_i) / 2 of unit vectors,  Z_i = [u_i v_i]

    and so for more views than two (`of_views`), large and small alike: the authors take up to eight.

    The nuclear norm is that of all m centroids, not divided by m, from the eigenvalues of the smaller of C^T C and C C^T: singular values
    below sqrt(k * rounding) of the largest, k = min(m, d), count as zero and get no gradient. That of two unit vectors
    is sqrt(1 + cosine) + sqrt(1 - cosine).

    Values: -sqrt(m) at collapse; -m for m <= d orthonormal centroids, the least. Source: arXiv 2303.03307; local 0 (to 5e-3).
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(self, *, local: Annotated[float, Ge(0)] = 0.0) -> None:
        super().__init__()
        self.local = local

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Both norms over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("mmcr", a, b, ranks)
        return self.of_views((a, b), (), ranks)

    def of_views(
        self, large: Sequence[Float[Tensor, "n d"]], small: Sequence[Float[Tensor, "n d"]] = (), ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The same for any number of views of the same samples."""
        views = [*large, *small]
        demand_views("mmcr", views, ranks)
        with without_autocast(views[0]):
            units = [unit(full(z)) for z in views]
            spread = -_nuclear_norm(smaller_gram(mean_view(units), ranks))
            within = self.local * ranks.total(_within(units).mean()) / ranks.size
            return {"loss": spread + within, "global": spread, "local": within}

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return 1 - cosine(full(a), full(b))

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"local={self.local}"


def _nuclear_norm(gram: Tensor) -> Tensor:
    """Sum of the square roots of the eigenvalues of a Gram matrix."""
    values = torch.linalg.eigvalsh(gram)
    kept = values > values[-1] * (len(gram) * torch.finfo(gram.dtype).eps)
    return torch.sqrt(torch.where(kept, values, 1.0)).mul(kept).sum()


def _within(units: list[Tensor]) -> Tensor:
    """The nuclear norm of the unit rows of each sample's views [n]."""
    tiny = torch.finfo(units[0].dtype).eps  # the slope of a square root has no bound at zero
    if len(units) == 2:
        close = (units[0] * units[1]).sum(dim=1)
        return torch.sqrt((1 + close).clamp(min=tiny)) + torch.sqrt((1 - close).clamp(min=tiny))
    z = torch.stack(units, dim=1)
    return torch.linalg.eigvalsh(z @ z.transpose(1, 2)).clamp(min=tiny).sqrt().sum(dim=1)
