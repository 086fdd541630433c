"""FroSSL: the Frobenius norm of each view's covariance down, the views together."""

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
from tacit.ops.similarity import unit

__all__ = ["FroSSL"]


@part("objective", "frossl")
class FroSSL(nn.Module):
    """Flatten the spectrum of each view by the logarithm of its Frobenius norm, and pull views to their mean.

        loss = sum over views of log ||C / tr C||_F^2 + invariance * v d * sum over the v views of mean_n,d (z - mean of views)^2

    C = Z^T Z of all m samples, or Z Z^T where m < d: the same norm and trace. normalise 'dimensions': each feature has norm one
    over the batch (the paper); 'samples': each row has norm one (its later code), and then a rotation changes nothing.
    Values per view: -log min(m, d) for a flat spectrum, the least, and 0 at rank one. Source: arXiv 2310.02903.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(
        self,
        *,
        invariance: Annotated[float, Ge(0)] = 1.0,
        normalise: Literal["dimensions", "samples"] = "dimensions",
    ) -> None:
        super().__init__()
        self.invariance, self.normalise = invariance, normalise

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Entropy and invariance over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("frossl", a, b, ranks)
        return self.of_views((a, b), (), ranks)

    def of_views(
        self, large: Sequence[Float[Tensor, "n d"]], small: Sequence[Float[Tensor, "n d"]] = (), ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The same for any number of views of the same samples, large and small alike."""
        views = [*large, *small]
        demand_views("frossl", views, ranks)
        with without_autocast(views[0]):
            views = [self._scaled(full(z), ranks) for z in views]
            centre = mean_view(views)
            spread = torch.stack([_norm(z, ranks) for z in views]).sum()
            apart = ranks.total(torch.stack([(z - centre).square().mean() for z in views]).sum()) / ranks.size
            met = self.invariance * len(views) * views[0].shape[1] * apart
            return {"loss": spread + met, "entropy": spread, "invariance": met}

    def _scaled(self, z: Tensor, ranks: Ranks) -> Tensor:
        if self.normalise == "samples":
            return unit(z)
        return z * torch.rsqrt(ranks.total(z.square().sum(dim=0)).clamp(min=1e-24))

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"invariance={self.invariance}, normalise={self.normalise!r}"


def _norm(z: Tensor, ranks: Ranks) -> Tensor:
    """log ||G / tr G||_F^2 of the Gram matrix G of `z`."""
    gram = smaller_gram(z, ranks)
    return torch.log(gram.square().sum(dim=1).sum()) - 2 * torch.log(gram.diagonal().sum())
