"""Logistic regression as scikit-learn and cuML write it, over a grid of C: what DINOv2 evaluates cached features with.

    C * sum of cross entropies + |w|^2 / 2,   the bias not penalised

Legend: n samples, d features, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tacit.probing.arrays import as_features, as_labels, check_pair, check_unseen
from tacit.probing.linear import Fitted, Scale, logistic_heads
from tacit.probing.subsets import as_ids, share

__all__ = ["STRENGTHS", "fit_strengths"]

STRENGTHS = tuple(10 ** (-6 + 11 * i / 44) for i in range(45))  # C
_CHOICE, _END = (200, 1e-6), (1000, 1e-12)  # iterations and tolerance, for the choice of C and for the fit that stays


def fit_strengths(
    train: Any,
    labels: Any,
    *,
    ids: Any = None,
    classes: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Fitted:
    """Fit to features [n d], in float64 and as they are; C chosen on a tenth of each class, then refitted on all.

    The tenth is a function of (seed, ids), at least one sample of each class; of equal accuracies the smallest C is taken. Where some
    class has a single sample nothing can be held out, and C is 1. All C share one pass of the solver.
    """
    x, y = as_features(train, "train").double(), as_labels(labels, "train")
    check_pair(x, y, "train")
    check_unseen(y, y)
    c, grid = classes or int(y.max()) + 1, torch.tensor(sorted(strengths), dtype=torch.float64, device=x.device)
    y, held_out, counts = y.to(x.device), float("nan"), torch.bincount(y)
    chosen = grid if len(grid) == 1 else torch.ones_like(grid[:1])
    if len(grid) > 1 and int(counts[counts > 0].min()) > 1:
        inside = torch.zeros(len(y), dtype=torch.bool)
        inside[torch.from_numpy(share(y.cpu().numpy(), as_ids(ids, len(y)), 10.0, seed))] = True
        inside = inside.to(x.device)
        weight, bias = _fit(x[~inside], y[~inside], grid, c, *_CHOICE)
        right = (torch.einsum("nd,hcd->nhc", x[inside], weight) + bias).argmax(dim=2) == y[inside, None]
        accuracy = right.double().mean(dim=0)
        at = int(accuracy.argmax())
        chosen, held_out = grid[at : at + 1], float(accuracy[at])
    weight, bias = _fit(x, y, chosen, c, *_END)
    return Fitted(
        Scale(torch.zeros_like(x[0]), torch.ones_like(x[0])), weight[0], bias[0], {"C": float(chosen)}, held_out
    )


def _fit(
    x: torch.Tensor, y: torch.Tensor, strengths: torch.Tensor, classes: int, iterations: int, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    penalties = 1 / (strengths * len(x))
    return logistic_heads(x, y, penalties, classes, iterations=iterations, tolerance=tolerance)
