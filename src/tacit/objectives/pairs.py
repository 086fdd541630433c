"""What every criterion on two views, or on several, demands of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from torch import Tensor

from tacit.core.errors import RecipeError
from tacit.core.ranks import Ranks

__all__ = ["demand_pairs", "demand_views", "mean_view"]


def demand_pairs(kind: str, a: Tensor, b: Tensor, ranks: Ranks) -> None:
    """Refuse views that do not pair up, and batches too small for a statistic over samples."""
    if a.shape != b.shape or a.ndim != 2:
        raise RecipeError(
            f"objective {kind!r} compares two views of the same samples, each [n d]; "
            f"found {list(a.shape)} and {list(b.shape)}: embed both views with the same projector"
        )
    n = a.shape[0] * ranks.size
    if n < 2:
        raise RecipeError(
            f"objective {kind!r} needs at least 2 samples over all ranks, found {n}: raise the batch size"
        )


def demand_views(kind: str, views: Sequence[Tensor], ranks: Ranks) -> None:
    """The same for two views or more."""
    for view in views[1:]:
        demand_pairs(kind, views[0], view, ranks)


def mean_view(views: Sequence[Tensor]) -> Tensor:
    """Where the views of each sample meet [n d]."""
    return reduce(Tensor.add, views) / len(views)
