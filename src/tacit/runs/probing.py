"""Probe a representation with labels, beside its baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.protocols import Source
from tacit.core.values import Facts, Record
from tacit.models.features import POOLED
from tacit.probing import Records, evaluate, evaluate_multilabel, read_records, summary, write_records
from tacit.probing.frozen import is_frozen
from tacit.reports import Difference, Result, Table, verdict
from tacit.runs import anticipating, frozen, regressing, suite
from tacit.runs import target as targets
from tacit.runs.regressing import Regressed
from tacit.runs.tasks import label_table, tasks_of, test_split
from tacit.worlds.pdes.source import Trajectories

__all__ = ["FEW", "Probed", "probe_run", "probe_target", "results_of"]

FEW = (1, 5, 10)  # labels a class
PROTOCOLS = (
    "knn/k=20,t=0.07@1",
    "linear/all@1",
    *(text.format(k) for k in FEW for text in ("knn/k={0},t=0.07,{0}-per-class@1", "linear/{0}-per-class@1")),
)
NAMES = {"trained": "the learned features", "untrained": "the same encoder untrained", "raw pixels": "raw pixels"}
_BASELINES = ("raw pixels", "untrained")
_INTERVALS = "95 % (Student's t over draws of the labels; Wilson over items where all labels are used)"
_NUISANCE = ("knn/k=20,t=0.07@1", "linear/all@1")  # of named factors beside the label
_FACTOR = "#"  # stands between the name of a benchmark and that of a factor beside its label
_PIXELS = 1 << 14  # numbers an image or clip; more is no simple baseline


@dataclass(frozen=True)
class Probed:
    """Results with labels; `records` holds one row an item. `nuisances`: the same probes of named factors beside the label."""

    results: list[Result]
    records: Sequence[Record]
    nuisances: Mapping[str, list[Result]] = field(default_factory=dict)

    @property
    def table(self) -> Table:
        """The table of all results."""
        return Table(self.results, intervals=_INTERVALS)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"results": [_plain(result) for result in self.results]}
        if self.nuisances:
            found["nuisances"] = {name: [_plain(r) for r in results] for name, results in self.nuisances.items()}
        return found

    def text(self) -> str:
        """For people."""
        texts = [self.table.to_text().rstrip()]
        texts += [f"factor {table.title}\n{table.to_text().rstrip()}" for table in self.factor_tables()]
        return "\n\n".join(texts)

    def factor_tables(self) -> list[Table]:
        """A table for each named factor: what the features know beside the label."""
        return [Table(results, title=name, intervals=_INTERVALS) for name, results in self.nuisances.items()]


def probe_target(
    path: str | Path,
    overrides: Iterable[str] = (),
    *,
    seeds: int = 10,
    protocols: Sequence[str] = PROTOCOLS,
    factors: Sequence[str] = (),
    head: str | Path | None = None,
) -> Probed | Regressed:
    """Probe what `target.load` takes, or two files of features (`test=FILE`), and keep nothing.

    head: a published attentive probe to score as it is.
    """
    if targets.is_features(path):
        return _probe_files(Path(path), list(overrides), seeds, protocols)
    if any(anticipating.is_anticipation(name) for name in protocols):
        return Probed(*anticipating.anticipate(path, overrides, protocols, head=head))
    found = targets.load(path, overrides)
    if head is not None:
        if len(protocols) != 1 or not is_frozen(protocols[0]):
            raise DataError(
                f"{head}: name the one protocol that this head was trained for, for example --protocol vjepa2/16x2x3,step=4"
            )
        test = found.source(test_split(found))
        return _probed(
            frozen.head_records(
                found, test, protocols[0], head, run=str(found.folder), benchmark=_benchmark(found, test)
            )
        )
    if isinstance(found.source(), Trajectories):
        asked = None if protocols == PROTOCOLS else protocols
        return regressing.regress(found, seeds=seeds, protocols=asked, only=factors, keep=False)
    if (several := _several(found, baselines=True)) is not None:
        return several
    return _probed(_records(found, protocols, seeds, baselines=True, factors=factors))


def probe_run(
    folder: Path,
    *,
    seeds: int = 10,
    protocols: Sequence[str] = PROTOCOLS,
    baselines: bool = True,
    factors: Sequence[str] = (),
) -> Probed | Regressed:
    """Probe a run on the test split of its data and keep one row an item in its folder.

    Data with labels are classified; of solutions of differential equations the coefficients are regressed.
    """
    if any(anticipating.is_anticipation(name) for name in protocols):
        return Probed(*anticipating.anticipate(folder, (), protocols))
    found = targets.load(folder)
    if isinstance(found.source(), Trajectories):
        asked = None if protocols == PROTOCOLS else protocols
        if baselines:
            return regressing.regress(found, seeds=seeds, protocols=asked, only=factors)
        return regressing.regress(found, seeds=seeds, protocols=asked, baselines=False, tasks=("plain",))
    if (several := _several(found, baselines=baselines)) is not None:
        return several
    records = _records(found, protocols, seeds, baselines=baselines, factors=factors)
    write_records(folder, records)
    return _probed(records)


def results_of(folder: Path) -> Probed | Regressed | None:
    """What probe_run has kept, or None."""
    if not any((folder / "results").rglob("*.parquet")):
        return None
    records = read_records(folder / "results")
    return regressing.regressed(records) or _probed(records)


def _records(
    found: targets.Target, protocols: Sequence[str], seeds: int, *, baselines: bool, factors: Sequence[str] = ()
) -> Any:
    sources = {split: found.source(split) for split in ("train", test_split(found))}
    train, test = sources.values()
    models = {"trained": found}
    if baselines and found.built:
        models["untrained"] = targets.untrained(found)
    clips, protocols = (
        [name for name in protocols if is_frozen(name)],
        [name for name in protocols if not is_frozen(name)],
    )
    if clips:
        plain_pixels = frozen.pixels_of(found) if baselines and found.built and _simple(found.views.facts) else None
        read = frozen.frozen_records(
            models if plain_pixels is None else {"raw pixels": plain_pixels, **models},
            {"train": train, "test": test},
            clips,
            run=str(found.folder),
            benchmark=_benchmark(found, test),
        )
        if not protocols:  # no pass over the videos for pooled features
            return read
        others = _records(found, protocols, seeds, baselines=baselines, factors=factors)
        return Records.joined([read, others])
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
    benchmark = _benchmark(found, test)
    run = str(found.folder)
    plain = [name for name in protocols if not suite.beyond_pooled(name)]
    special = [name for name in protocols if suite.beyond_pooled(name)]
    given: Any = labels
    parts = (
        [evaluate(features, given, ids, protocols=plain, seeds=seeds, run=run, benchmark=benchmark)] if plain else []
    )
    if special:
        parts.append(
            suite.special_records(
                models, {"train": train, "test": test}, given, ids, special, seeds=seeds, run=run, benchmark=benchmark
            )
        )
    for name, both in tasks_of({"train": train, "test": test}, {"train": None, "test": None}, factors).items():
        beside = benchmark.replace("@", f"{_FACTOR}{name}@")
        parts.append(evaluate(features, both, ids, protocols=_NUISANCE, run=run, benchmark=beside))
    return Records.joined(parts)


def _benchmark(found: targets.Target, test: Source) -> str:
    kind = found.recipe.data.kind
    return "digits@1" if kind == "digits" else f"{kind}-{Path(str(getattr(test, 'path', 'data'))).name}@1"


def _simple(facts: Facts) -> bool:
    """Whether samples are of one size and small enough for pixels to be a baseline."""
    return facts.shape is not None and facts.channels * math.prod(facts.shape) <= _PIXELS


def _pixels(source: Source) -> Tensor | None:
    """Images or clips as rows [n c*h*w] in [0, 1], None where sizes differ or images are large."""
    if not _simple(source.facts):
        return None
    data = source.read(range(len(source))).views["image"].data
    if not isinstance(data, Tensor):
        return None
    return data.flatten(1).float() / (255.0 if data.dtype == torch.uint8 else 1.0)


def _probe_files(path: Path, texts: list[str], seeds: int, protocols: Sequence[str]) -> Probed:
    given = dict(text.partition("=")[::2] for text in texts)
    if set(given) != {"test"}:
        raise DataError(f"{path} is a file of features: name the file to test on, test=FILE, and nothing else")
    files = {"train": targets.read_features(path), "test": targets.read_features(given["test"])}
    for name, arrays in files.items():
        if "labels" not in arrays:
            raise DataError(f"the {name} file has no array 'labels': probing needs them; `tacit judge` does without")
    features = {path.stem: {name: arrays["features"] for name, arrays in files.items()}}
    labels = {name: arrays["labels"] for name, arrays in files.items()}
    if labels["train"].ndim == 2:
        return _multilabel(features, labels, None)
    return _probed(evaluate(features, labels, protocols=protocols, seeds=seeds, run=str(path)))


def _several(found: targets.Target, *, baselines: bool) -> Probed | None:
    """Mean average precision where the data have several labels a sample; None where they have one. Nothing is kept."""
    if "labels" not in found.source().facts.factors:
        return None
    sources = {"train": found.source("train"), "test": found.source(test_split(found))}
    tables = {split: label_table(source) for split, source in sources.items()}
    if any(table is None for table in tables.values()):
        return None
    models = {"trained": found}
    if baselines and found.built:
        models["untrained"] = targets.untrained(found)
    features = {
        model: {split: one.features(source).layers[POOLED] for split, source in sources.items()}
        for model, one in models.items()
    }
    return _multilabel(features, tables, "untrained" if "untrained" in features else None)


def _multilabel(features: Mapping[str, Mapping[str, Any]], targets_: Mapping[str, Any], baseline: str | None) -> Probed:
    """Mean average precision where a sample has several labels."""
    rows = evaluate_multilabel(features, targets_, baseline=baseline)
    results = [
        Result(
            model=row.model, protocol=row.protocol, value=row.value, low=row.low, high=row.high, n=row.n, chance=row.chance,
            differences=() if row.difference is None else (Difference(row.baseline, *row.difference),),
        )
        for row in rows
    ]  # fmt: skip
    return Probed(results, Records())


def _probed(records: Any) -> Probed:
    """The results of the label, and of each named factor beside it."""
    parts = {name: part for (name,), part in records.groups("benchmark").items()}
    label = {name: part for name, part in parts.items() if _FACTOR not in name}
    beside = {
        name.partition(_FACTOR)[2].partition("@")[0]: _results(part)
        for name, part in parts.items()
        if name not in label
    }
    whole = Records.joined(label.values()) if beside else records
    return Probed(_results(whole), records, beside)


def _results(records: Any) -> list[Result]:
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
    return results


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
