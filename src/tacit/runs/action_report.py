"""How well an action-conditioned model understands actions, without a robot: on recorded clips with their actions, one's own among them.

open loop: the first frame is encoded, the recorded actions are rolled out, mean |imagined - seen| over tokens and features, divided by the
mean |seen - mean frame| (0 exact, 1 as good as the mean). Beside it persistence, and the model under the actions of another clip.
retrieval: of the true action and 31 of other clips, at which rank the energy of the next frame finds the true one.
landscape: the energy of the next frame over motions in the plane x, y, all else as it was: how far its minimum lies from the true motion.
camera: motions in the plane inferred by least energy, W of least |inferred W - true|^2 and the angle of its rotation: 0 if the model has
the camera where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.random import torch_seed
from tacit.core.recipe import resolve
from tacit.core.values import Record
from tacit.ops.intervals import t_interval
from tacit.ops.pose import planar_turn
from tacit.planning import CEM, Bounds
from tacit.probing import write_records
from tacit.reports import Result, Table
from tacit.reports.episodes import landscape
from tacit.reports.horizons import Curve, save_horizons
from tacit.runs.build import Built, restore, split_of
from tacit.systems.action_conditioned import ActionConditioned, Seen
from tacit.training.disk import write_json
from tacit.training.runtime import choose_device

__all__ = ["ActionReport", "evaluate_actions", "examined"]

CHOICES, _BATCH, _CLIPS, _GRID = 32, 32, 64, 15
_MODEL, _STILL, _OTHER, _CHANCE = "learned model", "persistence", "actions of another clip", "chance"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Examined:
    """numbers: protocol -> model -> one row a clip (or a clip and step). maps [m k k] and true motions [m 2] of the landscape, in metres.

    turn: degrees by which inferred motions are turned. w: their map to the true ones.
    """

    numbers: Mapping[str, Mapping[str, Array]]
    maps: Array
    motions: Array
    reach: float
    turn: float
    w: list[list[float]]


@dataclass(frozen=True)
class ActionReport:
    """The table, the open-loop error by step for the plot, and the camera's check."""

    table: Table
    curves: Mapping[str, Curve]
    found: Examined

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "results": [{**vars(r), "differences": [vars(d) for d in r.differences]} for r in self.table.results],
            "open loop by step": {name: curve[0].tolist() for name, curve in self.curves.items()},
            "camera": {"turn, degrees": self.found.turn, "inferred to true": self.found.w},
        }

    def text(self) -> str:
        """For people."""
        shown = "  ".join(f"[{a:.2f} {b:.2f}]" for a, b in self.found.w)
        return (
            f"{self.table.to_text().rstrip()}\n\ncamera: inferred motions in the plane are turned by {self.found.turn:.1f} degrees; "
            f"inferred to true {shown}"
        )

    def plot(self, path: str | Path) -> Path:
        """Draw the open-loop error by step."""
        return save_horizons(
            path, self.curves, title="open-loop imagination", xlabel="actions", ylabel="error over mean deviation"
        )


def evaluate_actions(paths: Sequence[str | Path], *, count: int = 256, overrides: Iterable[str] = ()) -> ActionReport:
    """Evaluate one run of system 'action-conditioned' on the first `count` clips of its test split; `data.frames=..` sets the horizon.

    overrides change data, views and machine alone: `data=trajectories data.path=mine` or `data=droid data.path=INDEX.csv views=droid`
    examines the model on one's own recordings, before a robot moves. Without overrides rows, landscape.png and report.json are kept in the
    run's folder `actions/`.
    """
    if len(paths) != 1:
        raise RecipeError(f"action-conditioned models are evaluated one at a time, found {len(paths)} run folders")
    path, texts = Path(paths[0]), list(overrides)
    built = restore(path)
    recipe = resolve(built.recipe, texts)
    if recipe.system != built.recipe.system:
        raise RecipeError(
            f"{path} holds the system it was trained with: only data, views and machine can be changed here"
        )
    source = split_of(recipe, "test")
    if (source.facts.action_dim, source.facts.channels) != (7, built.source.facts.channels):
        raise DataError(
            f"the model sees {built.source.facts.channels} channels and takes actions of 7 numbers, these data have "
            f"{source.facts.channels} and {source.facts.action_dim}"
        )
    views = built.views if recipe.views == built.recipe.views else recipe.views.build(source.facts)
    found = examined(Built(recipe, source, views, built.system), count)
    made = _report(found)
    if not texts:
        folder = path / "actions"
        folder.mkdir(exist_ok=True)
        write_records(folder, list(_records(found, str(path))))
        shown = list(found.maps[:5])
        marks = [(float(x), float(y)) for x, y in 100 * found.motions[: len(shown)]]
        titles = [f"clip {i}" for i in range(len(shown))]
        landscape(shown, marks, titles, 100 * found.reach, folder / "landscape.png", ("x, cm", "y, cm"))
        write_json(folder / "report.json", made.to_plain())
    return made


