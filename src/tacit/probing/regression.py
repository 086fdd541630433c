"""Regression of continuous factors: several models under several protocols, one Record per test item and factor; their summary.

Legend: n training samples, m test samples, d features, k factors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.values import Record
from tacit.ops.intervals import Interval, paired_interval, t_interval
from tacit.probing.arrays import as_features
from tacit.probing.linear import Scale
from tacit.probing.mlp import fit_mlp
from tacit.probing.records import Records
from tacit.probing.ridge import ridge_path
from tacit.probing.subsets import as_ids, low_shot

__all__ = [
    "METRICS",
    "Regression",
    "RegressionRow",
    "evaluate_regression",
    "fit_regression",
    "regression",
    "regression_summary",
]

PENALTIES = tuple(10.0 ** (e / 2) for e in range(-14, 9))  # 1e-7 .. 1e4, on standardised features and the mean square
_VERSION = 1
_TEXT = {
    "linear": (
        "ridge regression on features standardised by training statistics; for each factor the penalty of least exact "
        "leave-one-out error, 1e-7 .. 1e4, all from one eigendecomposition"
    ),
    "mlp": (
        "a network of two hidden layers of 128 on features standardised by training statistics, AdamW, stopped by a held-out fifth "
        "of train"
    ),
}
METRICS = {
    "unexplained": "mean square error over the variance of the factor on the test items: 0 is perfect, their mean reaches 1",
    "nmse": "mean square error over the mean square of the factor: the NMSE of arXiv 2307.05432 with the target below",
    "relative": "mean of |prediction - factor| / |factor|",
}


@dataclass(frozen=True)
class Regression:
    """How features are turned into numbers. `labels` None learns from all of train, a number from that many drawn for each seed."""

    head: Literal["linear", "mlp"]
    labels: int | None = None

    @property
    def name(self) -> str:
        """The name that reads back equal, for example 'linear/50-labels@1'."""
        return f"{self.head}/{f'{self.labels}-labels' if self.labels else 'all'}@{_VERSION}"

    @property
    def text(self) -> str:
        """What is done, for reports."""
        few = f"; {self.labels} labels, drawn anew for each seed and the same for every model" if self.labels else ""
        return _TEXT[self.head] + few

    @property
    def drawn(self) -> bool:
        """Whether the outcome depends on the seed."""
        return self.labels is not None or self.head == "mlp"


def regression(name: str | Regression) -> Regression:
    """Read a protocol's name; the version may be left out."""
    if isinstance(name, Regression):
        return name
    found = re.fullmatch(r"(linear|mlp)/(all|([1-9]\d*)-labels)(?:@(\d+))?", name)
    if not found:
        raise UnknownNameError(
            f"no protocol of regression named {name!r}. Known forms: linear/all@1, linear/50-labels@1, mlp/all@1, mlp/50-labels@1."
        )
    if found[4] and int(found[4]) != _VERSION:
        raise UnknownNameError(f"protocol {name!r} asks for version {found[4]}, this is version {_VERSION}")
    return Regression(found[1], int(found[3]) if found[3] else None)  # type: ignore[arg-type]


def fit_regression(x: Any, y: Any, group: int = 1) -> Callable[[Any], Tensor]:
    """Ridge from features x [n d] to factors y [n k], a penalty for each factor by leave-one-out; features [m d] -> [m k].

    group: so many rows in a row are views of one sample, which are left out together.
    """
    x = as_features(x, "train")
    y = _as_targets(y, len(x), "train").to(x.device)
    scale = Scale.of(x)
    grid = torch.tensor(PENALTIES, dtype=torch.float64, device=x.device)
    weight, bias, left_out = ridge_path(scale(x.double()), y, grid, group)
    best = (left_out - y).square().mean(dim=1).argmin(dim=0)  # [k]
    every = torch.arange(y.shape[1], device=x.device)
    w, b = weight[best, :, every].T, bias[best, every]

    def predict(z: Any) -> Tensor:
        return scale(as_features(z, "test").double().to(w.device)) @ w + b

    return predict


