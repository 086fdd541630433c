"""Where to cut: probes of every layer of a network under one protocol after another, and the choice among them (arXiv 2206.13378).

The cut is chosen on held-out training samples; what the chosen one reaches is measured on the test samples, which had no part
in the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.intervals import Interval
from tacit.probing.arrays import as_features, as_labels, check_pair, check_unseen
from tacit.probing.evaluation import Row, bank, fit_head, recorded, summary
from tacit.probing.knn import knn
from tacit.probing.protocols import Protocol, Published, protocol
from tacit.probing.records import Records
from tacit.probing.subsets import as_ids

__all__ = ["LAYER_PROTOCOLS", "Cut", "Layers", "probe_layers"]

LAYER_PROTOCOLS = ("linear/all@1", "knn/k=20,t=0.07@1", "ridge/all@1", "linear/5-per-class@1")


@dataclass(frozen=True)
class Cut:
    """The answer for one task and protocol: where to cut, by held-out training samples.

    held_out: accuracy there; row: what it reaches on the test set. equal: layers whose paired difference to it is not clear of zero.
    gap: backbone minus embedding, paired; loss: backbone minus the chosen layer; both None where a layer is missing.
    """

    task: str
    protocol: str
    layer: str
    held_out: float
    row: Row
    equal: tuple[str, ...]
    gap: Interval | None
    loss: Interval | None


@dataclass(frozen=True)
class Layers:
    """Results of all layers, in the order of the pass. rows: model = layer, with the paired difference to the backbone."""

    names: tuple[str, ...]
    widths: Mapping[str, int]
    backbone: str
    embedding: str
    rows: tuple[Row, ...]
    cuts: tuple[Cut, ...]
    records: Records


def probe_layers(
    features: Mapping[str, Mapping[str, Any]],
    tasks: Mapping[str, Mapping[str, Any]],
    ids: Mapping[str, Any] | None = None,
    *,
    protocols: Sequence[str | Protocol | Published] = LAYER_PROTOCOLS,
    seeds: int = 5,
    backbone: str = "encoder",
    embedding: str = "projector",
    run: str = "",
) -> Layers:
    """Probe each layer for each task.

    features: layer -> {'train': [n d], 'test': [m d]} in the order of the pass. tasks: name -> {'train': labels [n], 'test': [m]}.
    Protocols that draw labels run under seeds 0 .. seeds - 1, with the same labels for every layer. A layer is chosen by its accuracy on
    held-out training samples (the folds of the probe; leave-one-out for k-NN and ridge; mean over seeds), of equals the deepest.
    """
    if not features or not tasks:
        raise DataError("probe_layers needs the features of at least one layer and the labels of at least one task")
    asked = [protocol(name) for name in protocols]
    tables: list[Records] = []
    held: dict[tuple[str, str, str], list[float]] = {}
    widths: dict[str, int] = {}
    for task, labels in tasks.items():
        y = {split: as_labels(labels.get(split), f"{task}: {split}") for split in ("train", "test")}
        check_unseen(y["train"], y["test"])
        item = {split: as_ids(ids.get(split) if ids else None, len(y[split]), split) for split in y}
        for layer, splits in features.items():
            z = {split: as_features(splits[split], f"{layer}: {split}") for split in y}
            for split in y:
                check_pair(z[split], y[split], f"{layer}: {split}")
            widths[layer] = z["train"].shape[1]
            for how in asked:
                for seed, made, held_out in _answers(how, z, y, item["train"], seeds):
                    held.setdefault((task, how.name, layer), []).append(held_out)
                    names: dict[str, Any] = {
                        "run": run,
                        "model": layer,
                        "benchmark": task,
                        "protocol": how.name,
                        "seed": seed,
                    }
                    tables.append(recorded(made, y["test"], item["test"], **names))
    records = Records.joined(tables)
    base = backbone if backbone in features else None
    rows = summary(records, baseline=base)
    cuts = [
        _cut(records, rows, held, list(features), task, how.name, base, embedding if embedding in features else None)
        for task in tasks
        for how in asked
    ]
    return Layers(
        tuple(features),
        widths,
        base or "",
        embedding if embedding in features else "",
        tuple(rows),
        tuple(cuts),
        records,
    )


def _answers(
    how: Protocol | Published, z: Mapping[str, Tensor], y: Mapping[str, Tensor], ids: NDArray[np.int64], seeds: int
) -> Iterator[tuple[int, Tensor, float]]:
    """(seed, prediction [m], accuracy on held-out training samples) of one layer under one protocol."""
    classes = int(y["train"].max()) + 1
    for seed in range(seeds if how.drawn else 1):
        x, t, own = bank(dict(z), dict(y), ids, how, seed)
        if isinstance(how, Protocol) and how.probe == "knn":
            made = knn(x, t, z["test"], k=how.k, temperature=how.temperature)[how.k].prediction
            held_out = knn(x, t, x, k=how.k, temperature=how.temperature, skip_self=True)[how.k].accuracy(t)
        else:
            fitted = fit_head(how, x, t, own, classes, seed)
            made, held_out = fitted.predict(z["test"]), fitted.held_out
        yield seed, made, held_out


def _cut(
    records: Records, rows: Sequence[Row], held: Mapping[tuple[str, str, str], list[float]], layers: Sequence[str], task: str,
    how: str, backbone: str | None, embedding: str | None,
) -> Cut:  # fmt: skip
    score = {
        layer: float(np.nanmean(held[task, how, layer])) if not _none(held[task, how, layer]) else 0.0
        for layer in layers
    }
    best = max(layers, key=lambda layer: (score[layer], layers.index(layer)))
    of_best = summary(records.only(benchmark=task, protocol=how), baseline=best)
    equal = [
        row.model for row in of_best if row.difference is not None and row.difference.low <= 0 <= row.difference.high
    ]
    mine = {row.model: row for row in rows if row.benchmark == task and row.protocol == how}
    gap = loss = None
    if backbone and embedding:
        there = mine[embedding].difference
        gap = None if there is None else _turned(there)
    if backbone and best != backbone:
        there = mine[best].difference
        loss = None if there is None else _turned(there)
    return Cut(task, how, best, score[best], mine[best], tuple(layer for layer in layers if layer in equal), gap, loss)


def _none(values: Sequence[float]) -> bool:
    return bool(torch.tensor(values).isnan().all())


def _turned(difference: Interval) -> Interval:
    return Interval(-difference.value, -difference.high, -difference.low)
