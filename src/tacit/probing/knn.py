"""k-nearest-neighbour classification of features by cosine, all k in one pass (DINO's protocol, arXiv 2104.14294)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.neighbours import nearest, unit_rows, votes
from tacit.probing.arrays import as_features, as_labels, check_pair

__all__ = ["Neighbours", "knn"]


@dataclass(frozen=True)
class Neighbours:
    """What k neighbours say of q queries: the class of most votes [q], its share of the votes [q], the best five classes [q min(5, c)]."""

    prediction: Tensor
    score: Tensor
    top: Tensor

    def accuracy(self, labels: Any, best: int = 1) -> float:
        """Share of the queries whose label is among the `best` classes of most votes (1 to 5)."""
        y = as_labels(labels, "test").to(self.top.device)
        check_pair(self.top, y, "test")
        return float((self.top[:, :best] == y[:, None]).any(dim=1).double().mean())


def knn(
    train: Any,
    labels: Any,
    test: Any,
    *,
    k: int | Sequence[int] = (1, 5, 10, 20, 200),
    temperature: float = 0.07,
    chunk: int | None = None,
    skip_self: bool = False,
) -> dict[int, Neighbours]:
    """Classify test [q d] by the k most similar rows of train [n d], for every k asked for.

    Neighbours vote exp(cosine / temperature); an infinite temperature is the majority vote. The classes are 0 .. the largest
    label of the bank, whatever the test set holds. k beyond the bank is the whole bank. Ties go to the lower class: the result
    does not depend on the order of the bank. `skip_self`: test is train, and no sample is its own neighbour.
    Features may lie on any device; the product runs there in float32 (float64 features in float64).
    """
    bank, queries, y = as_features(train, "train"), as_features(test, "test"), as_labels(labels, "train")
    check_pair(bank, y, "train")
    if bank.shape[1] != queries.shape[1]:
        raise DataError(
            f"train features have width {bank.shape[1]} and test features {queries.shape[1]}: use one model and layer"
        )
    asked = [k] if isinstance(k, int) else list(k)
    if not asked or min(asked) < 1:
        raise DataError(f"k must name at least one number of neighbours, each at least 1, found {asked}")
    if not temperature > 0:
        raise DataError(f"the temperature must be above 0, found {temperature}: DINO uses 0.07")
    if skip_self and len(bank) != len(queries):
        raise DataError(f"skip_self needs test to be train, found {len(queries)} and {len(bank)} rows")
    limit = len(bank) - skip_self
    if limit < 1:
        raise DataError("skip_self leaves no neighbour in a bank of one row: give at least two")
    dtype = torch.promote_types(bank.dtype, queries.dtype)
    by_class = y.argsort(stable=True)  # so that the lower bank index is the lower class
    y = y[by_class].to(queries.device)
    bank = unit_rows(bank.to(dtype)[by_class])
    queries = unit_rows(queries.to(dtype))
    if skip_self:
        queries = queries[by_class]
    classes = int(y.max()) + 1
    ks = sorted({min(one, limit) for one in asked})
    q, five = len(queries), min(5, classes)
    tops = {one: torch.empty(q, five, dtype=torch.int64, device=queries.device) for one in ks}
    shares = {one: torch.empty(q, device=queries.device) for one in ks}
    bits = max(1, (classes - 1).bit_length())
    for block, similarity, index in nearest(bank, queries, ks[-1], chunk=chunk, skip_self=skip_self):
        for one, count in votes(similarity, y[index], classes, ks, temperature):
            best = count.topk(five, dim=1).values
            tops[one][block] = classes - 1 - (best & ((1 << bits) - 1))
            shares[one][block] = ((best[:, 0] >> bits).double() / (count >> bits).sum(dim=1)).float()
    if skip_self:
        back = by_class.argsort().to(queries.device)
        tops = {one: top[back] for one, top in tops.items()}
        shares = {one: share[back] for one, share in shares.items()}
    found = {one: Neighbours(tops[one][:, 0], shares[one], tops[one]) for one in ks}
    return {one: found[min(one, limit)] for one in asked}
