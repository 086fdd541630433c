"""Regress the coefficients of differential equations from a representation, beside its baselines, on tasks of rising honesty.

plain: the first crop of every trajectory. crops: a random crop of each, other ones for test. range: labels in the lower three
quarters of a coefficient's range, test above it. family: trajectories from starts of another family than any in training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tacit.core.errors import UnknownNameError, unknown
from tacit.probing import METRICS, Records, RegressionRow, regression_summary, write_records
from tacit.reports import Difference, Result, Table
from tacit.runs import target as targets
from tacit.runs.regression_tasks import BENCHMARK, FEW, PROTOCOLS, Work

__all__ = ["FEW", "TASKS", "Regressed", "explained", "regress", "regressed"]

TASKS = ("plain", "crops", "range", "family")
_MODELS = ("trained", "untrained", "supervised", "statistics", "constant")
_BASELINES = ("untrained", "supervised", "statistics")
_SEEDS = 10


@dataclass(frozen=True)
class Regressed:
    """Errors of regression by task, factor, protocol and model; `records` holds one row an item."""

    records: Records
    _held: dict[tuple[str, str | None], list[RegressionRow]] = field(default_factory=dict, repr=False)

    def table(self, task: str, metric: str = "unexplained") -> Table:
        """The table of one task in one metric: rows are factors under protocols, columns models."""
        own = [row for row in self._rows(metric) if task_of(row.benchmark) == task]
        order = {name: at for at, name in enumerate(PROTOCOLS)}
        own.sort(key=lambda row: (row.factor, order.get(row.protocol, len(order)), _MODELS.index(row.model)))
        found: dict[tuple[str, str], list[Difference]] = {}
        for baseline in (b for b in _BASELINES if any(row.model == b for row in own)):
            for row in self._rows(metric, baseline):
                if row.difference is not None and row.model == "trained" and task_of(row.benchmark) == task:
                    if not np.isfinite(row.difference.low):
                        continue  # one seed in common has no interval
                    found.setdefault((row.factor, row.protocol), []).append(Difference(baseline, *row.difference))
        results = [
            Result(
                model=row.model,
                protocol=f"{row.factor}, {row.protocol}",
                value=row.value,
                low=row.low,
                high=row.high,
                n=row.n,
                seeds=row.seeds,
                differences=tuple(found.get((row.factor, row.protocol), ())) if row.model == "trained" else (),
            )
            for row in own
            if np.isfinite(row.low)
        ]
        return Table(
            results,
            title=f"Regression, task {task}: {metric}",
            lead=f"{TELLS[task]} {METRICS[metric][0].upper()}{METRICS[metric][1:]}. Less is better.",
            percent=False,
            higher=False,
            intervals="95 % (Student's t over draws of labels and first weights; over items where there is one seed)",
            absent="This task was not measured.",
        )

    def _rows(self, metric: str, baseline: str | None = None) -> list[RegressionRow]:
        if (metric, baseline) not in self._held:  # a summary of a hundred thousand rows takes a second
            self._held[metric, baseline] = regression_summary(self.records, metric=metric, baseline=baseline)
        return self._held[metric, baseline]

    @property
    def tasks(self) -> list[str]:
        """The tasks that were measured."""
        seen = dict.fromkeys(task_of(name) for name in self.records.column("benchmark").unique().to_pylist())
        return [task for task in TASKS if task in seen]

    @property
    def results(self) -> list[Result]:
        """What a sweep compares: the variance explained under each protocol of the task plain, mean over factors."""
        return explained(self._rows("unexplained"))

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**dataclasses.asdict(row), "difference": None} for row in self._rows("unexplained")]
        return {"results": [vars(r) | {"differences": []} for r in self.results], "errors": rows}

    def text(self) -> str:
        """For people: every task, then the published metrics of the first."""
        blocks = [(task, "unexplained") for task in self.tasks]
        blocks += [("plain", metric) for metric in self.published] if "plain" in self.tasks else []
        tables = [self.table(task, metric) for task, metric in blocks]
        return "\n\n".join(f"{table.title}. {table.lead}\n{table.to_text().rstrip()}" for table in tables)

    @property
    def published(self) -> tuple[str, ...]:
        """The metrics of the paper that apply: relative errors where no factor is near zero."""
        answers = np.array([float(a) for a in self.records.column("answer").unique().to_pylist()])
        positive = bool((answers > 1e-3 * np.abs(answers).max()).all())
        return ("nmse", "relative") if positive else ("nmse",)


TELLS = {
    "plain": "The first crop of every trajectory.",
    "crops": "A random crop of every trajectory, in training and, with other draws, in test.",
    "range": "Labels below the third quartile of the factor, test above it: extrapolation.",
    "family": "Test trajectories begin in another family of starts than any seen in training.",
}


def task_of(benchmark: str) -> str:
    """'factors/kdv/plain@1' -> 'plain'."""
    return benchmark.partition("@")[0].rpartition("/")[2]


def explained(rows: Sequence[RegressionRow]) -> list[Result]:
    """1 - mean square error over variance, averaged over factors, for every model and protocol of the task plain."""
    rows = [row for row in rows if task_of(row.benchmark) == "plain"]
    found = []
    for model, protocol in dict.fromkeys((row.model, row.protocol) for row in rows):
        own = [row for row in rows if (row.model, row.protocol) == (model, protocol) and np.isfinite(row.low)]
        if own:
            value, low, high = (
                1 - float(np.mean([getattr(row, end) for row in own])) for end in ("value", "high", "low")
            )
            found.append(
                Result(model=model, protocol=protocol, value=value, low=low, high=high, n=own[0].n, seeds=own[0].seeds)
            )
    return found


def regressed(records: Records) -> Regressed | None:
    """The part of a run's records that is of regression, or None."""
    names = [name for name in records.column("benchmark").unique().to_pylist() if name.startswith(BENCHMARK)]
    parts_ = [records.only(benchmark=name) for name in names]
    return Regressed(Records.joined(parts_)) if parts_ else None


def regress(
    found: targets.Target,
    *,
    seeds: int = _SEEDS,
    protocols: Sequence[str] | None = None,
    only: Sequence[str] = (),
    baselines: bool = True,
    tasks: Sequence[str] = TASKS,
    keep: bool = True,
    split: Literal["test", "valid"] = "test",
) -> Regressed:
    """Regress every factor that varies and is not given by the coordinates (or `only` some); keep one row an item in the folder.

    split: what is regressed on; 'valid' where a recipe is still being chosen.
    """
    work = Work(found, seeds, protocols, baselines, split)
    for name in only:
        if name not in work.y["train"]:
            raise UnknownNameError(unknown("factor that varies", name, work.y["train"]))
    if only:
        work.y = {split: {name: values[name] for name in only} for split, values in work.y.items()}
    made: list[Records] = []
    for task in tasks:
        made += getattr(work, task)()
    records = Records.joined(made)
    if keep:
        write_records(found.folder, records)
    return Regressed(records)
