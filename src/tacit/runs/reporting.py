"""The report of a run, assembled from what lies in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.protocols import Source
from tacit.core.recipe import digest, to_yaml
from tacit.data.checks import evenly
from tacit.data.subset import even_subset
from tacit.models.features import POOLED
from tacit.ops.neighbours import unit_rows
from tacit.reports import (
    Card,
    Code,
    Curves,
    LowShot,
    Map,
    Neighbours,
    Pairs,
    Report,
    Scores,
    Spectrum,
    Table,
    unnormalise,
    write_report,
)
from tacit.runs import stepping
from tacit.runs import target as targets
from tacit.runs.build import Built, embeds, restore
from tacit.runs.cutting import read_layers
from tacit.runs.fields_reporting import field_sections, regression_sections, regression_words
from tacit.runs.judging import read_judgement
from tacit.runs.probing import FEW, Probed, in_words, results_of
from tacit.runs.regressing import Regressed
from tacit.training.metrics import read_metrics
from tacit.worlds.pdes.source import Trajectories

__all__ = ["report"]

_PAIRS, _QUERIES, _NEAR = 12, 8, 6
_MAPPED = 2000  # samples on the map and in the search for neighbours


def report(folder: str | Path) -> Path:
    """Write report/index.html of a run: table, judgement, curves, spectrum, pictures, recipe. Returns its path."""
    folder = Path(folder)
    built = restore(folder)
    sections, said = _look(folder, built) if embeds(built.system) else _stepped(folder)
    sections.append(_curves(folder))
    starts = json.loads((folder / "machine.json").read_text(encoding="utf-8"))["starts"]
    sections += [
        Code(to_yaml(built.recipe), title="The resolved recipe", summary="Show the recipe"),
        Card({name: str(value) for name, value in starts[-1].items() if value is not None}),
        Code(_again(folder, built), title="How to make it again", open=True),
    ]
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    system = built.recipe.system
    method = system["objective"].kind if "objective" in system else system.kind
    page = Report(
        title=f"{folder.parent.name}: {method} on {built.recipe.data.kind}",
        verdict=said,
        meta={
            "run": f"{folder.parent.name}/{folder.name}",
            "recipe": digest(built.recipe),
            "steps": f"{state['step']} of {state['steps']}",
            "samples": f"{len(built.source):,}",
        },
        sections=sections,
    )
    return write_report(page, folder / "report")


def _stepped(folder: Path) -> tuple[list[Any], str]:
    """What was measured of a system that steps in time, and a sentence on it."""
    table = stepping.kept(folder)
    if table is None:
        return [Table([], absent="The run was not evaluated: `tacit evaluate` does it.")], "Nothing was measured yet."
    return [table], stepping.in_words(table)


def _look(folder: Path, built: Built) -> tuple[list[Any], str]:
    """What was measured of a representation and how it looks, and a sentence on it."""
    found = targets.Target(folder, built.recipe, built.views, built.system, built)
    judgement, probed = read_judgement(folder), results_of(folder)
    if isinstance(built.source, Trajectories):
        known = probed if isinstance(probed, Regressed) else None
        said = regression_words(known) if known else _unlabelled(judgement)
        return [*regression_sections(known), *_judged(judgement), *field_sections(found)], said
    if isinstance(probed, Regressed):  # rows of regression beside data that have no coefficients any more
        probed = None
    sections: list[Any] = [
        probed.table if probed else Table([], absent="The run was not probed with labels: `tacit probe` does it.")
    ]
    if probed and (curve := _low_shot(probed)):
        sections.append(
            LowShot(curve, lead="A linear probe on frozen features, by the number of labels per class it learns from.")
        )
    sections += _judged(judgement)
    if (cut := read_layers(folder)) is not None:
        sections.append(cut)
    sections += [*_pictures(found), _pairs(found)]
    return sections, in_words(probed) if probed else _unlabelled(judgement)


def _judged(judgement: Any) -> list[Any]:
    """Label-free scores and the spectrum of the embedding, where it was judged."""
    if not judgement:
        return []
    lead = "The embedding as someone sees it who has no labels. Higher ranks use more directions."
    return [Scores(judgement.scores, lead=lead), Spectrum(judgement.singular_values)]


def _unlabelled(judgement: Any) -> str:
    if judgement is None:
        return "Nothing was measured yet."
    first = judgement.scores["trained"][0]
    return (
        f"Without labels: RankMe of the trained embedding is {first.value:.1f} over {first.n} samples ({first.note})."
    )


def _low_shot(probed: Probed) -> list[tuple[int, Any]]:
    return [(k, r) for k in FEW for r in probed.results if r.protocol == f"linear/{k}-per-class@1"]


def _again(folder: Path, built: Built) -> str:
    measure = "probe" if embeds(built.system) else "evaluate"
    return f"tacit train {folder}/recipe.yaml --new\ntacit {measure} RUN\ntacit report RUN"


def _curves(folder: Path) -> Curves:
    return Curves(read_metrics(folder))


def _pictures(found: targets.Target) -> list[Any]:
    """Map and nearest neighbours of the representation, over an even sample of the training set."""
    source = even_subset(found.source(), _MAPPED)
    extracted = found.features(source)
    z, labels, n = extracted.layers[POOLED], extracted.labels, len(source)
    classes = source.facts.classes
    sections: list[Any] = [
        Map(
            _plane(z),
            labels=labels,
            classes=classes,
            method="The first two principal components of the learned features.",
        )
    ]
    queries = evenly(n, _QUERIES)
    units = unit_rows(z)
    similarity = units[torch.from_numpy(queries)] @ units.T
    similarity[torch.arange(len(queries)), torch.from_numpy(queries)] = -2
    near = similarity.topk(min(_NEAR, n - 1), dim=1).indices
    of_queries, of_near = _small(found, source, queries), _small(found, source, near.flatten().numpy())
    sections.append(
        Neighbours(
            of_queries,
            of_near.reshape(*near.shape, *of_near.shape[1:]),
            labels=None if labels is None else labels[torch.from_numpy(queries)],
            neighbour_labels=None if labels is None else labels[near],
            classes=classes,
            lead="By cosine similarity of the learned features, within the training set.",
        )
    )
    return sections


def _plane(z: Tensor) -> Tensor:
    """The first two principal components [n 2], signs fixed so that the same features give the same map."""
    centred = z.double() - z.double().mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors.flip(1)[:, :2]
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    return centred @ axes


def _small(found: targets.Target, source: Source, indices: NDArray[np.int64]) -> Any:
    """Pictures as the encoder sees them without noise: one size, in [0, 1]."""
    data = found.views.plain(source.read(indices)).views["image"].data
    return unnormalise(
        _still(data if isinstance(data, Tensor) else torch.stack(data)), found.views.facts.mean, found.views.facts.std
    )


def _still(data: Tensor) -> Tensor:
    """The first frame of clips [n c t h w]; pictures as they are."""
    return data[:, :, 0] if data.ndim == 5 else data


def _pairs(found: targets.Target) -> Pairs:
    source = found.source()
    chosen = evenly(len(source), _PAIRS)
    batch = found.views(source.read(chosen), found.recipe.seed, 0)
    facts = found.views.facts
    views = {
        name: unnormalise(_still(view.data), facts.mean, facts.std)
        for name, view in batch.views.items()
        if isinstance(view.data, Tensor)
    }
    return Pairs(_small(found, source, chosen), views)
