"""The charts of a report, each a function from values to inline SVG. Widths are those of a column, heights follow the content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from tacit.reports.drawing import DASHES, INK, MARKERS, MUTED, RULE, SERIES, drawing, power_label
from tacit.reports.numbers import Result

__all__ = ["curve_panel", "dot_plot", "logarithmic", "low_shot", "scatter", "spectrum", "thinned", "two_dimensions"]

POINTS = 400  # drawn per curve; longer ones are drawn as means with their range
Array = NDArray[np.float64]


def thinned(x: Array, y: Array, points: int = POINTS) -> tuple[Array, Array, Array, Array]:
    """(x, mean, least, greatest) of y in at most `points` runs of neighbours; a run with a value that is not finite is a gap."""
    size = -(-len(x) // points) if len(x) else 1
    if size == 1:
        return x, y, y, y
    starts = np.arange(0, len(x), size)
    counts = np.diff(np.append(starts, len(x)))
    y = np.where(np.isfinite(y), y, np.nan)
    means = np.add.reduceat(y, starts) / counts
    return x[starts + counts // 2], means, np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)


def curve_panel(
    title: str, series: Mapping[str, tuple[Array, Array]], *, log: bool, first: int = 0, height: int = 170
) -> Markup:
    """Values over steps, one line a series; values that are not finite are gaps."""
    with drawing(320, height) as d:
        ax = d.axes(left=40, bottom=26, right=8)
        for i, (x, y) in enumerate(series.values()):
            y = np.where(np.isfinite(y) & ((y > 0) | (not log)), y, np.nan)
            if not np.isfinite(y).any():
                continue
            xs, mean, low, high = thinned(x, y)
            colour = SERIES[(first + i) % len(SERIES)]
            if len(x) > POINTS:
                ax.fill_between(xs, low, high, color=colour, alpha=0.22, linewidth=0)
            ax.plot(xs, mean, color=colour, linestyle=DASHES[i % len(DASHES)])
            alone = np.isfinite(mean) & ~np.isfinite(_shifted(mean, 1)) & ~np.isfinite(_shifted(mean, -1))
            ax.plot(xs[alone], mean[alone], color=colour, linestyle="", marker="o", markersize=3.5)
        if log:
            logarithmic(ax, "y")
        d.steps_axis(ax)
        return d.svg(f"{title} over training steps: {', '.join(series)}")


def _shifted(y: Array, by: int) -> Array:
    moved = np.roll(y, by)
    moved[0 if by > 0 else -1] = np.nan
    return moved


def logarithmic(ax: Axes, which: str) -> None:
    """Powers of ten along the axis 'x' or 'y'."""
    (ax.set_yscale if which == "y" else ax.set_xscale)("log")
    axis = ax.yaxis if which == "y" else ax.xaxis
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(power_label))


def spectrum(series: Mapping[str, Array], floor: float) -> Markup:
    """Singular values relative to the largest, in falling order, on a log scale; those below `floor` are not drawn."""
    with drawing(400, 280) as d:
        ax = d.axes(left=48, bottom=42)
        for i, values in enumerate(series.values()):
            relative = np.where(values > floor, values, np.nan)
            dash = DASHES[i % len(DASHES)]
            ax.plot(np.arange(1, len(values) + 1), relative, color=SERIES[i % len(SERIES)], linestyle=dash, linewidth=2)
        logarithmic(ax, "y")
        ax.set_xlabel("rank of the singular value")
        return d.svg(f"Singular values relative to the largest, log scale: {', '.join(series)}")


def two_dimensions(points: Array, labels: NDArray[np.int64] | None, classes: Sequence[str]) -> Markup:
    """Points [n 2] coloured by class, each named at its median if `classes` are given; one colour without labels, grey for label -1."""
    with drawing(400, 400) as d:
        ax = d.figure.add_axes((0.02, 0.02, 0.96, 0.96))
        ax.set_axis_off()
        size = 4.6 if len(points) <= 600 else 3.4
        groups = [None] if labels is None else np.unique(labels).tolist()
        low, high = points.min(axis=0), points.max(axis=0)
        pad = np.where(high > low, (high - low) * 0.04, 1.0)
        ax.set_xlim(low[0] - pad[0], high[0] + pad[0])
        ax.set_ylim(low[1] - pad[1], high[1] + pad[1])
        for k in groups:
            chosen = points if k is None else points[labels == k]
            colour = SERIES[0] if k is None else MUTED if k < 0 else SERIES[k % len(SERIES)]
            d.dots(ax, chosen, colour, size=size, alpha=0.75)
        for k in groups if classes and len(groups) <= 20 else []:
            if k is not None and k >= 0:
                x, y = np.median(points[labels == k], axis=0)
                ax.text(x, y, d.word(classes[k]), ha="center", va="center", fontsize=13, gid="halo strong")
        return d.svg(f"Map of {len(points)} embeddings in two dimensions")


def low_shot(models: Mapping[str, Sequence[tuple[int, Result]]], *, percent: bool, chance: float | None) -> Markup:
    """Result against labels per class, the interval of each point as a band."""
    scale = 100 if percent else 1
    shots = sorted({k for points in models.values() for k, _ in points})
    with drawing(400, 300) as d:
        ax = d.axes(left=46, bottom=42)
        for i, points in enumerate(models.values()):
            x = [k for k, _ in points]
            low, mid, high = (
                [scale * v for v in values]
                for values in zip(*((r.low, r.value, r.high) for _, r in points), strict=True)
            )
            colour = SERIES[i % len(SERIES)]
            ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            ax.vlines(x, low, high, color=colour, linewidth=1)
            ax.plot(
                x, mid, color=colour, marker=MARKERS[i % len(MARKERS)], markersize=5, linestyle=DASHES[i % len(DASHES)]
            )
        if chance is not None:
            ax.axhline(chance * scale, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
            ax.text(shots[-1], chance * scale, "chance", color=MUTED, ha="right", va="bottom")
        if len(shots) > 1:
            ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(shots))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{round(v)}"))
        ax.set_xlabel("labels per class")
        if percent:
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        return d.svg(f"Low-shot curve for {shots[0]} to {shots[-1]} labels per class: {', '.join(models)}")


def dot_plot(rows: Sequence[tuple[str, Sequence[Result | None]]], *, percent: bool) -> Markup:
    """One line a protocol, one dot with whiskers a model (its place in `rows` gives the colour), a tick at chance."""
    scale = 100 if percent else 1
    depth = 14 * max(len(results) for _, results in rows) + 28
    with drawing(400, depth * len(rows) + 32) as d:
        ax = d.axes(left=10, right=14, top=4, bottom=28)
        ax.grid(visible=False)
        ax.grid(visible=True, axis="x")
        ax.set_yticks([])
        ax.set_ylim(depth * len(rows), 0)
        for j, (protocol, results) in enumerate(rows):
            top = j * depth
            ax.text(
                0, top + 10, d.word(protocol), ha="left", va="center", transform=ax.get_yaxis_transform(), gid="halo"
            )
            for i, result in enumerate(results):
                if result is None:
                    continue
                y = top + 26 + 14 * i
                colour = SERIES[i % len(SERIES)]
                ax.plot([result.low * scale, result.high * scale], [y, y], color=colour, linewidth=2.4)
                marker = MARKERS[i % len(MARKERS)]
                ax.plot([result.value * scale], [y], marker=marker, color=colour, markersize=7, linestyle="")
            chances = {r.chance for r in results if r is not None and r.chance is not None}
            if len(chances) == 1:
                ax.vlines(
                    chances.pop() * scale, top + 20, top + depth - 8, color=MUTED, linewidth=1.2, linestyle=(0, (2, 2))
                )
        if percent:
            ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        return d.svg(f"Each result with its interval for {len(rows)} protocols; the numbers stand in the table")


def scatter(
    points: Sequence[tuple[float, Result]],
    xlabel: str,
    ylabel: str,
    marks: Sequence[tuple[int, str, float]],
    *,
    percent: bool,
) -> Markup:
    """A result with its interval against a score. `marks`: (index of a run, marker, size) drawn around its dot."""
    scale = 100 if percent else 1
    with drawing(400, 320) as d:
        ax = d.axes(left=50, bottom=42, top=20, right=20)
        for x, r in points:
            ax.plot([x, x], [r.low * scale, r.high * scale], color=RULE, linewidth=1.6)
            ax.plot([x], [r.value * scale], marker="o", color=SERIES[0], markersize=6, linestyle="")
        for index, marker, size in marks:  # shapes around a dot, named in the legend: words in the chart would collide
            x, r = points[index]
            ring = {"fillstyle": "none", "color": INK, "markeredgewidth": 1.4, "linestyle": ""}
            ax.plot([x], [r.value * scale], marker=marker, markersize=size, **ring)  # type: ignore[arg-type]
        ax.set_xlabel(d.word(xlabel))
        if percent:
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g} %"))
        ax.margins(x=0.08, y=0.12)
        return d.svg(f"{ylabel} against {xlabel} for {len(points)} runs")
