"""The sections of a report beside its tables: curves, spectrum, map, low-shot curve, code and facts. Values in, HTML out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from tacit.reports import charts
from tacit.reports.drawing import key
from tacit.reports.numbers import Result, Style, counted, join, short
from tacit.reports.pictures import as_array, given
from tacit.reports.rendering import render

__all__ = ["Card", "Code", "Curves", "LowShot", "Map", "Note", "Spectrum"]

MAP_POINTS = 4000  # a map of more shows an even subset and says so


@dataclass(frozen=True, eq=False)
class Curves:
    """Metrics over steps as small panels. `series`: name -> (steps, values); values that are not finite are gaps.

    panels: title -> names drawn together; by default every name has its own. log: names (or titles) drawn on a log scale.
    """

    series: Mapping[str, tuple[Any, Any]]
    title: str = "How training went"
    lead: str = ""
    panels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    log: Sequence[str] = ()
    absent: str = "The run recorded no metrics."

    def __post_init__(self) -> None:
        for name in (n for names in self.panels.values() for n in names):
            if name not in self.series:
                raise ValueError(f"no curve named {name!r}: there are {', '.join(self.series) or 'none'}.")

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, str, float]], **settings: Any) -> Curves:
        """Curves from metric rows (step, name, value), sorted by step within each name."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, name, value in rows:
            found.setdefault(name, []).append((int(step), float(value)))
        ordered = {name: sorted(pairs, key=lambda pair: pair[0]) for name, pairs in found.items()}
        return cls({name: ([s for s, _ in p], [v for _, v in p]) for name, p in ordered.items()}, **settings)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]], **settings: Any) -> Curves:
        """Curves from the columns step, name, value of metrics.parquet."""
        return cls.from_rows(zip(columns["step"], columns["name"], columns["value"], strict=True), **settings)

    def html(self) -> Markup:
        """One small chart a panel."""
        together = {name for names in self.panels.values() for name in names}
        panels = {**self.panels, **{name: (name,) for name in self.series if name not in together}}
        drawn, thinned = [], False
        for title, names in panels.items():
            chosen = {n: tuple(np.asarray(as_array(v), dtype=np.float64) for v in self.series[n]) for n in names}
            log = title in self.log or any(name in self.log for name in names)
            gaps = sum(int((~np.isfinite(y)).sum()) for _, y in chosen.values())
            remarks = ["log scale"] if log else []
            if len(names) == 1:
                x, y = next(iter(chosen.values()))
                remarks += [f"{short(float(y[-1]))} at step {int(x[-1])}"] if len(y) else ["empty"]
            thinned = thinned or any(len(x) > charts.POINTS for x, _ in chosen.values())
            if gaps:
                remarks.append(f"{counted(gaps, 'value')} not finite, left as gaps")
            legend = key(names, "line") if len(names) > 1 else []
            drawn.append((title, ", ".join(remarks), legend, charts.curve_panel(title, chosen, log=log)))  # type: ignore[arg-type]
        notes = (
            ["Long curves show the mean of neighbouring steps, the band behind them its least and greatest value."]
            if thinned
            else []
        )
        return render("curves", section=self, panels=drawn, remarks=notes)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of embedding matrices [n d], one array a model, any order; drawn relative to the largest of each."""

    series: Mapping[str, Any]
    title: str = "The spread of the embedding"
    lead: str = (
        "Singular values in falling order, on a log scale. A line that stays high uses many directions; "
        "one that drops early has collapsed onto a few."
    )
    absent: str = "No singular values were recorded."
    floor: float = 1e-7  # float32 cannot tell smaller ones from rounding

    def html(self) -> Markup:
        """The chart, and in words how many directions lie below the floor."""
        relative, remarks = {}, []
        for name, values in self.series.items():
            s = np.sort(np.asarray(as_array(given(values)), dtype=np.float64))[::-1]
            if not s.size or not np.isfinite(s).all() or s[0] <= 0:
                remarks.append(f"{name}: no positive finite singular value.")
                continue
            relative[name] = s / s[0]
            low = int((relative[name] <= self.floor).sum())
            remarks.append(
                f"{name}: {len(s)} directions" + (f", {low} of them below {self.floor:g}, not drawn." if low else ".")
            )
        chart = charts.spectrum(relative, self.floor) if relative else ""
        legend = key(relative, "line")
        return render("chart", section=self, chart=chart, legend=legend, remarks=remarks)


@dataclass(frozen=True, eq=False)
class Map:
    """Coordinates [n 2] of embeddings, coloured by class where `labels` [n] are given (-1: unknown). method: how they were made.

    named: whether each class is also named at its median, which helps where classes lie apart.
    """

    points: Any
    title: str = "A map of the embedding"
    lead: str = "Each dot is one sample. Where classes are known, each is named at its median."
    labels: Any = None
    classes: Sequence[str] = ()
    method: str = ""
    named: bool = True
    absent: str = "No map was drawn."

    def html(self) -> Markup:
        """The chart and a legend."""
        points = np.asarray(as_array(given(self.points)), dtype=np.float64)
        points = points.reshape(len(points), -1) if len(points) else np.zeros((0, 2))
        labels = None if self.labels is None else np.asarray(as_array(self.labels), dtype=np.int64)
        if points.shape[1] != 2:
            raise ValueError(f"a map needs points [n 2], found {list(points.shape)}.")
        if labels is not None and labels.shape != points.shape[:1]:
            raise ValueError(f"{labels.size} labels for {len(points)} points: give one a point.")
        keep = np.isfinite(points).all(axis=1)
        remarks = [self.method] if self.method else []
        if lost := int((~keep).sum()):
            remarks.append(f"{lost} of {len(points)} points are not finite and left out.")
        chosen = np.flatnonzero(keep)
        if len(chosen) > MAP_POINTS:
            remarks.append(f"{MAP_POINTS} of {len(chosen)} points are shown, evenly chosen.")
            chosen = chosen[np.linspace(0, len(chosen) - 1, MAP_POINTS).astype(np.int64)]
        points, labels = points[chosen], None if labels is None else labels[chosen]
        present = [] if labels is None else np.unique(labels[labels >= 0]).tolist()
        names = [str(c) for c in self.classes]
        names += [f"class {k}" for k in range(len(names), max(present, default=-1) + 1)]
        legend = key([names[k] for k in present], "dot", present)
        if labels is not None and (labels < 0).any():
            legend.append(("unknown", "var(--muted)", "●"))
        if len(legend) > 10:
            remarks.append(f"{len(present)} classes share ten colours.")
        chart = charts.two_dimensions(points, labels, names if self.named else ()) if len(points) else ""
        return render("chart", section=self, chart=chart, legend=legend[:30], remarks=remarks)


@dataclass(frozen=True, eq=False)
class LowShot:
    """Results by the number of labels per class: pairs (labels per class, Result), any order, any number of models."""

    points: Sequence[tuple[int, Result]]
    title: str = "How few labels suffice"
    lead: str = ""
    percent: bool = True
    absent: str = "No labels are known for these data, so no low-shot curve was drawn."

    def html(self) -> Markup:
        """The curve with its intervals, and the numbers behind it."""
        models: dict[str, list[tuple[int, Result]]] = {result.model: [] for _, result in self.points}
        for k, result in sorted(self.points, key=lambda point: point[0]):
            if k < 1:
                raise ValueError(f"labels per class are counted from 1; found {k} for {result.model!r}.")
            if models[result.model] and models[result.model][-1][0] == k:
                raise ValueError(f"two results of {result.model!r} with {k} labels per class: give one.")
            models[result.model].append((int(k), result))
        chances = {r.chance for _, r in self.points}
        chance = chances.pop() if len(chances) == 1 else None
        chart = charts.low_shot(models, percent=self.percent, chance=chance) if models else ""
        style = Style.of([r for _, r in self.points], percent=self.percent)
        shots = sorted({k for k, _ in self.points})
        by_place = {(k, r.model): r for k, r in self.points}
        rows = [(k, [by_place.get((k, model)) for model in models]) for k in shots]
        cards = {(r.n, r.seeds) for _, r in self.points}
        card = join([f"n = {n}, {counted(seeds, 'seed')}" for n, seeds in sorted(cards)])
        legend = key(models, "mark")
        return render(
            "lowshot", section=self, chart=chart, legend=legend, style=style, models=list(models), rows=rows, card=card
        )


@dataclass(frozen=True)
class Code:
    """A piece of text in a fixed-width face: a recipe, a command. Folded away unless `open`."""

    text: str
    title: str = "Recipe"
    lead: str = ""
    summary: str = "Show"
    open: bool = False
    absent: str = "Nothing was recorded here."

    def html(self) -> Markup:
        """The text in a block."""
        return render("code", section=self)


@dataclass(frozen=True)
class Card:
    """Names and values: the machine, the versions."""

    items: Mapping[str, str]
    title: str = "Machine and versions"
    lead: str = ""
    absent: str = "Nothing was recorded here."

    def html(self) -> Markup:
        """A list of names and values."""
        return render("card", section=self)


@dataclass(frozen=True)
class Note:
    """Paragraphs of plain words, parted by empty lines."""

    text: str
    title: str = "Note"

    def html(self) -> Markup:
        """The paragraphs."""
        return render("note", paragraphs=[p for p in (part.strip() for part in self.text.split("\n\n")) if p])
