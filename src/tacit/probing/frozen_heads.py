"""Attentive heads on frozen tokens, trained at once; recall and the focal loss of EPIC-KITCHENS.

Legend: n samples, T tokens, g heads, c classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.random import order, torch_seed
from tacit.models.attentive_grid import AttentiveGrid
from tacit.probing.frozen import Frozen

__all__ = ["TokensOf", "class_mean_recall", "fit_heads", "focal_loss"]

TokensOf = Callable[[int, NDArray[np.int64]], tuple[Tensor, Any]]
"""Epoch and rows to tokens [n T d] and labels: int64 [n], or task -> int64 [n]."""


def fit_heads(
    tokens_of: TokensOf,
    rows: NDArray[np.int64],
    classes: int | Mapping[str, int],
    dim: int,
    how: Frozen,
    *,
    heads: int = 16,
    seed: int = 0,
    pairs: tuple[tuple[float, float], ...] | None = None,
) -> AttentiveGrid:
    """The heads of a protocol, each with its own AdamW, trained on the samples `rows`; a function of its arguments and of the tokens.

    Cross-entropy, or with several tasks the sum of their focal losses. heads falls to the largest number that divides dim. pairs: only
    these of the protocol's.
    """
    heads = max(h for h in range(1, min(heads, dim) + 1) if dim % h == 0)
    used = how.pairs if pairs is None else pairs
    place = [how.pairs.index(pair) for pair in used]
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(torch_seed(seed, "frozen"))
        grid = AttentiveGrid(dim, classes, heads=heads, depth=how.depth, pairs=used)
    batch = min(how.batch, len(rows))
    each = len(rows) // batch  # the rest of an epoch is left out, another one each time
    grid.train()
    for epoch in range(how.epochs):
        drawn = rows[order(seed, epoch, len(rows))]
        for at in range(each):
            x, y = tokens_of(epoch, drawn[at * batch : (at + 1) * batch])
            grid.to(x.device)
            grid.learn(x.float(), y) if isinstance(y, Tensor) else grid.learn(x.float(), y, _focal)
            progress = (epoch * each + at) / (how.epochs * each)
            rates, decays = how.rates(progress), how.decays(progress)
            grid.move([rates[i] for i in place], [decays[i] for i in place], clip=how.clip, exempt=how.paper == "vjepa")
    return grid.eval()


def _focal(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
    """[g]: the sum over tasks, samples and classes."""
    return torch.stack([focal_loss(logits[task], labels[task]) for task in logits]).sum(dim=0)


def focal_loss(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """[g] for logits [g n c] and labels [n]: sum over samples and classes of a_t (1 - p_t)^gamma bce, a_t = alpha where the class is right.

    Without alpha (< 0) and gamma = 0 it is the summed binary cross-entropy. Source: arXiv 1708.02002; V-JEPA 2 sums, too.
    """
    wanted = F.one_hot(labels, logits.shape[-1]).to(logits.dtype).expand_as(logits)
    p = logits.sigmoid()
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    loss = loss * (1 - (p * wanted + (1 - p) * (1 - wanted))) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * wanted + (1 - alpha) * (1 - wanted))
    return loss.sum(dim=(1, 2))


def class_mean_recall(scores: Tensor, labels: Tensor, k: int = 5) -> tuple[float, Tensor]:
    """The share of each class's samples [n] whose class is among the k highest of their scores [n c], averaged over the classes that occur;
    and which samples those are, bool [n]."""
    hit = (scores.topk(min(k, scores.shape[1]), dim=1).indices == labels[:, None]).any(dim=1)
    present, place = labels.unique(return_inverse=True)
    per = torch.zeros(len(present), dtype=torch.float64).index_add_(0, place.cpu(), hit.double().cpu())
    return float((per / torch.bincount(place.cpu())).mean()), hit
