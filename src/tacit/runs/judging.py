"""Judge a representation without labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tacit.core.errors import DataError
from tacit.core.values import Score
from tacit.judging import Panel
from tacit.reports import Scores
from tacit.runs import target as targets
from tacit.training.disk import write_json

__all__ = ["Judgement", "judge", "judge_run", "read_judgement"]


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


def judge(path: str | Path, overrides: Iterable[str] = ()) -> Judgement:
    """Judge a run (beside its untrained twin), an export with data, or a file of features."""
    if targets.is_features(path):
        if list(overrides):
            raise DataError(f"{path} is a file of features: it takes no settings")
        return _judgement({Path(path).stem: targets.read_features(path)["features"]})
    found = targets.load(path, overrides)
    source = found.source()
    embeddings = {"trained": found.embeddings(source)}
    if found.built:
        embeddings["untrained"] = targets.untrained(found).embeddings(source)
    return _judgement(embeddings)


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


def _judgement(embeddings: Mapping[str, torch.Tensor]) -> Judgement:
    scores, values = {}, {}
    for model, z in embeddings.items():
        panel = Panel()
        panel.update(z)
        scores[model], values[model] = panel.scores(), panel.singular_values().tolist()
    return Judgement(scores, values)
