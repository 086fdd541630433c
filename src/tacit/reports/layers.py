"""Accuracy along a network: the section of a report, the text for the console, and the figure as a file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from tacit.reports.drawing import DASHES, MARKERS, MUTED, SERIES, drawing, key
from tacit.reports.numbers import Difference, Result, Style, counted, join
from tacit.reports.rendering import render
from tacit.reports.table import plain_text

__all__ = ["Answer", "LayerCurves"]

# A figure that stands alone has no page whose colours it could take.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Answer:
    """Where to cut for one task and protocol: the chosen layer, its held-out accuracy, its result on the test set.

    equal: layers that the test set does not tell apart from it. gap: backbone minus embedding; loss: backbone minus the chosen layer.
    """

    task: str
    protocol: str
    layer: str
    held_out: float
    result: Result
    equal: tuple[str, ...] = ()
    gap: Difference | None = None
    loss: Difference | None = None

    def sentence(self, backbone: str, embedding: str, style: Style) -> str:
        """The answer in words, every number with its interval."""
        said = f"{self.protocol}: cut after {self.layer} (chosen on held-out training samples, {style.plain(self.held_out)} there)"
        said += f"; test {style.carded(self.result)}"
        if self.loss is not None:
            said += f"; the backbone {backbone} minus it: {style.difference(self.loss, ' points')}"
        if self.equal:
            said += f"; not told apart from it: {join(self.equal)}"
        if self.gap is not None:
            said += f". Backbone minus {embedding}: {style.difference(self.gap, ' points')}"
            said += "" if self.gap.clear else ", not clear of zero"
        return said + "."


@dataclass(frozen=True, eq=False)
class LayerCurves:
    """Results by layer: `results[task]` holds one Result a layer and protocol, model = layer; `layers` in the order of the pass.

    widths: features of each layer. backbone, embedding: the layers of these roles, '' where there is none.
    """

    layers: Sequence[str]
    results: Mapping[str, Sequence[Result]]
    answers: Sequence[Answer] = ()
    widths: Mapping[str, int] | None = None
    backbone: str = ""
    embedding: str = ""
    title: str = "Where to cut"
    lead: str = (
        "A probe of every layer, from the pixels to the embedding that the loss saw. The dotted line marks the backbone's output, "
        "which is kept and exported; what lies to its right is the projector."
    )
    absent: str = "No layer was probed."

    @property
    def protocols(self) -> list[str]:
        """The lines of the chart."""
        return list(dict.fromkeys(r.protocol for results in self.results.values() for r in results))

    def _style(self) -> Style:
        return Style.of([r for results in self.results.values() for r in results], percent=True)

    def _found(self, task: str) -> dict[tuple[str, str], Result]:
        return {(r.model, r.protocol): r for r in self.results[task]}

    def sentences(self, task: str) -> list[str]:
        """The answers for one task."""
        return [a.sentence(self.backbone, self.embedding, self._style()) for a in self.answers if a.task == task]

    def _role(self, layer: str) -> str:
        return "backbone" if layer == self.backbone else "embedding" if layer == self.embedding else ""

    def html(self) -> Markup:
        """A chart, the answers and a table for each task."""
        style, tasks = self._style(), []
        for task in self.results:
            found = self._found(task)
            rows = [
                {
                    "number": i + 1,
                    "name": layer,
                    "role": self._role(layer),
                    "width": (self.widths or {}).get(layer, ""),
                    "cells": [style.cell(found.get((layer, how))) for how in self.protocols],
                }
                for i, layer in enumerate(self.layers)
            ]
            with drawing(400, 280) as d:
                ax = d.axes(left=50, bottom=42)
                self._draw(ax, task, SERIES, MUTED)
                ax.set_xlabel("layer (numbers of the table)")
                chart = d.svg(f"Accuracy of {len(self.protocols)} probes at {len(self.layers)} layers for {task}")
            tasks.append({"name": task, "chart": chart, "answers": self.sentences(task), "rows": rows})
        cards = sorted({(r.n, r.seeds) for results in self.results.values() for r in results})
        card = (
            "Bands and brackets are 95 % intervals; "
            + join([f"n = {n}, {counted(seeds, 'seed')}" for n, seeds in cards])
            + "."
        )
        return render(
            "layers", section=self, tasks=tasks, legend=key(self.protocols, "mark"), protocols=self.protocols, card=card
        )

    def to_text(self) -> str:
        """A table and the answers for each task, for the console."""
        style, parts = self._style(), []
        for task in self.results:
            found = self._found(task)
            widths, rows = self.widths or {}, []
            for layer in self.layers:
                cells = [style.cell(found.get((layer, how))) for how in self.protocols]
                rows.append([layer, self._role(layer), str(widths.get(layer, "")), *cells])
            cards = join(
                [
                    f"n = {r.n}, {counted(r.seeds, 'seed')}"
                    for r in {(r.n, r.seeds): r for r in self.results[task]}.values()
                ]
            )
            parts.append(f"task {task} ({cards})\n" + plain_text(["layer", "role", "width", *self.protocols], rows))
            parts.append("\n".join(self.sentences(task)) + "\n")
        return "\n".join(parts) if parts else self.absent + "\n"

    def _draw(self, ax: Axes, task: str, colours: Sequence[str], muted: str) -> None:
        found, places = self._found(task), list(range(1, len(self.layers) + 1))
        for i, how in enumerate(self.protocols):
            here = [
                (x, found[layer, how]) for x, layer in zip(places, self.layers, strict=True) if (layer, how) in found
            ]
            xs = [x for x, _ in here]
            colour = colours[i % len(colours)]
            ax.fill_between(
                xs,
                [100 * r.low for _, r in here],
                [100 * r.high for _, r in here],
                color=colour,
                alpha=0.16,
                linewidth=0,
            )
            style: Any = {"marker": MARKERS[i % len(MARKERS)], "linestyle": DASHES[i % len(DASHES)]}
            ax.plot(xs, [100 * r.value for _, r in here], color=colour, markersize=5, **style)
        chances = {r.chance for r in self.results[task] if r.chance is not None}
        if len(chances) == 1:
            ax.axhline(100 * chances.pop(), color=muted, linewidth=1, linestyle=(0, (2, 2)))
        if self.backbone in self.layers:
            ax.axvline(list(self.layers).index(self.backbone) + 1, color=muted, linewidth=1.2, linestyle=(0, (2, 2)))
        ax.xaxis.set_major_locator(FixedLocator(places[:: max(1, len(places) // 14)]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))

    def save(self, path: str | Path) -> Path:
        """The figure of all tasks as a file that stands alone, .png or .svg by its ending."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        path = Path(path)
        if path.suffix not in (".png", ".svg"):
            raise ValueError(f"{path}: a figure is written as .png or .svg, found {path.suffix or 'no ending'!r}.")
        count = max(1, len(self.results))
        with matplotlib.rc_context(
            {"svg.hashsalt": "layers", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
        ):
            figure = Figure(
                figsize=(max(6.4, 2.2 + 0.6 * len(self.layers)), 3.6 * count), dpi=150, layout="constrained"
            )
            FigureCanvasAgg(figure)
            for i, task in enumerate(self.results):
                ax = figure.add_subplot(count, 1, i + 1)
                self._draw(ax, task, _COLOURS, "#777777")
                ax.set_xticks(range(1, len(self.layers) + 1), self.layers, rotation=40, ha="right")
                ax.set_ylabel("test accuracy")
                ax.grid(visible=True, axis="y", color="#dddddd", linewidth=0.6)
                ax.set_title(
                    f"{task}: dotted, the backbone's output and chance" if self.backbone else task,
                    loc="left",
                    fontsize=9,
                )
                lines = [line for line in ax.get_lines() if line.get_marker() in MARKERS]
                ax.legend(lines, self.protocols, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        return path
