"""Several labels a sample: one ridge probe a class, and mean average precision (VOC, COCO).

Legend: n training and m test samples, d features, c classes; targets are 0 or 1, -1 where a class is not annotated (VOC's "difficult").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.random import key
from tacit.ops.intervals import Interval
from tacit.probing.arrays import as_features
from tacit.probing.linear import Scale
from tacit.probing.ridge import PENALTIES, ridge_path

__all__ = ["MultiLabelRow", "average_precision", "evaluate_multilabel", "fit_multilabel"]

Points = Literal["all", "11"]


def as_targets(y: Any, name: str) -> Tensor:
    """Targets [n c] of 0, 1 and -1 (not annotated) as int64."""
    y = torch.as_tensor(y).detach().cpu()
    if y.ndim != 2 or y.is_floating_point():
        raise DataError(f"{name} targets must be whole numbers [samples classes], found {y.dtype} {list(y.shape)}")
    y = y.to(torch.int64)
    if bool(((y < -1) | (y > 1)).any()):
        raise DataError(
            f"{name} targets are 0 or 1, or -1 where a class is not annotated; found {int(y.min())} to {int(y.max())}"
        )
    return y


def average_precision(scores: Tensor, targets: Tensor, points: Points = "all") -> Tensor:
    """Average precision of each class [c] from scores [m c]; nan for a class without a positive.

    'all': sum over thresholds of precision times the gain in recall, one threshold for all equal scores, so that order among ties
    has no say. '11': the mean of the best precision at recall 0, 0.1, .. 1 or beyond (VOC 2007).
    """
    found = []
    for s, t in zip(scores.double().T, targets.T, strict=True):
        s, t = s[t >= 0], t[t >= 0]
        positives = int(t.sum())
        if not positives:
            found.append(float("nan"))
            continue
        order = s.argsort(descending=True, stable=True)
        s, hits = s[order], t[order].double().cumsum(0)
        last = torch.cat([s[1:] != s[:-1], torch.ones(1, dtype=torch.bool)])
        hits, seen = hits[last], torch.arange(1, len(s) + 1, dtype=torch.float64)[last]
        precision, recall = hits / seen, hits / positives
        if points == "11":
            levels = torch.arange(11, dtype=torch.float64) / 10
            best = [float(precision[recall >= level - 1e-12].max()) for level in levels]
            found.append(sum(best) / 11)
        else:
            found.append(float((precision * recall.diff(prepend=recall.new_zeros(1))).sum()))
    return torch.tensor(found, dtype=torch.float64)


def fit_multilabel(
    train: Any, targets: Any, *, penalties: Sequence[float] = PENALTIES
) -> tuple[Scale, Tensor, Tensor, float]:
    """Least squares on +1 / -1 targets of standardised features: scale, weights [d c], biases [c], and the chosen penalty.

    The penalty of highest mean average precision of the exact leave-one-out scores on the training set, of equals the largest.
    A class that is not annotated in a sample counts as half way between.
    """
    x, y = as_features(train, "train").double(), as_targets(targets, "train")
    if len(x) != len(y):
        raise DataError(
            f"train has {len(x)} features but {len(y)} rows of targets: they must describe the same samples"
        )
    if int((y == 1).any(dim=0).sum()) < 1 or len(x) < 3:
        raise DataError(
            "train targets hold no positive: a probe needs at least one class that occurs, and three samples"
        )
    scale = Scale.of(x)
    signed = torch.where(y < 0, 0.0, 2.0 * y - 1).double()
    grid = torch.tensor(sorted(penalties), dtype=torch.float64)
    weight, bias, left_out = ridge_path(scale(x), signed, grid)
    quality = torch.stack([average_precision(one, y).nanmean() for one in left_out])
    at = int((quality >= quality.max() - 1e-12).nonzero().max())
    return scale, weight[at], bias[at], float(grid[at])


@dataclass(frozen=True)
class MultiLabelRow:
    """mAP of a model in [0, 1] with its bootstrap interval over n test samples, over the classes that occur among them.

    per_class: AP of each class, nan where it does not occur. chance: mean share of positives. difference: paired, to `baseline`.
    """

    model: str
    protocol: str
    value: float
    low: float
    high: float
    n: int
    classes: int
    chance: float
    per_class: tuple[float, ...]
    baseline: str = ""
    difference: Interval | None = None


def evaluate_multilabel(
    features: Mapping[str, Mapping[str, Any]],
    targets: Mapping[str, Any],
    *,
    points: Points = "all",
    baseline: str | None = None,
    resamples: int = 300,
) -> list[MultiLabelRow]:
    """The mean average precision of each model's ridge probe. features: model -> {'train': [n d], 'test': [m d]}; targets: [n c], [m c].

    Intervals are 95 % percentile bootstraps over test samples, the same resamples for every model, so that differences are paired.
    """
    y = {split: as_targets(targets.get(split), split) for split in ("train", "test")}
    if y["train"].shape[1] != y["test"].shape[1]:
        raise DataError(
            f"train has {y['train'].shape[1]} classes and test {y['test'].shape[1]}: use splits of one label set"
        )
    m = len(y["test"])
    random = np.random.Generator(np.random.Philox(key=key("multilabel bootstrap")))
    draws = [torch.from_numpy(random.integers(0, m, m)) for _ in range(resamples)]
    held: dict[str, tuple[Tensor, list[float]]] = {}
    for model, splits in features.items():
        scale, weight, bias, _ = fit_multilabel(splits["train"], y["train"])
        x = as_features(splits["test"], f"{model}: test").double().cpu()
        if len(x) != m:
            raise DataError(
                f"{model}: test has {len(x)} features but {m} rows of targets: they must describe the same samples"
            )
        scores = torch.addmm(bias, scale(x), weight)
        again = [float(average_precision(scores[i], y["test"][i], points).nanmean()) for i in draws]
        held[model] = (average_precision(scores, y["test"], points), again)
    if baseline is not None and baseline not in held:
        raise DataError(f"the baseline {baseline!r} is not among the models {', '.join(held)}")
    known = y["test"] >= 0
    share = ((y["test"] == 1).sum(dim=0) / known.sum(dim=0).clamp(min=1)).double()
    share = share[(y["test"] == 1).any(dim=0)]
    rows = []
    for model, (per_class, again) in held.items():
        difference = None
        if baseline is not None and model != baseline:
            gaps = [a - b for a, b in zip(again, held[baseline][1], strict=True)]
            centre = float(per_class.nanmean() - held[baseline][0].nanmean())
            difference = _interval(centre, gaps)
        value = _interval(float(per_class.nanmean()), again)
        rows.append(
            MultiLabelRow(
                model, f"ridge-map/{points}-points@1", *value, n=m, classes=len(share), chance=float(share.mean()),
                per_class=tuple(per_class.tolist()), baseline=baseline or "" if difference else "", difference=difference,
            )
        )  # fmt: skip
    return rows


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    low, high = np.nanquantile(np.asarray(drawn), [0.025, 0.975])
    return Interval(value, min(float(low), value), max(float(high), value))
