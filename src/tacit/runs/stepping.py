"""How far a time-stepper's predictions are off, step by step: beside persistence, and beside steppers told more or less.

Error of a frame: sum over fields and space of (y - target)^2, over the same sum of target^2 (NMSE: 0 exact, 1 as good as zero).
"one-step" predicts one window from true frames, averaged over all windows of a trajectory; "roll-out" predicts all windows
from the first history alone. A trajectory's score is the mean over its frames; the "normalised unrolled loss" of
arXiv 2202.07643 is that times the number of frames. Steppers that leap (views "lead-times") are scored by lead as PDEArena does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Source
from tacit.core.recipe import resolve
from tacit.core.spec import plain
from tacit.core.values import Record
from tacit.ops.intervals import paired_interval, t_interval
from tacit.probing import read_records, write_records
from tacit.reports import Difference, Result, Table
from tacit.reports.horizons import Curve, save_horizons
from tacit.runs.build import Built, restore, split_of
from tacit.training.runtime import choose_device

__all__ = ["Stepped", "evaluate_steppers", "in_words", "kept", "pair_weights"]

LABELS = {
    "persistence": "persistence",
    "none": "unconditioned",
    "untrained": "untrained encoder",
    "representation": "representation",
    "coefficient": "true coefficient",
}
LEADS = (1, 2, 4, 8, 16)
_BATCH = 32
Array = NDArray[np.float64]
Errors = dict[str, Array]
"""protocol -> error [trajectories]; the entry 'frames' [trajectories frames] is the roll-out by frame."""


@dataclass(frozen=True)
class Stepped:
    """Errors of every model: the table, and the roll-out error by frame for the plot."""

    table: Table
    curves: Mapping[str, Curve]
    title: str

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**vars(r), "differences": [vars(d) for d in r.differences]} for r in self.table.results]
        return {"results": rows, "frames": {name: curve[0].tolist() for name, curve in self.curves.items()}}

    def text(self) -> str:
        """For people."""
        return f"{self.table.to_text().rstrip()}\n\n{in_words(self.table)}"

    def plot(self, path: str | Path) -> Path:
        """Draw the roll-out error by frame."""
        if not self.curves:
            raise DataError("steppers that leap are scored by lead and have no error by frame: leave out the plot")
        words = {"ylabel": "relative squared error (NMSE)", "xlabel": "frames after the history"}
        return save_horizons(path, self.curves, title=self.title, **words)


def evaluate_steppers(paths: Sequence[str | Path], *, count: int = 256, overrides: Iterable[str] = ()) -> Stepped:
    """Evaluate runs of system 'time-stepping' on the first `count` trajectories of their test split.

    Runs of one condition are seeds of one model. overrides change data and machine alone (`data.world.viscosity=...`). Each run
    keeps its rows, one a trajectory.
    """
    texts, found, persistence = list(overrides), dict[str, dict[int, Errors]](), Errors()
    first: Built | None = None
    source: Source | None = None  # one for all runs: they were trained on the same data
    for path in paths:
        built = _opened(Path(path), texts)
        first = first or built
        _demand_same(first, built, paths[0], path)
        source = source or split_of(built.recipe, "test")
        errors, persistence = _errors(built, source, count)
        kind, seed = built.recipe.system["condition"], built.recipe.seed
        if seed in found.setdefault(kind, {}):
            raise DataError(f"{path}: a second run of condition={kind!r} with seed {seed}: pass one run of each seed")
        found[kind][seed] = errors
        if not texts:
            write_records(Path(path), _records(str(path), built, {kind: errors, "persistence": persistence}))
    if first is None:
        raise DataError("there is nothing to evaluate: name at least one run folder")
    return _stepped({"persistence": {0: persistence}, **found}, _benchmark(first))


def _opened(path: Path, texts: Sequence[str]) -> Built:
    built = restore(path)
    if built.recipe.system.kind != "time-stepping":
        raise RecipeError(f"{path} is a run of system {built.recipe.system.kind!r}: it does not step in time")
    recipe = resolve(built.recipe, texts)
    if (recipe.system, recipe.views) != (built.recipe.system, built.recipe.views):
        raise RecipeError(f"{path} holds the system it was trained with: only data and machine can be changed here")
    return Built(recipe, built.source, built.views, built.system)


def _demand_same(first: Built, other: Built, a: Any, b: Any) -> None:
    def told(built: Built) -> tuple[Any, ...]:
        views = {name: value for name, value in plain(built.recipe.views).items() if name != "context"}
        data = {k: v for k, v in plain(built.recipe.data).items() if k not in ("count", "memory")}
        return data, views, built.recipe.system["history"], built.recipe.system["horizon"]

    if told(first) != told(other):
        raise DataError(f"{a} and {b} were trained on other data or windows: their errors cannot be paired")


def _errors(built: Built, source: Source, count: int) -> tuple[Errors, Errors]:
    """Errors of the system and of persistence, trajectory by trajectory."""
    device = choose_device(built.recipe.machine.device)
    system = built.system.to(device).eval()
    score = _leaps if built.recipe.views.kind == "lead-times" else _windows
    parts: list[tuple[Errors, Errors]] = []
    rows = np.arange(min(count, len(source)))
    with torch.no_grad():
        for at in range(0, len(rows), _BATCH):
            batch = built.views.plain(source.read(rows[at : at + _BATCH])).to(device)
            parts.append(score(system, batch.views["image"].data, system.condition(batch), batch.action))  # type: ignore[arg-type]
    joined = [{name: np.concatenate([p[i][name] for p in parts]) for name in parts[0][i]} for i in (0, 1)]
    return joined[0], joined[1]


def _windows(system: Any, u: Tensor, c: Tensor | None, a: Tensor | None) -> tuple[Errors, Errors]:
    h, f = system.history, system.horizon
    windows = (u.shape[2] - h) // f
    target = u[:, :, h : h + windows * f]
    rolled = system.roll(u[:, :, :h], windows, c, a)
    starts = range(0, windows * f, f)
    single = torch.cat([system.step(u[:, :, s : s + h], c, a) for s in starts], 2)
    stays = torch.cat([u[:, :, s + h - 1 : s + h].expand(-1, -1, f, *u.shape[3:]) for s in starts], 2)
    still = u[:, :, h - 1 : h].expand_as(target)

    def of(one: Tensor, many: Tensor) -> Errors:
        frames = _by_frame(many, target)
        found = {"one-step": _by_frame(one, target).mean(1), "roll-out": frames.mean(1)}
        return {
            **{f"{name} NMSE, {f if name == 'one-step' else windows * f} frames@1": e for name, e in found.items()},
            "frames": frames,
        }

    return of(single, rolled), of(stays, still)


def _by_frame(y: Tensor, target: Tensor) -> Array:
    axes = (1, *range(3, y.ndim))
    error = (y - target).double().square().sum(axes) / target.double().square().sum(axes).clamp_min(1e-30)
    return error.cpu().numpy()  # type: ignore[no-any-return]


def pair_weights(frames: int, lead: int) -> Array:
    """How often the published validation visits the pair (s, s + lead), s = 0, 1, ...: floor(s / lead) + 1 times."""
    return np.floor_divide(np.arange(frames - lead, dtype=np.float64), lead) + 1


def _leaps(system: Any, u: Tensor, c: Tensor | None, a: Tensor | None) -> tuple[Errors, Errors]:
    """The published error of every lead: sum over fields of the spatial mean square, weighted over pairs; and their mean."""
    ours: Errors = {}
    still: Errors = {}
    frames = u.shape[2]
    assert a is not None  # noqa: S101
    for lead in (k for k in LEADS if k < frames):
        weights = torch.from_numpy(pair_weights(frames, lead))
        totals = np.zeros((2, len(u)))
        for s, w in enumerate(weights.tolist()):
            now, then = u[:, :, s : s + 1], u[:, :, s + lead : s + lead + 1]
            y = system.step(now, c, torch.full_like(a, lead))
            for i, guess in enumerate((y, now)):
                totals[i] += w * (guess - then).double().square().flatten(3).mean(3).sum((1, 2)).cpu().numpy()
        ours[f"lead {lead} MSE@1"], still[f"lead {lead} MSE@1"] = totals / float(weights.sum())
    for found in (ours, still):
        found["mean over leads MSE@1"] = np.mean(list(found.values()), axis=0)
    return ours, still


def _benchmark(built: Built) -> str:
    data = built.recipe.data
    world = data["world"].kind if "world" in data else data.get("equation", data.kind)
    return f"stepping-{world}@1"


def _records(run: str, built: Built, found: Mapping[str, Errors]) -> list[Record]:
    return [
        Record(
            run=run, model=LABELS[kind], benchmark=_benchmark(built), protocol=protocol, item=str(i), score=float(e),
            seed=built.recipe.seed,
        )
        for kind, errors in found.items()
        for protocol, values in errors.items()
        if protocol != "frames"
        for i, e in enumerate(values)
    ]  # fmt: skip


def _stepped(found: Mapping[str, Mapping[int, Errors]], title: str) -> Stepped:
    """Means over seeds for each trajectory, intervals over trajectories; with seeds in common, also over seeds."""
    order = [kind for kind in LABELS if kind in found]
    results, curves = [], dict[str, Curve]()
    protocols = [p for p in next(iter(found["persistence"].values())) if p != "frames"]
    for protocol in protocols:
        for kind in order:
            errors = np.stack([e[protocol] for e in found[kind].values()])
            results.append(_result(kind, protocol, errors, found, over_seeds=False))
    for protocol in protocols:
        for kind in order[1:]:
            if len(found[kind]) > 1:
                errors = np.stack([e[protocol] for e in found[kind].values()])
                results.append(_result(kind, protocol, errors, found, over_seeds=True))
    for kind in order:
        frames = [e["frames"] for e in found[kind].values() if "frames" in e]
        if frames:
            mean = np.mean(frames, axis=0)
            ends = [t_interval(column) for column in mean.T]
            curves[LABELS[kind]] = tuple(np.array([getattr(e, n) for e in ends]) for n in ("value", "low", "high"))  # type: ignore[assignment]
    caption = "95 %, Student's t over trajectories (errors averaged over seeds); rows 'over seeds': over seeds"
    return Stepped(
        Table(results, title="Errors of the steppers", percent=False, higher=False, intervals=caption), curves, title
    )


def _result(
    kind: str, protocol: str, errors: Array, found: Mapping[str, Mapping[int, Errors]], *, over_seeds: bool
) -> Result:
    axis = 1 if over_seeds else 0
    at = t_interval(errors.mean(axis))
    differences = []
    base = found.get("none", {})
    if kind not in ("none", "persistence") and base:
        shared = [s for s in found[kind] if s in base] if over_seeds else []
        if over_seeds and len(shared) > 1:
            d = paired_interval(
                [found[kind][s][protocol].mean() for s in shared], [base[s][protocol].mean() for s in shared]
            )
            differences.append(Difference(LABELS["none"], *d))
        elif not over_seeds:
            d = paired_interval(errors.mean(0), np.mean([e[protocol] for e in base.values()], axis=0))
            differences.append(Difference(LABELS["none"], *d))
    name = protocol.replace("@", " over seeds@") if over_seeds else protocol
    return Result(
        model=LABELS[kind], protocol=name, value=at.value, low=at.low, high=at.high, n=errors.shape[1], seeds=errors.shape[0],
        differences=tuple(differences),
    )  # fmt: skip


def kept(folder: Path) -> Table | None:
    """What was kept of a run's last evaluation, or None."""
    if not any((folder / "results").rglob("*.parquet")):
        return None
    found: dict[str, dict[int, Errors]] = {}
    kinds = {label: kind for kind, label in LABELS.items()}
    for (model, seed, protocol), rows in read_records(folder / "results").groups("model", "seed", "protocol").items():
        scores = np.array(rows.column("score").to_pylist())
        found.setdefault(kinds[model], {}).setdefault(seed, {})[protocol] = scores
    return _stepped(found, "").table


def in_words(table: Table) -> str:
    """One sentence on the last protocol over trajectories: who beats whom, and whether the interval says so."""
    protocol = [p for p in table.protocols if "over seeds" not in p][-1]
    row = {r.model: r for r in table.results if r.protocol == protocol}
    still = row["persistence"].value
    parts = [f"{protocol.partition('@')[0]}: persistence {still:.3g}"]
    parts += [f"{name} {r.value:.3g}" for name, r in row.items() if name != "persistence"]
    said = ", ".join(parts) + "."
    for name, r in row.items():
        for d in r.differences:
            verdict = "lower than" if d.high < 0 else "higher than" if d.low > 0 else "not told apart from"
            said += (
                f" With the {name} the error is {verdict} {d.to} ({d.value:+.2g}, 95 % {d.low:+.2g} to {d.high:+.2g})."
            )
    return said
