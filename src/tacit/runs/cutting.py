"""Probe every layer of a network in one pass over the data, and say where to cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Source
from tacit.models.features import cached
from tacit.models.taps import Pool, Taps, default_cuts, matching
from tacit.ops.intervals import Interval
from tacit.probing.evaluation import Row
from tacit.probing.layers import LAYER_PROTOCOLS, Layers, probe_layers
from tacit.probing.records import Records
from tacit.reports import Answer, Difference, LayerCurves, Result
from tacit.runs import target as targets
from tacit.runs.tasks import tasks_of, test_split
from tacit.training.disk import write_json
from tacit.training.runtime import choose_device

__all__ = ["LayerProbe", "cut_target", "read_layers", "result_of"]


@dataclass(frozen=True)
class LayerProbe:
    """What was found, as a section of a report; `records` holds one row an item, `kept`: whether it lies in the run's folder."""

    section: LayerCurves
    records: Records
    plot: Path | None = None
    kept: bool = False

    def to_plain(self) -> dict[str, Any]:
        """For JSON, and to be read back."""
        s = self.section
        return {
            "layers": list(s.layers),
            "widths": dict(s.widths or {}),
            "backbone": s.backbone,
            "embedding": s.embedding,
            "results": {task: [_plain(r) for r in results] for task, results in s.results.items()},
            "answers": [{**asdict(a), "result": _plain(a.result), "equal": list(a.equal)} for a in s.answers],
        }

    def text(self) -> str:
        """For people."""
        return self.section.to_text() + (f"\nplot: {self.plot}" if self.plot else "")


def cut_target(
    path: str | Path,
    overrides: Iterable[str] = (),
    *,
    globs: Sequence[str] = (),
    tasks: Sequence[str] = (),
    protocols: Sequence[str] = LAYER_PROTOCOLS,
    seeds: int = 5,
    plot: str | Path | None = None,
) -> LayerProbe:
    """Probe every layer of encoder and projector of a run, or of an outside model's encoder, on labels and discrete factors.

    `globs` choose other modules by name (`encoder.blocks.*`), `tasks` what is predicted: 'label' and factors by name, continuous ones
    in four classes. All layers come from one pass over each split, and from the cache
    the next time. Of a run on its own data and all its layers the result is kept in layers.json beside a plot.
    """
    texts = list(overrides)
    if targets.is_features(path):
        raise RecipeError(
            f"{path} is a file of features: layers need the network, a run, export, timm or transformers folder"
        )
    found = targets.load(path, texts)
    network, call = (found.module, "project") if found.built else (_Alone(found.module), "")
    device = choose_device(found.recipe.machine.device)
    taps = Taps(network.to(device).eval(), call, _pool(network))
    sources = {"train": found.source("train"), "test": found.source(test_split(found))}
    known = taps.names(_images(found, sources["train"]).to(device))
    names = matching(globs, list(known)) if globs else default_cuts(network, list(known))
    features: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    labels: dict[str, Tensor | None] = {}
    ids = {}
    for split, source in sources.items():
        extracted = cached(taps, source, found.views, root=targets.cache_of(found.folder), device=device, layers=names)
        for name in names:
            features[name][split] = extracted.layers[name]
        ids[split] = extracted.ids
        labels[split] = extracted.labels
    found_tasks = tasks_of(sources, labels, tasks)
    if not found_tasks:
        raise DataError(
            f"the data of {path} have no label and no named factor of several values: probing layers needs something to predict"
        )
    end = names[-1] if names[-1].startswith("projector") else ""
    made = probe_layers(
        features, found_tasks, ids, protocols=protocols, seeds=seeds, embedding=end, run=str(found.folder)
    )
    section = _section(made)
    keep = found.built is not None and not texts and not globs and not tasks
    file = Path(plot) if plot else found.folder / "layers.png" if keep else None
    if file is not None and file.suffix not in (".png", ".svg"):
        raise RecipeError(f"{file}: a plot is written as .png or .svg, found {file.suffix or 'no ending'!r}")
    result = LayerProbe(section, made.records, section.save(file) if file else None, keep)
    if keep:
        write_json(found.folder / "layers.json", result.to_plain())
    return result


class _Alone(torch.nn.Module):
    """An encoder without a projector, under the name a system gives it."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Any:
        return self.encoder(x)


def _pool(network: torch.nn.Module) -> Pool:
    """How the encoder pools its tokens."""
    encoder: Any = getattr(network, "encoder", None)
    inner = getattr(encoder, "model", None)
    first = (
        getattr(encoder, "pooling", "") == "class"
        or getattr(inner, "global_pool", "") == "token"
        or hasattr(getattr(inner, "embeddings", None), "cls_token")
    )
    return "first" if first else "mean"


def _images(found: targets.Target, source: Source) -> Tensor:
    data = found.views.plain(source.read(np.arange(min(2, len(source))))).views["image"].data
    if not isinstance(data, Tensor):
        raise DataError("the evaluation view must give one tensor for a batch, found a list: its views do not resize")
    return data


def _section(made: Layers) -> LayerCurves:
    results: dict[str, list[Result]] = {}
    for row in made.rows:
        results.setdefault(row.benchmark, []).append(result_of(row))
    answers = [
        Answer(
            task=cut.task, protocol=cut.protocol, layer=cut.layer, held_out=cut.held_out, result=result_of(cut.row), equal=cut.equal,
            gap=_difference(cut.gap, made.embedding), loss=_difference(cut.loss, cut.layer),
        )
        for cut in made.cuts
    ]  # fmt: skip
    return LayerCurves(made.names, results, answers, made.widths, made.backbone, made.embedding)


def _difference(interval: Interval | None, to: str) -> Difference | None:
    return None if interval is None else Difference(to, *interval)


def result_of(row: Row) -> Result:
    """A row of a summary as a result of a report."""
    there = () if row.difference is None else (Difference(row.baseline, *row.difference),)
    return Result(
        model=row.model, protocol=row.protocol, value=row.accuracy, low=row.low, high=row.high, n=row.n, seeds=row.seeds,
        chance=row.chance, differences=there,
    )  # fmt: skip


def _plain(result: Result) -> dict[str, Any]:
    return {**vars(result), "differences": [vars(difference) for difference in result.differences]}


def read_layers(folder: Path) -> LayerCurves | None:
    """What `layers` has kept of a run, or None."""
    path = folder / "layers.json"
    if not path.is_file():
        return None
    given = json.loads(path.read_text(encoding="utf-8"))
    results = {task: [Result.of(row) for row in rows] for task, rows in given["results"].items()}

    def difference(there: Mapping[str, Any] | None) -> Difference | None:
        return None if there is None else Difference(**there)

    answers = [
        Answer(
            **{
                **row, "result": Result.of(row["result"]), "equal": tuple(row["equal"]), "gap": difference(row["gap"]),
                "loss": difference(row["loss"]),
            }
        )
        for row in given["answers"]
    ]  # fmt: skip
    return LayerCurves(given["layers"], results, answers, given["widths"], given["backbone"], given["embedding"])
