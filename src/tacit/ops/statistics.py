"""Statistics of embeddings, in float64. Every function is pure. Legend: z [n d], one sample per row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["Moments", "join", "mean_cosine", "moments", "require_finite", "unit_sum"]


class Moments(NamedTuple):
    """n, the mean [d] and the sum of squared deviations from it [d], in float64."""

    n: Tensor
    mean: Tensor
    deviation: Tensor

    def std(self) -> Tensor:
        """Unbiased standard deviation of each feature [d]; zero for a single sample."""
        return (self.deviation / (self.n - 1).clamp(min=1)).sqrt()


def require_finite(z: Tensor, what: str = "embeddings") -> None:
    """Raise DataError with the number of the first row of z [n d] that holds NaN or infinity."""
    good = torch.isfinite(z.sum() if z.numel() else z)  # one pass without a mask in the usual case
    if not bool(good.all()):
        bad = (~torch.isfinite(z)).flatten(1).any(dim=1)
        if bool(bad.any()):
            first = int(bad.nonzero()[0])
            raise DataError(
                f"{what} hold NaN or infinite values in {int(bad.sum())} of {len(z)} rows, first in row {first}: "
                "the model diverged or its input was not finite"
            )


def moments(z: Float[Tensor, "n d"]) -> Moments:
    """Mean and squared deviations of a chunk."""
    z = z.double()
    mean = z.mean(dim=0)
    return Moments(
        torch.tensor(float(len(z)), dtype=torch.float64, device=z.device), mean, (z - mean).square().sum(dim=0)
    )


def join(a: Moments, b: Moments) -> Moments:
    """Moments of both chunks together (Chan, Golub & LeVeque 1979): no cancellation where the mean is far from zero."""
    n = a.n + b.n
    gap = b.mean - a.mean
    share = b.n / n.clamp(min=1)
    return Moments(n, a.mean + gap * share, a.deviation + b.deviation + gap.square() * (a.n * share))


def unit_sum(z: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Sum of the rows of z at length one, in float64; rows of zeros count as zero."""
    z = z.double()
    return (z / z.norm(dim=1, keepdim=True).clamp(min=1e-300)).sum(dim=0)


def mean_cosine(total: Float[Tensor, " d"], n: int) -> float:
    """Mean cosine over all pairs of different samples, from the sum of n unit rows: (|total|^2 - n) / (n (n - 1))."""
    return (float(total.square().sum()) - n) / (n * (n - 1)) if n > 1 else float("nan")
