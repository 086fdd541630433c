"""A grid of runs, ranked without labels, and beside it what labels would have chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from tacit import recipes
from tacit.core import parts
from tacit.core.errors import DataError, RecipeError, RunError, unknown
from tacit.core.recipe import Recipe, digest, from_yaml, to_yaml
from tacit.core.values import Score
from tacit.reports import Note, Report, Result, RunSummary, write_report
from tacit.reports import Sweep as SweepSection
from tacit.reports.table import plain_text
from tacit.runs.judging import judge_run, read_judgement
from tacit.runs.probing import probe_run, probe_target
from tacit.runs.training import train
from tacit.training.engine import Job, Outcome, run_jobs, summary

__all__ = ["Sweep", "axis_of", "sweep"]

_SCORES = ("rankme",)
_JUDGE = "rankme/eps=1e-07@1"
_PROTOCOL = "linear/all@1"
_HEAD = ("chosen by", "run", "linear here, %", "linear elsewhere, %")


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found. `section` draws it; `failed`: outcomes that are not results.

    elsewhere: the same runs with the results of probes on other data, if these were asked for.
    """

    folder: Path
    section: SweepSection
    outcomes: Sequence[Outcome]
    report: Path
    elsewhere: SweepSection | None = None

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
            "comparison": [dict(zip(_HEAD, row, strict=True)) for row in self.comparison()],
            "failed": {outcome.name: outcome.error for outcome in self.failed},
        }

    def comparison(self) -> list[list[str]]:
        """Who chooses, which run, what it reaches here, and elsewhere where other data were probed; empty without labels."""
        return _comparison(self.section, self.elsewhere)

    def text(self) -> str:
        """For people."""
        lines = [self.section.to_text().rstrip(), "", self.section.verdict()]
        if self.elsewhere is not None:
            lines += ["", plain_text(_HEAD, self.comparison()).rstrip(), "", f"Elsewhere: {self.elsewhere.verdict()}"]
        lines.append(f"report: {self.report}")
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
    elsewhere: Sequence[str] = (),
) -> Sweep:
    """Train every point of `grid` (texts `path=v1,v2,...`), rank by the label-free score `select`, compare with labels.

    The same call continues a sweep that was stopped: finished points are kept, unfinished runs go on from their checkpoints.
    elsewhere: overrides that name other data (`data=glyphs`), on which every run is probed as well: does the choice carry over?
    """
    if select not in _SCORES:
        raise RecipeError(unknown("label-free score", select, _SCORES))
    axes = [axis_of(text) for text in grid]
    base = recipes.load(recipe, [f"{path}={texts[0]}" for path, texts in axes])  # faults in the recipe are told at once
    folder = Path(root) / (name or f"sweep-{digest(base)}")
    jobs = []
    for texts in itertools.product(*(texts for _, texts in axes)):
        chosen = [f"{path}={text}" for (path, _), text in zip(axes, texts, strict=True)]
        resolved = recipes.load(recipe, chosen)
        varied = [text for text, (_, choices) in zip(chosen, axes, strict=True) if len(choices) > 1]
        jobs.append(
            Job(
                digest(resolved) + (f"-{sha256(repr(list(elsewhere)).encode()).hexdigest()[:6]}" if elsewhere else ""),
                {
                    "text": to_yaml(resolved),
                    "root": str(folder),
                    "name": ",".join(varied) or "run",
                    "modules": list(modules),
                    **({"elsewhere": list(elsewhere)} if elsewhere else {}),
                },
            )
        )
    outcomes = run_jobs(_point, jobs, engine=engine, folder=folder / "jobs", progress=None if quiet else _say)
    values = [outcome.value for outcome in outcomes if outcome.value is not None]
    section, sections = _section(values), list[Any]()
    other = _section(values, "elsewhere") if elsewhere else None
    if other is not None:
        words = Note(_words(section, other), title="What the choice is worth")
        sections = [words, replace(other, title=f"Probed on {' '.join(elsewhere)}")]
    title = f"Sweep of {recipe if not isinstance(recipe, Recipe) else 'a recipe'}"
    report = write_report(
        Report(title=title, verdict=section.verdict(), sections=[section, *sections]), folder / "report"
    )
    return Sweep(folder, section, outcomes, report, other)


def axis_of(text: str) -> tuple[str, list[str]]:
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


def _point(text: str, root: str, name: str, modules: Sequence[str], elsewhere: Sequence[str] = ()) -> dict[str, Any]:
    """One point of the grid: train (or go on), judge, and probe where labels are known, and on other data if these are named."""
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
    found = {"folder": str(run.folder), "name": name, "recipe": text, "scores": scores, "results": results}
    if elsewhere:
        rows = probe_target(run.folder, elsewhere, seeds=1, protocols=(_PROTOCOL,)).to_plain()["results"]
        found["elsewhere"] = [row for row in rows if row["model"] == "trained"]
    return found


def _comparison(here: SweepSection, there: SweepSection | None) -> list[list[str]]:
    """RankMe's run, that of labels and the best possible, each with its results."""
    by_score, by_labels = here.picks()
    if by_score is None or by_labels is None:
        return []
    best = there.picks()[1] if there is not None else by_labels

    def reached(section: SweepSection | None, index: int | None) -> str:
        result = section.labelled[index] if section is not None and index is not None else None
        return "" if result is None else f"{100 * result.value:.1f} [{100 * result.low:.1f}, {100 * result.high:.1f}]"

    choices = (
        ("RankMe", by_score),
        ("labels", by_labels),
        ("the best elsewhere" if there else "the best possible", best),
    )
    names = [run.name for run in here.runs]
    return [[who, "" if i is None else names[i], reached(here, i), reached(there, i)] for who, i in choices]


def _words(here: SweepSection, there: SweepSection) -> str:
    """The comparison in paragraphs."""
    rows = [
        f"{who} chooses {run}: {mine} here, {other} elsewhere." for who, run, mine, other in _comparison(here, there)
    ]
    return "\n\n".join(rows)


def _section(values: Iterable[Mapping[str, Any]], key: str = "results") -> SweepSection:
    runs = [
        RunSummary(
            name=value["name"],
            recipe=from_yaml(value["recipe"]),
            scores=[Score(**score) for score in value["scores"]],
            results=[Result.of(result) for result in value[key]],
        )
        for value in values
    ]
    return SweepSection(runs, judge=_JUDGE, protocol=_PROTOCOL if any(run.results for run in runs) else "")


def _say(done: int, total: int, outcome: Outcome) -> None:
    print(f"{done}/{total} {outcome.state} {outcome.name} {outcome.error}".rstrip())
