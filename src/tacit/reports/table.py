"""Tables of results: rows are protocols, columns models. One value, written as HTML, Markdown, CSV or plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from tacit.core.values import Score
from tacit.reports import charts
from tacit.reports.drawing import key
from tacit.reports.numbers import DASH, Result, Style, clear_of, counted, short
from tacit.reports.rendering import render

__all__ = ["Scores", "Table", "markdown", "plain_text"]


@dataclass(frozen=True, eq=False)
class Table:
    """Results with labels. Rows are protocols and columns models, both in the order in which they first appear.

    percent: values are fractions and shown as percent. higher: more is better; None: it depends on the row, and none is marked.
    intervals: how they were made, for the caption.
    The best of a row is bold only where its interval lies wholly beyond the interval of every other model of the row.
    """

    results: Sequence[Result]
    title: str = "What the features know"
    lead: str = ""
    percent: bool = True
    higher: bool | None = True
    intervals: str = "95 %"
    absent: str = "No labels are known for these data, so nothing was measured against labels."

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for result in self.results:
            if (result.protocol, result.model) in seen:
                raise ValueError(
                    f"two results for {result.protocol!r} of {result.model!r}: a table has one. Name the protocols apart."
                )
            seen.add((result.protocol, result.model))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], **settings: Any) -> Table:
        """A table from mappings with the names of the fields of `Result`."""
        return cls(tuple(Result.of(row) for row in rows), **settings)

    @cached_property
    def protocols(self) -> list[str]:
        """The rows."""
        return list(dict.fromkeys(result.protocol for result in self.results))

    @cached_property
    def models(self) -> list[str]:
        """The columns."""
        return list(dict.fromkeys(result.model for result in self.results))

    @cached_property
    def style(self) -> Style:
        """How its numbers are written."""
        return Style.of(self.results, percent=self.percent)

    def row(self, protocol: str) -> list[Result | None]:
        """The results of a protocol in the order of `models`; None where a model was not measured."""
        by_model = {result.model: result for result in self.results if result.protocol == protocol}
        return [by_model.get(model) for model in self.models]

    def clearly_best(self, protocol: str) -> Result | None:
        """The best result of a row if its interval is clear of all others; None with fewer than two results, or no better side."""
        row = [result for result in self.row(protocol) if result is not None]
        if len(row) < 2 or self.higher is None:
            return None
        best = (max if self.higher else min)(row, key=lambda result: result.value)
        return best if clear_of(best, [r for r in row if r is not best], higher=self.higher) else None

    def grid(self, bold: tuple[str, str] = ("", "")) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text, for consoles: protocol, one column a model, chance, n, seeds, then the paired differences."""
        pairs = list(dict.fromkeys((r.model, d.to) for r in self.results for d in r.differences))
        header = ["protocol", *self.models, "chance", "n", "seeds", *(f"{model} − {to}" for model, to in pairs)]
        rows = []
        for protocol in self.protocols:
            row, best = self.row(protocol), self.clearly_best(protocol)
            cells = [
                bold[0] + self.style.cell(r) + bold[1] if r is not None and r is best else self.style.cell(r)
                for r in row
            ]
            card = [_shared([f(r) for r in row if r is not None]) for f in (self.style.chance, _items, _seeds)]
            found = {(r.model, d.to): d for r in row if r is not None for d in r.differences}
            rows.append([protocol, *cells, *card, *(self.style.difference(found.get(pair)) for pair in pairs)])
        return header, rows

    def to_markdown(self) -> str:
        """A Markdown table; the clearly best of a row is bold."""
        return markdown(*self.grid(("**", "**"))) if self.results else self.absent + "\n"

    def to_text(self) -> str:
        """An aligned table for the console; the clearly best of a row carries a star."""
        return plain_text(*self.grid(("", " *"))) if self.results else self.absent + "\n"

    def to_csv(self) -> str:
        """One line a result in full precision, fractions as they are; three columns for each baseline."""
        baselines = list(dict.fromkeys(d.to for r in self.results for d in r.differences))
        buffer = io.StringIO()
        out = csv.writer(buffer, lineterminator="\n")
        extra = [
            f"{what} to {to}" for to in baselines for what in ("difference", "low of difference", "high of difference")
        ]
        out.writerow(["protocol", "model", "value", "low", "high", "n", "seeds", "chance", *extra])
        for r in self.results:
            found = {d.to: d for d in r.differences}
            pairs = [found.get(to) for to in baselines]
            numbers = [x for d in pairs for x in (("", "", "") if d is None else (d.value, d.low, d.high))]
            chance = "" if r.chance is None else r.chance
            out.writerow([r.protocol, r.model, r.value, r.low, r.high, r.n, r.seeds, chance, *numbers])
        return buffer.getvalue()

    def html(self) -> Markup:
        """The table with a chart of all intervals above it."""
        rows = [self._html_row(protocol) for protocol in self.protocols]
        chart = charts.dot_plot([(p, self.row(p)) for p in self.protocols], percent=self.percent) if rows else ""
        legend = key(self.models, "mark")
        guessing = any(r.chance is not None for r in self.results)
        return render("table", table=self, rows=rows, chart=chart, legend=legend, dash=DASH, guessing=guessing)

    def _html_row(self, protocol: str) -> dict[str, Any]:
        row, best = self.row(protocol), self.clearly_best(protocol)
        measured = [r for r in row if r is not None]
        cards = list(dict.fromkeys(f"n = {_items(r)} · {counted(r.seeds, 'seed')}" for r in measured))
        common = len(cards) == 1
        return {
            "protocol": protocol,
            "card": cards[0] if common else "",
            "chance": _shared([self.style.chance(r) for r in measured]),
            "cells": [
                None
                if r is None
                else {
                    "number": self.style.plain(r.value),
                    "bounds": self.style.bounds(r),
                    "best": r is best,
                    "card": "" if common else f"n = {_items(r)} · {counted(r.seeds, 'seed')}",
                    "differences": [(f"{self.style.difference(d)} over {d.to}", d.clear) for d in r.differences],
                }
                for r in row
            ],
        }