@torch.no_grad()
def examined(built: Built, count: int = 256) -> Examined:
    """All measurements on the first clips of a source."""
    device = choose_device(built.recipe.machine.device)
    system: ActionConditioned = built.system.to(device).eval()
    z, actions, states, cameras = _clips(system, built, min(count, len(built.source)), device)
    steps, n = z.shape[1] - 1, len(z)
    if n < 2:
        raise DataError(f"actions are judged beside those of other clips: at least 2 clips are needed, found {n}")
    seen = Seen(z[:, :1], states[:, :1], actions[:, :0], None if cameras is None else cameras[:, :1])
    scale = (z - z.mean((0, 1))).abs().mean().clamp_min(1e-9)
    rolled = {
        _MODEL: _rolled(system, seen, actions[:, :steps]),
        _OTHER: _rolled(system, seen, actions[:, :steps].roll(1, 0)),
    }
    rolled[_STILL] = z[:, :1].expand(-1, steps, -1, -1)
    numbers = {
        "open loop, error by step": {k: _numbers((y - z[:, 1:]).abs().mean((2, 3)) / scale) for k, y in rolled.items()}
    }
    numbers |= _retrieval(system, seen, z[:, 1], actions)
    some = min(_CLIPS, n)
    few = seen.rows(slice(some))
    reach = float(actions[:, :steps, :2].abs().flatten().quantile(0.99)) or 0.05
    maps, at = _landscape(system, few, z[:some, 1], actions[:some, 0], reach)
    motions = actions[:some, 0, :2]
    numbers["landscape, cm from the minimum to the true motion"] = {
        _MODEL: _numbers(100 * (at - motions).norm(dim=1)),
        "no motion": _numbers(100 * motions.norm(dim=1)),
    }
    w, turn = planar_turn(
        _inferred(system, few, z[:some, 1], actions[:some, 0], reach).double().cpu(), motions.double().cpu()
    )
    return Examined(numbers, maps.cpu().numpy(), motions.cpu().numpy(), reach, math.degrees(turn), w.tolist())


