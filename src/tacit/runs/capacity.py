"""Capacity of latent actions: the same recipe under a constraint of every strength, each point trained and measured.

"Capacity" of a model is its one-step prediction error on held-out clips with inferred latents (LAWM, arXiv 2601.05230): what else a
latent is good for does not follow from it, so that R2, leakage, cycle, transfer and planning stand beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tacit import recipes
from tacit.core import parts
from tacit.core.errors import RecipeError, RunError
from tacit.core.recipe import digest
from tacit.reports.table import plain_text
from tacit.runs.build import restore
from tacit.runs.latents import CYCLE, LEAKAGE, MOTION, ONE_STEP, PLANNING, R2, STEERING, TRANSFER, Rows, measure
from tacit.runs.sweeping import axis_of
from tacit.runs.training import train
from tacit.training.disk import write_json

__all__ = ["Capacity", "capacity"]

_SHOWN = {
    "one-step error": (ONE_STEP, "latent actions"),
    "action R2": (R2, "latent actions"),
    "motion R2": (MOTION, "latent actions"),
    "leakage": (LEAKAGE, "latent actions"),
    "cycle": (CYCLE, "latent actions"),
    "transfer": (TRANSFER, "latent actions"),
    "controller": (STEERING, "through the controller"),
    "planning, L1": (PLANNING, "through the controller"),
}


@dataclass(frozen=True)
class Capacity:
    """The points in the order of the axis: label -> measurement -> (value, low, high); where the plot lies."""

    points: dict[str, dict[str, tuple[float, float, float]]]
    folder: Path
    plot: Path

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"points": self.points, "folder": str(self.folder), "plot": str(self.plot)}

    def text(self) -> str:
        """For people."""
        columns = [name for name in _SHOWN if any(name in point for point in self.points.values())]
        rows = [
            [label, *(_cell(point[name]) if name in point else "" for name in columns)]
            for label, point in self.points.items()
        ]
        table = plain_text(("constraint", *columns), rows).rstrip()
        return f"{table}\n95 % intervals over clips. The plot: {self.plot}"


def _cell(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.3g} [{value[1]:.3g}, {value[2]:.3g}]"


def capacity(
    recipe: str | Path,
    axes: Sequence[str],
    *,
    root: str | Path = "runs",
    name: str | None = None,
    count: int = 256,
    plot: str | Path | None = None,
    modules: Iterable[str] = (),
    quiet: bool = False,
) -> Capacity:
    """Train every point of `axes` (texts `path=v1,v2,...`), measure it on `count` test clips, and draw all measurements.

    The same call continues one that was stopped: finished points are not trained again.
    """
    for module in modules:
        parts.use_module(module)
    given = [axis_of(text) for text in axes]
    base = recipes.load(recipe, [f"{path}={texts[0]}" for path, texts in given])
    if base.system.kind != "latent-action":
        raise RecipeError(
            f"capacity is that of latent actions, and {recipe} trains a system {base.system.kind!r}: take latents.noisy, for example"
        )
    folder = Path(root) / (name or f"capacity-{digest(base)}")
    points: dict[str, dict[str, tuple[float, float, float]]] = {}
    for texts in itertools.product(*(texts for _, texts in given)):
        chosen = [f"{path}={text}" for (path, _), text in zip(given, texts, strict=True)]
        varied = [
            f"{path.rpartition('.')[2]}={t}" for (path, some), t in zip(given, texts, strict=True) if len(some) > 1
        ]
        label = ", ".join(varied) or "as it is"
        run = train(recipes.load(recipe, chosen), name=label, root=folder, quiet=True)
        if run.status != "finished":
            raise RunError(f"{label}: stopped at step {run.step}: {run.reason}")
        points[label] = _numbers(measure(restore(run.folder), count)[0])
        if not quiet:
            print(f"{label}: " + ", ".join(f"{n} {v[0]:.3g}" for n, v in points[label].items()), flush=True)
    found = Capacity(points, folder, _draw(points, Path(plot) if plot else folder / "capacity.png"))
    write_json(folder / "capacity.json", found.to_plain())
    return found


def _numbers(rows: Rows) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name, (protocol, model) in _SHOWN.items():
        if model in rows.get(protocol, {}):
            found[name] = tuple(map(float, rows[protocol][model][0]))
    return found  # type: ignore[return-value]


def _draw(points: dict[str, dict[str, tuple[float, float, float]]], path: Path) -> Path:
    """One panel a measurement, the points in order."""
    names = [name for name in _SHOWN if any(name in point for point in points.values())]
    across = min(4, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(3.1 * across, 2.5 * down), dpi=130, layout="constrained")
    labels = [label.replace(", ", "\n").replace("=", "\n") for label in points]
    for axis, name in itertools.zip_longest(figure.subplots(down, across, squeeze=False).flat, names):
        if name is None:
            axis.set_axis_off()
            continue
        at = [i for i, point in enumerate(points.values()) if name in point]
        values = [list(points.values())[i][name] for i in at]
        middle = [v[0] for v in values]
        ends = [[v[0] - v[1] for v in values], [v[2] - v[0] for v in values]]
        axis.errorbar(at, middle, yerr=ends, fmt="o-", color="#1f5fa8", markersize=4, linewidth=1.2, capsize=2)
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(len(labels)), labels, fontsize=6)
        axis.tick_params(axis="y", labelsize=7)
        if name in ("leakage", "one-step error"):
            axis.set_yscale("log")
        axis.grid(axis="y", linewidth=0.4)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
