"""W-MSE: the distance of two views after whitening the batch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine
from tacit.ops.whitening import cholesky_whitened

__all__ = ["WMSE"]


@part("objective", "w-mse")
class WMSE(nn.Module):
    """Whiten each view of the batch, so that it cannot collapse, and pull the two views together.

        loss = mean_i (2 - 2 cosine(W_a a_i, W_b b_i)),  W the inverse Cholesky factor of the view's covariance

    The batch of all ranks is shuffled into sub-batches of at least `sub_batch` samples, the same for both views, and each is whitened
    by itself; the gradient flows through both views and both factors. A batch below twice that size stays whole, and then nothing
    is drawn. A sub-batch must have more samples than features; the paper takes at least twice as many.

    Values: in [0, 4], 0 for equal views; a rotation or another length of either view changes nothing. shrinkage, of the mean variance,
    keeps a collapsed batch finite. Source: arXiv 2007.06346; sub_batch 128 for 64 features (CIFAR).
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, sub_batch: Annotated[int, Ge(2)] = 128, shrinkage: Annotated[float, Gt(0)] = 1e-6) -> None:
        super().__init__()
        self.sub_batch, self.shrinkage = sub_batch, shrinkage

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The mean over all ranks, the same on each, under 'loss'."""
        demand_pairs("w-mse", a, b, ranks)
        m, d = a.shape[0] * ranks.size, a.shape[1]
        count = max(1, m // self.sub_batch)
        if m // count <= d:
            raise RecipeError(
                f"objective 'w-mse' whitens {d} features, which takes more than {d} samples in each sub-batch; found {m // count}: "
                "raise the batch size and sub_batch, or narrow the projector"
            )
        with without_autocast(a):
            order = torch.randperm(m, device=a.device) if count > 1 else None
            a, b = ranks.gather(full(a)), ranks.gather(full(b))
            if order is not None:
                if ranks.size > 1:
                    order = ranks.total(order if ranks.rank == 0 else torch.zeros_like(order))
                a, b = a[order], b[order]
            white = [
                torch.cat([cholesky_whitened(part, self.shrinkage) for part in z.tensor_split(count)]) for z in (a, b)
            ]
            return {"loss": (2 - 2 * cosine(*white)).mean()}

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"sub_batch={self.sub_batch}, shrinkage={self.shrinkage}"