def _clips(system: Any, built: Built, count: int, device: Any) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Tokens, actions, states and cameras of the first clips."""
    parts = []
    for at in range(0, count, _BATCH):
        x, actions, states, cameras = system.clips(
            built.views.plain(built.source.read(range(at, min(at + _BATCH, count)))).to(device)
        )
        parts.append((system.encode(x), actions, states, cameras))
    z, actions, states = (torch.cat([part[i] for part in parts]) for i in range(3))
    return z, actions, states, None if parts[0][3] is None else torch.cat([part[3] for part in parts])


def _rolled(system: ActionConditioned, seen: Seen, actions: Tensor) -> Tensor:
    parts = []
    for at in range(0, len(actions), _BATCH):
        own = slice(at, at + _BATCH)
        parts.append(system.imagine(seen.rows(own), actions[own]))
    return torch.cat(parts)


def _retrieval(
    system: ActionConditioned, seen: Seen, following: Tensor, actions: Tensor
) -> dict[str, dict[str, Array]]:
    """Reciprocal rank and hit of the true first action among others; ties count half."""
    n = len(following)
    k = min(CHOICES, n)
    others = (torch.arange(n).unsqueeze(1) + torch.arange(k)) % n  # column 0 is the true one
    given = actions[others.to(actions.device), 0].flatten(0, 1).unsqueeze(1)
    energy = system.goal_energy(seen, following)(given).unflatten(0, (n, k))
    true, rest = energy[:, :1], energy[:, 1:]
    rank = 1 + (rest < true).sum(1) + 0.5 * (rest == true).sum(1)
    chance = np.full(n, (1 / np.arange(1, k + 1)).mean())
    return {
        f"action retrieval among {k}, reciprocal rank": {_MODEL: _numbers(1 / rank), _CHANCE: chance},
        f"action retrieval among {k}, hit": {_MODEL: _numbers((rank == 1).float()), _CHANCE: np.full(n, 1 / k)},
    }


def _landscape(
    system: ActionConditioned, seen: Seen, following: Tensor, true: Tensor, reach: float
) -> tuple[Tensor, Tensor]:
    """Energies [m k k] over motions in the plane (rows: y), all else as it was, and the motion of least energy [m 2]."""
    line = torch.linspace(-reach, reach, _GRID, device=true.device)
    plane = torch.stack([line.repeat(_GRID), line.repeat_interleave(_GRID)], -1)  # x runs fastest
    given = true.repeat_interleave(len(plane), 0).clone()
    given[:, :2] = plane.repeat(len(true), 1)
    energy = system.goal_energy(seen, following)(given.unsqueeze(1)).view(len(true), -1)
    return energy.view(-1, _GRID, _GRID), plane[energy.argmin(1)]


def _inferred(system: ActionConditioned, seen: Seen, following: Tensor, true: Tensor, reach: float) -> Tensor:
    """The motion in the plane under which the next frame is least surprising [m 2], by CEM, all else as it was."""
    cost = system.goal_energy(seen, following)

    def planar(motions: Tensor) -> Tensor:
        given = true.repeat_interleave(len(motions) // len(true), 0).clone()
        given[:, :2] = motions[:, 0]
        return cost(given.unsqueeze(1))  # type: ignore[no-any-return]

    planner = CEM(Bounds(-1.5 * reach, 1.5 * reach), samples=32, elites=6, iterations=5, spread=reach)
    generator = torch.Generator(true.device).manual_seed(torch_seed(0, "camera"))
    return planner.plan(planar, true.new_zeros(len(true), 1, 2), generator).actions[:, 0]


def _numbers(values: Tensor) -> Array:
    return values.double().cpu().numpy()  # type: ignore[no-any-return]


def _records(found: Examined, run: str) -> Iterable[Record]:
    for protocol, models in found.numbers.items():
        for model, values in models.items():
            for i, value in enumerate(values if values.ndim == 1 else values.mean(1)):
                yield Record(
                    run=run,
                    model=model,
                    benchmark="actions@1",
                    protocol=f"{protocol}@1",
                    item=str(i),
                    score=float(value),
                )


def _report(found: Examined) -> ActionReport:
    results: list[Result] = []
    curves: dict[str, Curve] = {}
    for protocol, models in found.numbers.items():
        for model, values in models.items():
            columns = [values] if values.ndim == 1 else list(values.T)
            ends = [t_interval(column) for column in columns]
            for step in {0, len(columns) - 1}:
                name = protocol if values.ndim == 1 else protocol.replace("by step", f"after {step + 1}")
                at = ends[step]
                results.append(
                    Result(
                        model=model,
                        protocol=f"{name}@1",
                        value=at.value,
                        low=at.low,
                        high=at.high,
                        n=len(values),
                        seeds=1,
                    )
                )
            if values.ndim == 2:
                curves[model] = tuple(np.array([getattr(e, part) for e in ends]) for part in ("value", "low", "high"))  # type: ignore[assignment]
    return ActionReport(
        Table(results, title="Actions", percent=False, higher=None, intervals="95 %, Student's t over clips"),
        curves,
        found,
    )
