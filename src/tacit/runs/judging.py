"""Judge a representation without labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from tacit.core.errors import DataError
from tacit.core.protocols import Source
from tacit.core.values import Score
from tacit.data.checks import evenly
from tacit.data.subset import even_subset
from tacit.judging import Panel, ViewPanel
from tacit.reports import Scores
from tacit.runs import target as targets
from tacit.runs.augmented import view_embeddings
from tacit.training.disk import write_json
from tacit.training.runtime import choose_device

__all__ = ["Judgement", "judge", "judge_run", "read_judgement"]

_AUGMENTATIONS, _VIEWED = 10, 1000  # views of a sample, samples
_COUNT = 25_600  # the samples of arXiv 2210.02885


@dataclass(frozen=True)
class Judgement:
    """Scores and singular values by model. Compare models of one method only: a high rank is necessary, not sufficient."""

    scores: Mapping[str, list[Score]]
    singular_values: Mapping[str, list[float]]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "scores": {model: [dataclasses.asdict(score) for score in found] for model, found in self.scores.items()},
            "singular values": {model: list(values) for model, values in self.singular_values.items()},
        }

    def text(self) -> str:
        """For people."""
        return Scores(self.scores).to_text().rstrip()


def judge(
    path: str | Path, overrides: Iterable[str] = (), *, augmentations: int | None = None, count: int = _COUNT
) -> Judgement:
    """Judge a run (beside its untrained twin), an outside model with data, or a file of features [n d] or, grouped, [n q d].

    Of data at most `count` samples are embedded, evenly spaced: the paper's 25,600 by default. Of a file all rows are taken.

    LiDAR and alignment need `augmentations` views of at most 1,000 samples: 10 of a run by default (the paper takes 50), none of an
    outside model, whose augmentations are not known; 0 leaves them out. In a file the q views of each sample stand together.
    """
    if targets.is_features(path):
        if list(overrides):
            raise DataError(f"{path} is a file of features: it takes no settings")
        z = targets.read_features(path, grouped=True)["features"]
        name = Path(path).stem
        return _judgement({name: z.flatten(0, -2)}, {name: z.split(64)} if z.ndim == 3 else {})
    found = targets.load(path, overrides)
    source = found.source()
    models = {"trained": found}
    if found.built:
        models["untrained"] = targets.untrained(found)
    q = (_AUGMENTATIONS if found.built else 0) if augmentations is None else augmentations
    if q == 1 or q < 0:
        raise DataError(
            f"augmentations: LiDAR compares at least 2 views of a sample, found {q}: use 2 or more, or 0 for none"
        )
    if count < 2:
        raise DataError(f"count: a spread needs at least 2 samples, found {count}")
    some = even_subset(source, count)
    embeddings = {name: model.embeddings(some) for name, model in models.items()}
    return _judgement(embeddings, {name: _viewed(model, source, q) for name, model in models.items()} if q else {})


def _viewed(found: targets.Target, source: Source, q: int) -> Iterator[torch.Tensor]:
    """Embeddings of q augmented views of evenly chosen samples."""
    device = choose_device(found.recipe.machine.device)
    module = found.module.to(device).eval()
    call = module.project if found.built else lambda x: module(x).pooled
    chosen = evenly(len(source), _VIEWED)
    with torch.no_grad():
        yield from view_embeddings(call, source, found.views, chosen, q, seed=found.recipe.seed, device=device)


def judge_run(folder: Path) -> Judgement:
    """Judge a run on its training data and keep the result in its folder."""
    found = judge(folder)
    path = folder / "results" / "judge.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, found.to_plain())
    return found


def read_judgement(folder: Path) -> Judgement | None:
    """What judge_run has kept, or None."""
    path = folder / "results" / "judge.json"
    if not path.is_file():
        return None
    given = json.loads(path.read_text(encoding="utf-8"))
    scores = {model: [Score(**score) for score in found] for model, found in given["scores"].items()}
    return Judgement(scores, given["singular values"])


def _judgement(
    embeddings: Mapping[str, torch.Tensor], grouped: Mapping[str, Iterable[torch.Tensor]] = MappingProxyType({})
) -> Judgement:
    scores, values = {}, {}
    for model, z in embeddings.items():
        panel = Panel()
        panel.update(z)
        scores[model], values[model] = panel.scores(), panel.singular_values().tolist()
        if model in grouped:
            viewed = ViewPanel()
            for some in grouped[model]:
                viewed.update(some)
            scores[model][-1:-1] = viewed.scores()  # the collapse check stays last
    return Judgement(scores, values)
