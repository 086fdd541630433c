"""EMP-SSL: the total coding rate up, the views of one image together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs, demand_views, mean_view
from tacit.ops.duality import smaller_gram
from tacit.ops.gradients import known, wanted
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine, unit

__all__ = ["EMP"]


@part("objective", "emp")
class EMP(nn.Module):
    """Maximise the coding rate of each view and the agreement of views with their mean.

        loss = -mean over views of 1/2 logdet(I + d / (m eps) U^T U) - invariance * mean over views and i of cosine(u_i, mean of views)

    U are the unit rows of all m samples; the determinant is taken on the smaller of [d d] and [m m], where it is the same. The rate
    is maximised: one public port returns it with the other sign, and collapses. Values: unchanged by a rotation of all
    embeddings; -1/2 log(1 + d / eps) - invariance at collapse. Source: arXiv 2304.03977; invariance 200, eps 0.2.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(self, *, invariance: Annotated[float, Ge(0)] = 200.0, eps: Annotated[float, Gt(0)] = 0.2) -> None:
        super().__init__()
        self.invariance, self.eps = invariance, eps

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Coding rate and invariance over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("emp", a, b, ranks)
        return self.of_views((a, b), (), ranks)

    def of_views(
        self, large: Sequence[Float[Tensor, "n d"]], small: Sequence[Float[Tensor, "n d"]] = (), ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The same for any number of views of the same samples, large and small alike: the authors take up to 200 patches."""
        views = [*large, *small]
        demand_views("emp", views, ranks)
        with without_autocast(views[0]):
            views = [unit(full(z)) for z in views]
            rate = torch.stack([self._rate(u, ranks) for u in views]).mean()
            centre = mean_view(views)
            agreement = (centre * unit(centre)).sum(dim=1).mean()
            met = -self.invariance * ranks.total(agreement) / ranks.size
            return {"loss": met - rate, "coding_rate": -rate, "invariance": met}

    def _rate(self, u: Tensor, ranks: Ranks) -> Tensor:
        """1/2 logdet(I + G), G = d / (m eps) U^T U, from the Cholesky factor; its gradient is 1/2 (I + G)^-1."""
        gram = smaller_gram(u, ranks) * (u.shape[1] / (u.shape[0] * ranks.size * self.eps))
        keep = wanted(gram)
        with torch.no_grad():
            one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            factor = torch.linalg.cholesky_ex(gram + one).L  # positive by construction: nothing to check on the host
            rate = torch.log(factor.diagonal()).sum()
            slopes = [(gram, torch.cholesky_inverse(factor) / 2)] if keep else []
        return known("the coding rate", rate, *slopes)

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return 1 - cosine(full(a), full(b))

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"invariance={self.invariance}, eps={self.eps}"
