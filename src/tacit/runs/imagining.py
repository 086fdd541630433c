"""How well a world model imagines, without a simulator: on recorded clips with their actions, one's own trajectories included.

open loop: the first frame is encoded, the recorded actions are rolled out, and the imagined state is compared with that of the
frame that was seen: mean squared error over the variance of states (0 exact, 1 as good as the mean state). Beside it persistence
(nothing happens) and the same model under the actions of another clip.
retrieval: of the true action and 31 others from the data, how often and at which rank the energy of the next frame finds the true one.
decoded: a ridge from states to a recorded factor, fitted on train clips, reads positions from imagined states; and to small pictures,
which are drawn with the energy landscape around the true action (`imagined_pictures`). planning: `clip_planning`.
Models of video without actions: see `detecting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.recipe import resolve
from tacit.core.values import Record
from tacit.ops.intervals import t_interval
from tacit.probing import write_records
from tacit.probing.ridge import ridge_path
from tacit.reports import Result, Table
from tacit.reports.horizons import Curve, save_horizons
from tacit.runs.build import Built, restore, split_of
from tacit.runs.clip_planning import PLANNED, plan_clips
from tacit.runs.detecting import video_imagined
from tacit.runs.imagined_pictures import write_imagined
from tacit.training.runtime import choose_device

__all__ = ["Imagined", "evaluate_world_models", "imagined", "retrieval"]

CHOICES = 32  # the true action and 31 others
_BATCH, _FIT, _PLANNED = 64, 1024, 64  # clips at once; clips that the decoding is fitted on; clips that are planned
_MODEL, _STILL, _OTHER, _SEEN = "learned model", "persistence", "actions of another clip", "encoded frames"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Imagined:
    """Errors of every model: the table, and the open-loop error by horizon for the plot."""

    table: Table
    curves: Mapping[str, Curve]
    draw: Callable[[Path, str], list[Path]] | None = None

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**vars(r), "differences": [vars(d) for d in r.differences]} for r in self.table.results]
        return {"results": rows, "open loop by step": {name: curve[0].tolist() for name, curve in self.curves.items()}}

    def text(self) -> str:
        """For people."""
        return self.table.to_text().rstrip()

    def plot(self, path: str | Path) -> Path:
        """Draw the open-loop error by step, and beside it, under the same name, decoded roll-outs and the energy landscape."""
        if self.draw is not None:
            self.draw(Path(path).parent, f"{Path(path).stem}-")
        return save_horizons(
            path,
            self.curves,
            title="open-loop imagination",
            xlabel="actions",
            ylabel="squared error over the variance of states",
        )


def evaluate_world_models(paths: Sequence[str | Path], *, count: int = 256, overrides: Iterable[str] = ()) -> Imagined:
    """Evaluate one run of system 'world-model' on the first `count` clips of its test split; `data.frames=..` sets the horizon.

    overrides change data and machine alone: `data=trajectories data.path=mine` judges the model on one's own episodes.
    """
    if len(paths) != 1:
        raise RecipeError(f"world models are evaluated one at a time, found {len(paths)} run folders")
    path, texts = Path(paths[0]), list(overrides)
    built = restore(path)
    recipe = resolve(built.recipe, texts)
    if (recipe.system, recipe.views) != (built.recipe.system, built.recipe.views):
        raise RecipeError(f"{path} holds the system it was trained with: only data and machine can be changed here")
    judged = Built(recipe, built.source, built.views, built.system)
    errors = imagined(judged, count) if built.source.facts.action_dim else video_imagined(judged, count)
    if not texts:
        rows = [
            Record(
                run=str(path),
                model=model,
                benchmark="imagination@1",
                protocol=f"{protocol}@1",
                item=str(i),
                score=float(e),
            )
            for protocol, models in errors.items()
            for model, values in models.items()
            for i, e in enumerate(values if values.ndim == 1 else values.mean(1))
        ]
        write_records(path / "imagination", rows)
    found = _summary(errors)
    if not built.source.facts.action_dim:
        return found
    found = replace(found, draw=partial(write_imagined, judged))
    if not texts:
        write_imagined(judged, path / "imagination")
    return found


@torch.no_grad()
def imagined(built: Built, count: int = 256) -> dict[str, dict[str, Array]]:
    """protocol -> model -> numbers, one row a clip; those by step are [clips steps]."""
    device = choose_device(built.recipe.machine.device)
    system = built.system.to(device).eval()
    source = split_of(built.recipe, "test")
    _demand(built, source)
    z, actions, facts = _states(system, built, source, min(count, len(source)), device)
    steps = z.shape[1] - 1
    if len(z) < 2:
        raise DataError(
            f"imagination is judged beside the actions of other clips: at least 2 clips are needed, found {len(z)}"
        )
    total = z.flatten(2).var((0, 1)).mean().clamp_min(1e-12)
    given = {_MODEL: actions, _OTHER: actions.roll(1, 0)}
    rolled = {name: _rolled(system, z[:, 0], a[:, :steps]) for name, a in given.items()}
    rolled[_STILL] = z[:, :1].expand(-1, steps, *z.shape[2:])
    found: dict[str, dict[str, Array]] = {
        "open loop, error by step": {
            name: _numbers((y - z[:, 1:]).square().flatten(2).mean(2) / total) for name, y in rolled.items()
        }
    }
    found |= retrieval(system, z, actions)
    planned = plan_clips(system.imagine, z[:_PLANNED], actions[:_PLANNED, :steps])
    found["planning to the end of a clip, L1 of the summed actions"] = {
        _MODEL if name == PLANNED else name: values for name, values in planned.items()
    }
    if "position" in facts and z.ndim == 3:
        train = split_of(built.recipe, "train")
        seen, _, where = _states(system, built, train, min(_FIT, len(train)), device)
        read = _decoder(seen.flatten(0, 1), where["position"].flatten(0, 1).flatten(1))
        true = facts["position"].flatten(2)[:, 1:]
        states = {_SEEN: z[:, 1:], **rolled}
        found["decoded position, distance by step"] = {
            name: _numbers((read(y) - true).square().sum(-1).sqrt()) for name, y in states.items()
        }
    return found


def _demand(built: Built, source: Any) -> None:
    if source.facts.action_dim != built.source.facts.action_dim:
        raise DataError(
            f"the model was trained on actions of {built.source.facts.action_dim} numbers, these data have {source.facts.action_dim}"
        )
    if source.facts.channels != built.source.facts.channels:
        raise DataError(
            f"the model was trained on {built.source.facts.channels} channels, these data have {source.facts.channels}"
        )


def _states(
    system: Any, built: Built, source: Any, count: int, device: Any
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """States [n t *s], actions [n t a] and facts of the first clips of a source."""
    states, actions, facts = [], [], dict[str, list[Tensor]]()
    for at in range(0, count, _BATCH):
        batch = built.views.plain(source.read(range(at, min(at + _BATCH, count)))).to(device)
        data: Any = batch.views["image"].data
        if batch.action is None or not torch.isfinite(batch.action).all():
            raise DataError(
                f"clips {at} and on: imagination needs finite actions, found {'none' if batch.action is None else 'NaN'}"
            )
        states.append(system.encode(data))
        actions.append(batch.action)
        for name, value in batch.facts.items():
            facts.setdefault(name, []).append(value)
    return torch.cat(states), torch.cat(actions), {name: torch.cat(values) for name, values in facts.items()}


def _rolled(system: Any, start: Tensor, actions: Tensor) -> Tensor:
    parts = zip(start.split(_BATCH), actions.split(_BATCH), strict=True)
    return torch.cat([system.imagine(z, a) for z, a in parts])


def retrieval(system: Any, z: Tensor, actions: Tensor, choices: int = CHOICES) -> dict[str, dict[str, Array]]:
    """Rank of the true first action among others: reciprocal rank and hit [clips]; ties count half. Chance beside it."""
    n = len(z)
    k = min(choices, n)
    others = (torch.arange(n).unsqueeze(1) + torch.arange(k)) % n  # column 0 is the true one
    given = actions[others.to(actions.device), 0]
    rows = z[:, 0].repeat_interleave(k, 0)
    after = _rolled(system, rows, given.flatten(0, 1).unsqueeze(1))[:, 0].unflatten(0, (n, k))
    energy = (after - z[:, 1].unsqueeze(1)).square().flatten(2).mean(2)
    true, rest = energy[:, :1], energy[:, 1:]
    rank = 1 + (rest < true).sum(1) + 0.5 * (rest == true).sum(1)
    at = np.arange(1, k + 1)
    chance = np.full(n, (1 / at).mean())
    return {
        f"action retrieval among {k}, reciprocal rank": {_MODEL: _numbers(1 / rank), "chance": chance},
        f"action retrieval among {k}, hit": {_MODEL: _numbers((rank == 1).float()), "chance": np.full(n, 1 / k)},
    }


def _decoder(states: Tensor, targets: Tensor) -> Any:
    """A ridge from states to targets; the penalty of least leave-one-out error."""
    x, t = states.double(), targets.double()
    mean, std = x.mean(0), x.std(0).clamp_min(1e-9)
    penalties = torch.tensor([10.0**e for e in range(-6, 3)], dtype=torch.float64, device=x.device)
    weight, bias, out = ridge_path((x - mean) / std, t, penalties)
    best = int((out - t).square().mean((1, 2)).argmin())
    return lambda y: ((y.double() - mean) / std) @ weight[best] + bias[best]


def _numbers(values: Tensor) -> Array:
    return values.double().cpu().numpy()  # type: ignore[no-any-return]


def _summary(errors: Mapping[str, Mapping[str, Array]]) -> Imagined:
    results: list[Result] = []
    curves: dict[str, Curve] = {}
    for protocol, models in errors.items():
        for model, values in models.items():
            by_step = values.ndim == 2
            steps = (
                sorted({1, *(2**i for i in range(1, 8) if 2**i < values.shape[1]), values.shape[1]}) if by_step else [0]
            )
            for step in steps:
                name = f"{protocol.replace('by step', f'after {step}')}@1" if by_step else f"{protocol}@1"
                at = t_interval(values[:, step - 1] if by_step else values)
                results.append(
                    Result(model=model, protocol=name, value=at.value, low=at.low, high=at.high, n=len(values), seeds=1)
                )
            if by_step and protocol.startswith("open loop"):
                ends = [t_interval(column) for column in values.T]
                curves[model] = tuple(np.array([getattr(e, n) for e in ends]) for n in ("value", "low", "high"))  # type: ignore[assignment]
    caption = "95 %, Student's t over clips"
    return Imagined(Table(results, title="Imagination", percent=False, higher=None, intervals=caption), curves)
