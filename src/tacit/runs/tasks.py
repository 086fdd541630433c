"""What can be predicted of data: class labels and named factors of few values (targets and nuisances)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tacit.core.errors import DataError, TacitError, UnknownNameError, unknown
from tacit.core.protocols import Source
from tacit.runs import target as targets

__all__ = ["label_table", "tasks_of", "test_split"]

_FACTOR = 200  # a factor of more values than this is no task of classes


def tasks_of(
    sources: Mapping[str, Source], labels: Mapping[str, Tensor | None], asked: Sequence[str] = ()
) -> dict[str, dict[str, Tensor]]:
    """Classes to predict: task -> split -> labels [n]; sources and labels are those of 'train' and 'test'.

    By default 'label' where it is known, and every named factor of few whole numbers. `asked` names others: a continuous factor
    becomes four classes of equal size on the training split, the task 'hue in 4'. A task whose test split shows what train lacks is
    left out.
    """
    known = sources["train"].facts.factors
    for name in asked:
        if name != "label" and name not in known:
            raise UnknownNameError(
                unknown("factor", name, ["label", *known], "Factors are what the data name beside the label.")
            )
    found = {}
    if all(y is not None and bool((y >= 0).all()) for y in labels.values()) and (not asked or "label" in asked):
        found["label"] = {split: y for split, y in labels.items() if y is not None}
    wanted = [name for name in known if not asked or name in asked]
    values = {split: _factors(source, wanted) for split, source in sources.items()} if wanted else {}
    for name in wanted:
        if not all(name in held for held in values.values()):
            continue
        train, test = values["train"][name], values["test"][name]
        if train.is_floating_point():
            if name in asked:
                edges = train.double().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
                found[f"{name} in 4"] = {
                    s: torch.bucketize(x.double(), edges) for s, x in (("train", train), ("test", test))
                }
        elif int(train.min()) >= 0 and int(train.max()) < _FACTOR:
            found[name] = {"train": train.to(torch.int64), "test": test.to(torch.int64)}
    return {task: both for task, both in found.items() if _usable(both)}


def label_table(source: Source, batch: int = 512) -> Tensor | None:
    """Several labels a sample, the factor 'labels' [n c] of whole numbers (PASCAL VOC); None where the data have none."""
    if "labels" not in source.facts.factors:
        return None
    parts = []
    for start in range(0, len(source), batch):
        facts = source.read(np.arange(start, min(start + batch, len(source)))).facts
        parts.append(facts["labels"].cpu())
    whole = torch.cat(parts)
    return whole.to(torch.int64) if whole.ndim == 2 and not whole.is_floating_point() else None


def _factors(source: Source, names: Sequence[str], batch: int = 512) -> dict[str, Tensor]:
    """The named factors of all samples, those that are one number a sample."""
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(source), batch):
        facts = source.read(np.arange(start, min(start + batch, len(source)))).facts
        for name in names:
            value = facts.get(name)
            if value is not None and value.ndim == 1:
                parts.setdefault(name, []).append(value.cpu())
    whole = {name: torch.cat(values) for name, values in parts.items()}
    return {name: value for name, value in whole.items() if len(value) == len(source)}


def _usable(both: Mapping[str, Tensor]) -> bool:
    """At least two values in train, and none in test that train lacks."""
    train, test = both["train"].unique(), both["test"].unique()
    return len(train) > 1 and bool(torch.isin(test, train).all())


def test_split(found: targets.Target) -> str:
    """The split to test on: test, or what stands for it."""
    for split in ("test", "val"):
        try:
            found.source(split)
        except TacitError as error:
            fault = error
        else:
            return split
    raise DataError(f"probing needs a test split beside train: {fault}")
