"""Success against training: the same episodes planned with several checkpoints of one run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tacit.core.errors import CheckpointError, RecipeError
from tacit.runs.planning import plan
from tacit.training import checkpoint
from tacit.training.disk import write_json

__all__ = ["Curve", "Point", "plan_curve", "training_seconds"]

Ends = tuple[float, float, float]  # a rate and its 95 % Wilson interval
_MODEL = "learned model"


@dataclass(frozen=True)
class Point:
    """One checkpoint: updates, seconds of training until it was written, and its success under each criterion."""

    step: int
    seconds: float
    success: dict[str, Ends]


@dataclass(frozen=True)
class Curve:
    """The points in the order of their steps; the other policies on the same episodes: name -> criterion -> rate."""

    world: str
    episodes: int
    points: tuple[Point, ...]
    beside: dict[str, dict[str, Ends]]
    plot: Path

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "world": self.world,
            "episodes": self.episodes,
            "points": [{"step": p.step, "seconds": p.seconds, "success": p.success} for p in self.points],
            "beside": self.beside,
            "plot": str(self.plot),
        }

    def text(self) -> str:
        """For people."""
        criteria = list(self.points[0].success)
        lines = [
            f"{self.world}: {self.episodes} episodes, success in %, 95 % intervals (Wilson)",
            f"{'':32}{'seconds':>9}" + "".join(f"{name:>20}" for name in criteria),
        ]
        for p in self.points:
            cells = "".join(f"{_cell(p.success[name]):>20}" for name in criteria)
            lines.append(f"{f'{_MODEL}, step {p.step}':32}{p.seconds:>9.0f}{cells}")
        for name, rates in self.beside.items():
            lines.append(f"{name:32}{'':9}" + "".join(f"{_cell(rates[c]):>20}" for c in criteria))
        return "\n".join([*lines, f"plot: {self.plot}"])


def _cell(rate: Ends) -> str:
    value, low, high = (100 * x for x in rate)
    return f"{value:.0f} ({low:.0f} to {high:.0f})"


def training_seconds(folder: str | Path, step: int) -> float:
    """Seconds of training until the checkpoint after `step` updates was written, as the files of the run tell.

    Of every start (machine.json) it counts the time to the last checkpoint before the next start: what was trained after that was lost.
    """
    folder = Path(folder)
    started = json.loads((folder / "machine.json").read_text(encoding="utf-8"))["starts"]
    starts = sorted(datetime.fromisoformat(one["time"]).timestamp() for one in started)
    written = sorted(_written(folder, s) for s in checkpoint.saved_steps(folder) if s <= step)
    ends = [*starts[1:], float("inf")]
    return sum(
        max(0.0, max((w for w in written if begun <= w < end), default=begun) - begun)
        for begun, end in zip(starts, ends, strict=True)
    )


def _written(folder: Path, step: int) -> float:
    return (checkpoint.place(folder, step) / "state.json").stat().st_mtime


def plan_curve(
    path: str | Path,
    world: str = "rooms",
    overrides: Iterable[str] = (),
    *,
    at: Sequence[int] = (),
    episodes: int = 100,
    seed: int = 0,
    references: bool = True,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Curve:
    """Plan with the checkpoints of a run after each of the steps `at` (all that it kept, if none are named), on the same episodes.

    Writes a table for each checkpoint, curve.json and curve.png under RUN/plans/<name>, or `out`. Keep more than two checkpoints with
    `checks.save_every=1000 checks.keep=10`.
    """
    if world == "arm":
        raise RecipeError("--at: world 'arm' plans with the newest checkpoint of a run alone")
    kept = sorted(checkpoint.saved_steps(Path(path)))
    steps = sorted(set(at)) or kept
    missing = [step for step in steps if step not in kept]
    if missing or not steps:
        raise CheckpointError(
            f"{path} holds no checkpoint of step {', '.join(map(str, missing)) or 'any number'}: it has "
            f"{', '.join(map(str, kept)) or 'none'}; a run keeps checks.keep of them"
        )
    name = f"{world}-curve-n{episodes}-seed{seed}".replace("/", "-").replace(":", "-")
    folder = Path(out) if out else Path(path) / "plans" / name
    overrides = list(overrides)
    points: list[Point] = []
    beside: dict[str, dict[str, Ends]] = {}
    for step in steps:
        first, last = step == steps[0], step == steps[-1]
        found = plan(
            path, world, overrides, episodes=episodes, seed=seed, references=references and first, out=folder / f"step{step}",
            step=step, pictures=last,
        )  # fmt: skip
        rates = _rates(found.to_plain())
        points.append(Point(step, training_seconds(path, step), rates.pop(_MODEL)))
        beside |= rates
        if not quiet:
            told = ", ".join(f"{criterion} {_cell(rate)}" for criterion, rate in points[-1].success.items())
            print(f"step {step}, {points[-1].seconds:.0f} s: {told}", flush=True)
        curve = Curve(world, episodes, tuple(points), beside, _draw(points, beside, folder / "curve.png"))
        write_json(folder / "curve.json", curve.to_plain())  # after each: a stopped call leaves what it found
    return curve


def _rates(told: Any) -> dict[str, dict[str, Ends]]:
    """policy -> criterion -> rate, of what a plan in any world says."""
    found: dict[str, dict[str, Ends]] = {}
    for name, rate in told["success"].items():
        several = rate if "value" not in rate else {"success": rate}
        found[name] = {criterion: (r["value"], r["low"], r["high"]) for criterion, r in several.items()}
    return found


def _draw(points: Sequence[Point], beside: dict[str, dict[str, Ends]], path: Path) -> Path:
    """Success under the first criterion against seconds, the steps written beside the points; the other policies as lines."""
    criterion = next(iter(points[0].success))
    figure = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axis = figure.subplots()
    values = [p.success[criterion] for p in points]
    ends = [[100 * (v - low) for v, low, _ in values], [100 * (high - v) for v, _, high in values]]
    x, y = [p.seconds for p in points], [100 * v for v, _, _ in values]
    axis.errorbar(x, y, yerr=ends, fmt="o-", color="#1f5fa8", markersize=4, linewidth=1.4, capsize=2, label=_MODEL)
    for point, height in zip(points, y, strict=True):
        axis.annotate(f"{point.step}", (point.seconds, height), textcoords="offset points", xytext=(5, -11), fontsize=7)
    groups: list[tuple[float, list[str]]] = []  # policies whose lines would lie on one another share one label
    for rate, name in sorted((100 * rates[criterion][0], name) for name, rates in beside.items()):
        if groups and rate - groups[-1][0] < 4:
            groups[-1][1].append(name)
        else:
            groups.append((rate, [name]))
        axis.axhline(rate, color="#777777", linewidth=0.9, linestyle="--")
    for rate, names in groups:
        axis.annotate(
            "\n".join(reversed(names)), (1.0, rate), xycoords=("axes fraction", "data"), xytext=(4, 0), va="center", fontsize=7,
            textcoords="offset points", color="#555555", annotation_clip=False,
        )  # fmt: skip
    axis.set_xlabel("seconds of training (steps beside the points)", fontsize=9)
    axis.set_ylabel(f"success, %\n({criterion})", fontsize=9)
    axis.set_xlim(left=0)
    axis.set_ylim(-3, 103)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", linewidth=0.4)
    axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