def _items(result: Result) -> str:
    return f"{result.n:,}".replace(",", "\u202f")  # narrow no-break space


def _seeds(result: Result) -> str:
    return str(result.seeds)


def _shared(texts: Sequence[str]) -> str:
    return " / ".join(dict.fromkeys(texts))


@dataclass(frozen=True, eq=False)
class Scores:
    """Label-free scores of one or more models: `scores` maps a model to its scores. Rows are protocols, each with n and note."""

    scores: Mapping[str, Sequence[Score]]
    title: str = "Judged without labels"
    lead: str = ""
    absent: str = "No label-free score was computed."

    def grid(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text: protocol, one column a model, n, note."""
        found = {(s.protocol, model): s for model, scores in self.scores.items() for s in scores}
        rows = []
        for protocol in dict.fromkeys(protocol for protocol, _ in found):
            row = [found.get((protocol, model)) for model in self.scores]
            cells = [DASH if s is None else short(s.value) for s in row]
            n = _shared([f"{s.n}" for s in row if s is not None])
            notes = "; ".join(
                (f"{model}: " if len(self.scores) > 1 else "") + s.note
                for model, s in zip(self.scores, row, strict=True)
                if s is not None and s.note
            )
            if len({s.note for s in row if s is not None}) == 1:
                notes = next(s.note for s in row if s is not None)
            rows.append([protocol, *cells, n, notes])
        return ["protocol", *self.scores, "n", "note"], rows

    def to_markdown(self) -> str:
        """A Markdown table."""
        header, rows = self.grid()
        return markdown(header, rows) if rows else self.absent + "\n"

    def to_text(self) -> str:
        """An aligned table for the console."""
        header, rows = self.grid()
        return plain_text(header, rows) if rows else self.absent + "\n"

    def html(self) -> Markup:
        """The table."""
        header, rows = self.grid()
        return render("scores", section=self, header=header, rows=rows)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; pipes and line ends inside cells are kept harmless."""
    lines = [header, ["---"] * len(header), *rows]
    safe = [[" ".join(str(cell).replace("|", "\\|").split()) for cell in line] for line in lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in safe)


def plain_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns aligned by spaces, a rule below the header."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("─" * w for w in widths))
    return "\n".join(text) + "\n"
