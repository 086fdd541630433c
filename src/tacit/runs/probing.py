"""Probe a representation with labels, beside its baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.protocols import Source
from tacit.core.values import Record
from tacit.models.features import POOLED
from tacit.probing import evaluate, read_records, summary, write_records
from tacit.reports import Difference, Result, Table, verdict
from tacit.runs import target as targets

__all__ = ["FEW", "Probed", "probe_run", "probe_target", "results_of"]

FEW = (1, 5, 10)  # labels a class
PROTOCOLS = (
    "knn/k=20,t=0.07@1",
    "linear/all@1",
    *(text.format(k) for k in FEW for text in ("knn/k={0},t=0.07,{0}-per-class@1", "linear/{0}-per-class@1")),
)
NAMES = {"trained": "the learned features", "untrained": "the same encoder untrained", "raw pixels": "raw pixels"}
_BASELINES = ("raw pixels", "untrained")
_PIXELS = 1 << 14  # numbers an image; more is no simple baseline


@dataclass(frozen=True)
class Probed:
    """Results with labels; `records` holds one row an item."""

    results: list[Result]
    records: Sequence[Record]

    @property
    def table(self) -> Table:
        """The table of all results."""
        return Table(
            self.results,
            intervals="95 % (Student's t over draws of the labels; Wilson over items where all labels are used)",
        )

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"results": [_plain(result) for result in self.results]}

    def text(self) -> str:
        """For people."""
        return self.table.to_text().rstrip()


def probe_target(path: str | Path, overrides: Iterable[str] = (), *, seeds: int = 10) -> Probed:
    """Probe what `target.load` takes, or two files of features (`test=FILE`), and keep nothing."""
    if targets.is_features(path):
        return _probe_files(Path(path), list(overrides), seeds)
    found = targets.load(path, overrides)
    return _probed(_records(found, PROTOCOLS, seeds, baselines=True))


def probe_run(folder: Path, *, seeds: int = 10, protocols: Sequence[str] = PROTOCOLS, baselines: bool = True) -> Probed:
    """Probe a run on the test split of its data and keep one row an item in its folder."""
    records = _records(targets.load(folder), protocols, seeds, baselines=baselines)
    write_records(folder, records)
    return _probed(records)


def results_of(folder: Path) -> Probed | None:
    """What probe_run has kept, or None."""
    if not any((folder / "results").rglob("*.parquet")):
        return None
    return _probed(read_records(folder / "results"))


def _records(found: targets.Target, protocols: Sequence[str], seeds: int, *, baselines: bool) -> Any:
    sources = {split: found.source(split) for split in ("train", _test_split(found))}
    train, test = sources.values()
    models = {"trained": found}
    if baselines and found.built:
        models["untrained"] = targets.untrained(found)
    features: dict[str, dict[str, Tensor]] = {}
    labels, ids = {}, {}
    for model, one in models.items():
        features[model] = {}
        for name, source in (("train", train), ("test", test)):
            extracted = one.features(source)
            features[model][name] = extracted.layers[POOLED]
            labels[name], ids[name] = extracted.labels, extracted.ids
    for name, known in labels.items():
        if known is None:
            raise DataError(f"the {name} data have no labels: probing needs them; `tacit judge` does without")
    if baselines:
        pixels = {name: _pixels(source) for name, source in (("train", train), ("test", test))}
        if all(value is not None for value in pixels.values()):
            features["raw pixels"] = pixels  # type: ignore[assignment]
    path = getattr(test, "path", "data")
    benchmark = (
        f"{found.recipe.data.kind}-{Path(str(path)).name}@1" if found.recipe.data.kind != "digits" else "digits@1"
    )
    return evaluate(features, labels, ids, protocols=protocols, seeds=seeds, run=str(found.folder), benchmark=benchmark)


def _test_split(found: targets.Target) -> str:
    """The split to test on: test, or what stands for it."""
    from tacit.core.errors import TacitError

    for split in ("test", "val"):
        try:
            found.source(split)
        except TacitError as error:
            fault = error
        else:
            return split
    raise DataError(f"probing needs a test split beside train: {fault}")


def _pixels(source: Source) -> Tensor | None:
    """Images as rows [n c*h*w] in [0, 1], None where sizes differ or images are large."""
    facts = source.facts
    if facts.shape is None or facts.channels * facts.shape[0] * facts.shape[1] > _PIXELS:
        return None
    data = source.read(range(len(source))).views["image"].data
    if not isinstance(data, Tensor):
        return None
    return data.flatten(1).float() / (255.0 if data.dtype == torch.uint8 else 1.0)


def _probe_files(path: Path, texts: list[str], seeds: int) -> Probed:
    given = dict(text.partition("=")[::2] for text in texts)
    if set(given) != {"test"}:
        raise DataError(f"{path} is a file of features: name the file to test on, test=FILE, and nothing else")
    files = {"train": targets.read_features(path), "test": targets.read_features(given["test"])}
    for name, arrays in files.items():
        if "labels" not in arrays:
            raise DataError(f"the {name} file has no array 'labels': probing needs them; `tacit judge` does without")
    features = {path.stem: {name: arrays["features"] for name, arrays in files.items()}}
    labels = {name: arrays["labels"] for name, arrays in files.items()}
    return _probed(evaluate(features, labels, protocols=PROTOCOLS, seeds=seeds, run=str(path)))


def _probed(records: Any) -> Probed:
    """The rows of the summary as results, each model with its paired difference to the baselines."""
    models = list(dict.fromkeys(row.model for row in summary(records)))
    differences: dict[tuple[str, str], list[Difference]] = {}
    for baseline in (b for b in _BASELINES if b in models):
        for row in summary(records, baseline=baseline):
            if row.difference is not None and row.model == "trained":
                d = row.difference
                differences.setdefault((row.protocol, row.model), []).append(
                    Difference(baseline, d.value, d.low, d.high)
                )
    order = {name: at for at, name in enumerate(PROTOCOLS)}
    columns = {name: at for at, name in enumerate(NAMES)}
    rows = sorted(
        summary(records), key=lambda row: (order.get(row.protocol, len(order)), columns.get(row.model, len(columns)))
    )
    results = [
        Result(
            model=row.model,
            protocol=row.protocol,
            value=row.accuracy,
            low=row.low,
            high=row.high,
            n=row.n,
            seeds=row.seeds,
            chance=row.chance,
            differences=tuple(differences.get((row.protocol, row.model), ())),
        )
        for row in rows
    ]
    return Probed(results, records)


def _plain(result: Result) -> dict[str, Any]:
    return {**vars(result), "differences": [vars(difference) for difference in result.differences]}


def in_words(probed: Probed) -> str:
    """The verdict of a table, on few labels where they were drawn."""
    protocol = next(
        (r.protocol for r in probed.results if r.protocol == "linear/5-per-class@1"), probed.results[0].protocol
    )
    opening = "With 5 labels a class, a linear probe" if "5-per-class" in protocol else "A probe"
    model = "trained" if any(r.model == "trained" for r in probed.results) else probed.results[0].model
    return verdict(probed.table, model=model, protocol=protocol, opening=opening, names=NAMES)
