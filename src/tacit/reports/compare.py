"""Runs beside each other: where their recipes differ, what they reached, and whether a label-free score would have chosen well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from tacit.core.recipe import Recipe, leaves
from tacit.core.spec import plain
from tacit.core.values import Score
from tacit.reports import charts
from tacit.reports.correlate import FEW, kendall, rank_correlation, spearman
from tacit.reports.numbers import DASH, Result, Style, join, short, written
from tacit.reports.rendering import render
from tacit.reports.table import markdown, plain_text

__all__ = ["Comparison", "RunSummary", "Sweep", "compare", "varied"]


@dataclass(frozen=True, eq=False)
class RunSummary:
    """One run as a comparison sees it: its name, its recipe (a Recipe or its nested dicts), its scores and its results."""

    name: str
    recipe: Recipe | Mapping[str, Any]
    scores: Sequence[Score] = ()
    results: Sequence[Result] = ()


def varied(runs: Sequence[RunSummary]) -> dict[str, list[Any]]:
    """The leaves in which the recipes of the runs differ: path -> the value of each run, None where it lacks the leaf."""
    trees = [leaves(plain(run.recipe)) for run in runs]
    paths = dict.fromkeys(path for tree in trees for path in tree)
    rows = {path: [tree.get(path) for tree in trees] for path in paths}
    return {path: values for path, values in rows.items() if any(value != values[0] for value in values)}


def _setting(value: Any) -> str:
    return DASH if value is None else short(value) if isinstance(value, float) else str(value)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A table of runs: the leaves that differ, every score, every result with its interval."""

    runs: Sequence[RunSummary]
    title: str = "Runs side by side"
    lead: str = (
        "Settings that differ between the recipes, then what each run reached. What is the same everywhere is left out."
    )
    percent: bool = True
    absent: str = "There are no runs to compare."

    def grid(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text: run, one column a differing leaf, one a score, one a result."""
        settings = varied(self.runs)
        protocols = list(dict.fromkeys(s.protocol for run in self.runs for s in run.scores))
        pairs = list(dict.fromkeys((r.protocol, r.model) for run in self.runs for r in run.results))
        header = ["run", *settings, *protocols, *(f"{protocol}, {model}" for protocol, model in pairs)]
        style = Style.of([r for run in self.runs for r in run.results], percent=self.percent)
        rows = []
        for i, run in enumerate(self.runs):
            scores = {s.protocol: s for s in run.scores}
            results = {(r.protocol, r.model): r for r in run.results}
            rows.append(
                [
                    run.name,
                    *(_setting(values[i]) for values in settings.values()),
                    *(f"{short(scores[p].value)} (n = {scores[p].n})" if p in scores else DASH for p in protocols),
                    *(style.carded(results.get(pair)) for pair in pairs),
                ]
            )
        return header, rows

    def to_markdown(self) -> str:
        """A Markdown table."""
        return markdown(*self.grid()) if self.runs else self.absent + "\n"

    def to_text(self) -> str:
        """An aligned table for the console."""
        return plain_text(*self.grid()) if self.runs else self.absent + "\n"

    def html(self) -> Markup:
        """The table."""
        header, rows = self.grid()
        remark = "The recipes do not differ." if len(self.runs) > 1 and not varied(self.runs) else ""
        return render(
            "runs",
            section=self,
            header=header,
            rows=rows if self.runs else [],
            chart="",
            remarks=[remark] * bool(remark),
        )


def compare(runs: Sequence[RunSummary], **settings: Any) -> Comparison:
    """The comparison of two or more runs."""
    return Comparison(runs, **settings)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A sweep over a grid: which run a label-free score picks, which one labels pick, and what the difference costs.

    judge: the protocol of the score, more is better. protocol, model: the result that labels give; by default the first found.
    """

    runs: Sequence[RunSummary]
    judge: str
    protocol: str = ""
    model: str = ""
    title: str = "Choosing without labels"
    lead: str = ""
    percent: bool = True
    absent: str = "The sweep has no runs."

    def __post_init__(self) -> None:
        known = dict.fromkeys(s.protocol for run in self.runs for s in run.scores)
        if known and self.judge not in known:
            raise ValueError(f"no run was judged by {self.judge!r}: there are {', '.join(known)}.")
        labelled = dict.fromkeys(r.protocol for run in self.runs for r in run.results)
        if self.protocol and labelled and self.protocol not in labelled:
            raise ValueError(f"no run was probed by {self.protocol!r}: there are {', '.join(labelled)}.")

    @property
    def scored(self) -> list[Score | None]:
        """The score of each run; None where it is missing or not finite."""
        found = [next((s for s in run.scores if s.protocol == self.judge), None) for run in self.runs]
        return [s if s is not None and math.isfinite(s.value) else None for s in found]

    @property
    def labelled(self) -> list[Result | None]:
        """The result of each run with labels; None where it is missing."""
        every = [r for run in self.runs for r in run.results]
        protocol = self.protocol or (every[0].protocol if every else "")
        model = self.model or next((r.model for r in every if r.protocol == protocol), "")
        return [next((r for r in run.results if (r.protocol, r.model) == (protocol, model)), None) for run in self.runs]

    def picks(self) -> tuple[int | None, int | None]:
        """The index of the run that the score picks and of the one that labels pick; the first of equals, None without any."""
        scores = [s.value if s is not None else -math.inf for s in self.scored]
        labels = [r.value if r is not None else -math.inf for r in self.labelled]
        return tuple(int(np.argmax(v)) if v and max(v) > -math.inf else None for v in (scores, labels))  # type: ignore[return-value]

    def grid(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text, best score first: run, who picks it, settings, score, result."""
        settings, scores, results = varied(self.runs), self.scored, self.labelled
        style = self._style()
        by_score, by_labels = self.picks()
        order = sorted(
            range(len(self.runs)), key=lambda i: -math.inf if (s := scores[i]) is None else s.value, reverse=True
        )
        rows = []
        for i in order:
            score, words = scores[i], [self.judge] * (i == by_score) + ["labels"] * (i == by_labels)
            rows.append(
                [
                    self.runs[i].name,
                    ", ".join(words),
                    *(_setting(values[i]) for values in settings.values()),
                    DASH if score is None else f"{short(score.value)} (n = {score.n})",
                    style.carded(results[i]),
                ]
            )
        first = next((r for r in results if r is not None), None)
        return [
            "run",
            "picked by",
            *settings,
            self.judge,
            f"{first.protocol}, {first.model}" if first else "labels",
        ], rows

    def _style(self) -> Style:
        return Style.of([r for r in self.labelled if r is not None], percent=self.percent)

    def verdict(self) -> str:
        """In words: the two picks, the gap between them, and the rank correlation with its interval."""
        by_score, by_labels = self.picks()
        if by_score is None:
            return self.absent if not self.runs else f"No run has a finite score of {self.judge}."
        chosen = f"{self.judge} picks {self.runs[by_score].name}"
        if by_labels is None:
            return f"{chosen}. No labels are known, so the choice cannot be checked."
        results, style = self.labelled, self._style()
        best, mine = results[by_labels], results[by_score]
        if best is None or mine is None:
            return f"{chosen}, which was not probed with labels; labels pick {self.runs[by_labels].name}."
        unit = " points" if self.percent else ""
        if by_score == by_labels:
            text = f"{chosen}, and so do labels: {style.cell(mine)} (n = {mine.n})."
        else:
            gap = written(best.value - mine.value, style.places, percent=self.percent)
            text = (
                f"{chosen}, which reaches {style.cell(mine)} (n = {mine.n}); labels pick {self.runs[by_labels].name} with "
                f"{style.cell(best)} (n = {best.n}): choosing without labels costs {gap}{unit}"
                + (
                    ", and the two intervals overlap."
                    if mine.high >= best.low
                    else ", and the two intervals do not overlap."
                )
            )
        pairs = [
            (s.value, r.value) for s, r in zip(self.scored, results, strict=True) if s is not None and r is not None
        ]
        x, y = (np.array(values, dtype=np.float64) for values in zip(*pairs, strict=True))
        found = [rank_correlation(x, y, n, f).words() for n, f in (("Spearman", spearman), ("Kendall", kendall))]
        few = " (few: read it as a hint)" if len(x) < FEW else ""
        return f"{text} Rank correlation of {self.judge} with labels over n = {len(x)} runs{few}: {join(found)}."

    def to_markdown(self) -> str:
        """A Markdown table, the verdict above it."""
        return f"{self.verdict()}\n\n{markdown(*self.grid())}" if self.runs else self.absent + "\n"

    def to_text(self) -> str:
        """An aligned table for the console, the verdict below it."""
        return f"{plain_text(*self.grid())}\n{self.verdict()}\n" if self.runs else self.absent + "\n"

    def html(self) -> Markup:
        """Verdict, scatter plot and table."""
        header, rows = self.grid()
        both = [
            i
            for i, (s, r) in enumerate(zip(self.scored, self.labelled, strict=True))
            if s is not None and r is not None
        ]
        points = [
            (s.value, r) for i in both if (s := self.scored[i]) is not None and (r := self.labelled[i]) is not None
        ]
        by_score, by_labels = self.picks()
        wanted = (
            (f"picked by {self.judge}", by_score, "o", 13.0, "○"),
            ("picked by labels", by_labels, "D", 15.0, "◇"),
        )
        marks = [(both.index(i), marker, size) for _, i, marker, size, _ in wanted if i in both]
        legend = [(words, "var(--ink)", glyph) for words, i, _, _, glyph in wanted if i in both]
        chart: Markup | str = ""
        if points:
            chart = charts.scatter(points, self.judge, header[-1], marks, percent=self.percent)
        remarks = [self.verdict()] if self.runs else []
        return render("runs", section=self, header=header, rows=rows, chart=chart, legend=legend, remarks=remarks)
