"""VISReg: views meet, and the batch has the centre, the scale and the shape of a standard normal law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs, demand_views, mean_view
from tacit.ops.normality import directions, sliced_wasserstein
from tacit.ops.precision import full, without_autocast

__all__ = ["VISReg"]

Weight = Annotated[float, Ge(0)]


@part("objective", "visreg")
class VISReg(nn.Module):
    """Pull views to their mean, and regulate the centre, the scale and, along random slices, the shape of the batch.

        loss = (1 - weight) * mean over views, n and d of (z - mean of views)^2
             + weight * mean over views of [ centre * mean_d mu_d^2 + scale * mean_d (1 - sigma_d)^2 + shape * W ]

    mu and sigma (biased) are those of the m samples of all ranks. W is the mean over `slices` random directions of the squared Wasserstein
    distance of (z - mu) / (stop-gradient(sigma) + eps) to the normal quantiles i / (m + 1); the stopped gradient leaves the scale to its
    own term. The slices are those of rank 0 on every rank, and serve all views; the published code draws others on each. Of
    several views (`of_views`) the mean is that of the large ones.

    Source: arXiv 2606.02572; weight 0.9 (0.6 for small data), 4096 slices, equal weights inside, eps 1e-4.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"

    def __init__(
        self,
        *,
        weight: Annotated[float, Ge(0), Le(1)] = 0.9,
        slices: Annotated[int, Ge(1)] = 4096,
        centre: Weight = 1.0,
        scale: Weight = 1.0,
        shape: Weight = 1.0,
        eps: Annotated[float, Gt(0)] = 1e-4,
    ) -> None:
        super().__init__()
        self.weight, self.slices = weight, slices
        self.centre, self.scale, self.shape, self.eps = centre, scale, shape, eps

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("visreg", a, b, ranks)
        return self.of_views((a, b), (), ranks)

    def of_views(
        self, large: Sequence[Float[Tensor, "n d"]], small: Sequence[Float[Tensor, "n d"]] = (), ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The same for any number of views of the same samples."""
        views = [*large, *small]
        demand_views("visreg", views, ranks)
        with without_autocast(views[0]):
            views = [full(z) for z in views]
            middle = mean_view(views[: len(large)])
            axes = directions(views[0].shape[1], self.slices, views[0], ranks)
            m = views[0].shape[0] * ranks.size
            apart = ranks.total(torch.stack([(z - middle).square().mean() for z in views]).mean()) / ranks.size
            found = []
            for z in views:
                mu = ranks.total(z.sum(dim=0)) / m
                z = z - mu
                moment = ranks.total(z.square().sum(dim=0)) / m
                sigma = torch.sqrt(moment.clamp(min=1e-24))  # no slope at zero, where that of the root has no bound
                w = sliced_wasserstein(z / (sigma.detach() + self.eps), axes, ranks)
                found.append(torch.stack([mu.square().mean(), (1 - sigma).square().mean(), w]))
            centre, scale, shape = self.weight * torch.stack(found).mean(dim=0)
            terms = {
                "invariance": (1 - self.weight) * apart,
                "centre": self.centre * centre,
                "scale": self.scale * scale,
                "shape": self.shape * shape,
            }
            return {"loss": terms["invariance"] + terms["centre"] + terms["scale"] + terms["shape"], **terms}

    def extra_repr(self) -> str:
        """The settings, for print."""
        return (
            f"weight={self.weight}, slices={self.slices}, centre={self.centre}, scale={self.scale}, shape={self.shape}, "
            f"eps={self.eps}"
        )
