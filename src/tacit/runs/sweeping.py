"""A grid of runs, ranked without labels, and beside it what labels would have chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tacit import recipes
from tacit.core import parts
from tacit.core.errors import DataError, RecipeError, RunError, unknown
from tacit.core.recipe import Recipe, digest, from_yaml, to_yaml
from tacit.core.values import Score
from tacit.reports import Report, Result, RunSummary, write_report
from tacit.reports import Sweep as SweepSection
from tacit.runs.judging import judge_run, read_judgement
from tacit.runs.probing import probe_run
from tacit.runs.training import train
from tacit.training.engine import Job, Outcome, run_jobs, summary

__all__ = ["Sweep", "sweep"]

_SCORES = ("rankme",)
_JUDGE = "rankme/eps=1e-07@1"
_PROTOCOL = "linear/all@1"


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found. `section` draws it; `failed`: outcomes that are not results."""

    folder: Path
    section: SweepSection
    outcomes: Sequence[Outcome]
    report: Path

    @property
    def failed(self) -> list[Outcome]:
        """The jobs without a result."""
        return [outcome for outcome in self.outcomes if outcome.value is None]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        chosen, best = self.section.picks()
        names = [run.name for run in self.section.runs]
        return {
            "folder": str(self.folder),
            "report": str(self.report),
            "runs": [outcome.value for outcome in self.outcomes if outcome.value is not None],
            "chosen": None if chosen is None else names[chosen],
            "best by labels": None if best is None else names[best],
            "failed": {outcome.name: outcome.error for outcome in self.failed},
        }

    def text(self) -> str:
        """For people."""
        lines = [self.section.to_text().rstrip(), "", self.section.verdict(), f"report: {self.report}"]
        if self.failed:
            lines.append(summary(self.outcomes))
        return "\n".join(lines)


def sweep(
    recipe: Recipe | str | Path,
    grid: Sequence[str],
    *,
    select: str = "rankme",
    engine: str = "local",
    root: str | Path = "runs",
    name: str | None = None,
    modules: Sequence[str] = (),
    quiet: bool = False,
) -> Sweep:
    """Train every point of `grid` (texts `path=v1,v2,...`), rank by the label-free score `select`, compare with labels.

    The same call continues a sweep that was stopped: finished points are kept, unfinished runs go on from their checkpoints.
    """
    if select not in _SCORES:
        raise RecipeError(unknown("label-free score", select, _SCORES))
    axes = [_axis(text) for text in grid]
    base = recipes.load(recipe, [f"{path}={texts[0]}" for path, texts in axes])  # faults in the recipe are told at once
    folder = Path(root) / (name or f"sweep-{digest(base)}")
    jobs = []
    for texts in itertools.product(*(texts for _, texts in axes)):
        chosen = [f"{path}={text}" for (path, _), text in zip(axes, texts, strict=True)]
        resolved = recipes.load(recipe, chosen)
        varied = [text for text, (_, choices) in zip(chosen, axes, strict=True) if len(choices) > 1]
        jobs.append(
            Job(
                f"{digest(resolved)}",
                {
                    "text": to_yaml(resolved),
                    "root": str(folder),
                    "name": ",".join(varied) or "run",
                    "modules": list(modules),
                },
            )
        )
    outcomes = run_jobs(_point, jobs, engine=engine, folder=folder / "jobs", progress=None if quiet else _say)
    section = _section([outcome.value for outcome in outcomes if outcome.value is not None])
    title = f"Sweep of {recipe if not isinstance(recipe, Recipe) else 'a recipe'}"
    report = write_report(Report(title=title, verdict=section.verdict(), sections=[section]), folder / "report")
    return Sweep(folder, section, outcomes, report)


def _axis(text: str) -> tuple[str, list[str]]:
    """'optim.lr=0.1,0.3' -> its path and its values as texts; a value in brackets is one list: 'widths=[1,2],[3]'."""
    path, equals, values = text.partition("=")
    if not equals or not values:
        raise RecipeError(f"{text!r}: an axis of a sweep reads path=v1,v2,... for example optim.lr=0.1,0.3")
    found, depth, start = [], 0, 0
    for i, letter in enumerate(values + ","):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            found.append(values[start:i])
            start = i + 1
    if not all(item and yaml.safe_load(item) is not None for item in found):
        raise RecipeError(f"{text!r}: one of the values is empty")
    return path, found


def _point(text: str, root: str, name: str, modules: Sequence[str]) -> dict[str, Any]:
    """One point of the grid: train (or go on), judge, and probe where labels are known."""
    for module in modules:
        parts.use_module(module)
    run = train(from_yaml(text), name=name, root=root, modules=modules, quiet=True)
    if run.status != "finished":
        raise RunError(f"stopped at step {run.step}: {run.reason}")
    judgement = read_judgement(run.folder) or judge_run(run.folder)
    scores = [vars(score) for score in judgement.scores["trained"]]
    try:
        results = probe_run(run.folder, protocols=(_PROTOCOL,), baselines=False).to_plain()["results"]
    except DataError:
        results = []  # no labels or no test split: the choice without labels stands alone
    return {"folder": str(run.folder), "name": name, "recipe": text, "scores": scores, "results": results}


def _section(values: Iterable[Mapping[str, Any]]) -> SweepSection:
    runs = [
        RunSummary(
            name=value["name"],
            recipe=from_yaml(value["recipe"]),
            scores=[Score(**score) for score in value["scores"]],
            results=[Result.of(result) for result in value["results"]],
        )
        for value in values
    ]
    return SweepSection(runs, judge=_JUDGE, protocol=_PROTOCOL if any(run.results for run in runs) else "")


def _say(done: int, total: int, outcome: Outcome) -> None:
    print(f"{done}/{total} {outcome.state} {outcome.name} {outcome.error}".rstrip())