def _as_targets(y: Any, n: int, name: str) -> Tensor:
    y = torch.as_tensor(y).detach().double()
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or len(y) != n:
        raise DataError(f"{name} factors must be [samples factors] for {n} samples, found {list(y.shape)}")
    if not bool(y.isfinite().all()):
        raise DataError(
            f"{name} factors hold {int((~y.isfinite()).sum())} values that are not finite: leave those samples out"
        )
    return y


Direct = Callable[[NDArray[np.int64], int], Tensor]
"""(rows of train, seed) -> predictions [m k]: a model that learns from the labels itself."""


def evaluate_regression(
    features: Mapping[str, Mapping[str, Any]],
    targets: Mapping[str, Mapping[str, Any]],
    ids: Mapping[str, Any] | None = None,
    *,
    direct: Mapping[str, Direct] | None = None,
    protocols: Sequence[str | Regression] = ("linear/all@1",),
    seeds: int = 10,
    direct_seeds: int | None = None,
    run: str = "",
    benchmark: str = "factors@1",
) -> Records:
    """One Record per test item, factor (its `group`), protocol, seed and model; `score` is the squared error.

    features: model -> {'train': [n d] or, with c views of each sample, [n c d], 'test': [m d]}. targets: {'train': {factor:
    [n]}, 'test': {factor: [m]}}. direct: models that learn from the labels themselves, under the linear protocols (their last
    map is linear). They and the deep probe, which take longer, have at most `direct_seeds` seeds. 'constant', the mean of the
    labels that a protocol gives, is always among them.
    """
    names = list(targets["train"])
    if not names:
        raise DataError("regression needs at least one factor, found none")
    y = {s: torch.stack([torch.as_tensor(targets[s][k]).double() for k in names], dim=1) for s in ("train", "test")}
    y = {split: _as_targets(value, len(value), split) for split, value in y.items()}
    item = {split: as_ids(ids.get(split) if ids else None, len(y[split]), split) for split in y}
    asked = [regression(one) for one in protocols]
    for how in asked:
        if how.labels and how.labels > len(y["train"]):
            raise DataError(f"{how.labels} labels were asked for and train has {len(y['train'])}: ask for fewer")
    rows = {(how.labels, seed): _rows(how.labels, item["train"], seed) for how in asked for seed in range(seeds)}
    found: list[tuple[str, str, int, Tensor]] = []
    most = seeds if direct_seeds is None else min(seeds, direct_seeds)
    for model, split in features.items():
        x, views = _grouped(split["train"], f"{model}: train")
        z = as_features(split["test"], f"{model}: test")
        for what, count in (("train", len(x) // views), ("test", len(z))):
            if count != len(y[what]):
                raise DataError(
                    f"{model}: {what} has {count} features but {len(y[what])} factors: use the same samples"
                )
        for how in asked:
            for seed in range((most if how.head == "mlp" else seeds) if how.drawn else 1):
                at = torch.from_numpy(rows[how.labels, seed])
                chosen = (at[:, None] * views + torch.arange(views)).flatten()
                a, b = x[chosen], y["train"][at].repeat_interleave(views, dim=0)
                fit = fit_regression(a, b, views) if how.head == "linear" else fit_mlp(a, b, seed=seed, group=views)
                found.append((model, how.name, seed, fit(z)))

    def mean(at: NDArray[np.int64], seed: int) -> Tensor:  # noqa: ARG001
        return y["train"][torch.from_numpy(at)].mean(dim=0).expand(len(y["test"]), -1)

    for model, learn_direct in {**(direct or {}), "constant": mean}.items():
        draws = seeds if model == "constant" else most
        for how in asked:
            if how.head == "linear":
                for seed in range(draws if how.drawn else 1):
                    found.append((model, how.name, seed, learn_direct(rows[how.labels, seed], seed)))
    tables = []
    words = [str(i) for i in item["test"].tolist()]
    for model, protocol, seed, prediction in found:
        p = prediction.double().cpu()
        for j, name in enumerate(names):
            truth = y["test"][:, j]
            tables.append(
                Records.of(
                    len(truth),
                    run=run,
                    model=model,
                    benchmark=benchmark,
                    protocol=protocol,
                    item=words,
                    group=name,
                    prediction=[f"{v:.9g}" for v in p[:, j].tolist()],
                    answer=[f"{v:.9g}" for v in truth.tolist()],
                    score=(p[:, j] - truth).square().tolist(),
                    seed=seed,
                )
            )
    return Records.joined(tables)


def _grouped(x: Any, name: str) -> tuple[Tensor, int]:
    """Training features as rows, the views of a sample one after another, and how many views a sample has."""
    x = torch.as_tensor(x)
    views = x.shape[1] if x.ndim == 3 else 1
    return as_features(x.flatten(0, 1) if x.ndim == 3 else x, name), views


def _rows(labels: int | None, ids: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if labels is None:
        return np.arange(len(ids))
    return low_shot(np.zeros(len(ids), dtype=np.int64), ids, labels, seed)


@dataclass(frozen=True)
class RegressionRow:
    """A number with its card: an error (lower is better) with its interval, over n test items and some seeds.

    `difference` is it minus that of `baseline` on the same items and seeds; None for the baseline itself or without one.
    """

    benchmark: str
    protocol: str
    factor: str
    model: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    seeds: int
    baseline: str = ""
    difference: Interval | None = None


def regression_summary(
    records: Sequence[Record], *, metric: str = "unexplained", baseline: str | None = None, level: float = 0.95
) -> list[RegressionRow]:
    """One row per benchmark, protocol, factor and model.

    Interval: Student's over the items for one seed, over the seeds' means for several. Difference to `baseline`: paired over the
    items, or over the seeds that both have.
    """
    if metric not in METRICS:
        raise UnknownNameError(unknown("metric of regression", metric, METRICS))
    table = records if isinstance(records, Records) else Records(records)
    cells = {k: _cell(part, metric) for k, part in table.groups("benchmark", "protocol", "group", "model").items()}
    rows = []
    for (benchmark, protocol, factor, model), grid in cells.items():
        value = t_interval(grid[0] if len(grid) == 1 else grid.mean(axis=1), level)
        other = cells.get((benchmark, protocol, factor, baseline or ""))
        difference = None
        if other is not None and model != baseline and grid.shape[1] == other.shape[1]:
            both = min(len(grid), len(other))
            pair = (grid[0], other[0]) if both == 1 else (grid[:both].mean(axis=1), other[:both].mean(axis=1))
            difference = paired_interval(*pair, level)
        rows.append(
            RegressionRow(
                benchmark, protocol, factor, model, metric, *value, n=grid.shape[1], seeds=len(grid),
                baseline=(baseline or "") if difference else "", difference=difference,
            )
        )  # fmt: skip
    return rows


def _cell(part: Records, metric: str) -> NDArray[np.float64]:
    """The error of every item and seed in units of the metric: [seeds items]."""
    seed = part.table["seed"].to_numpy()
    answer = np.array([float(a) for a in part.column("answer").to_pylist()])
    prediction = np.array([float(a) for a in part.column("prediction").to_pylist()])
    many = len(np.unique(seed))
    order = np.lexsort((np.array(part.column("item").to_pylist()), seed))
    y, p = answer[order].reshape(many, -1), prediction[order].reshape(many, -1)
    if metric == "relative":
        if bool((y == 0).any()):
            raise DataError("a relative error needs factors that are not zero: use the metric 'unexplained'")
        return np.abs(p - y) / np.abs(y)
    below = y[0].var() if metric == "unexplained" else np.square(y[0]).mean()
    if below == 0:
        raise DataError("the factor does not vary over the test items: there is nothing to regress")
    return np.square(p - y) / below
