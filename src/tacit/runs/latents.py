"""What latent actions are worth where the true actions are known: do they say the action, do they leak, do they transfer, do they steer.

action R2: share of the variance of recorded actions that a ridge reads from latents, fitted on train clips, on transitions of test clips;
motion R2: the same of the change of `position`, where it is known: what was seen to happen, which a wall may forbid.
leakage: error of the prediction where the end of another clip is spliced on, over the error without the cut; a model whose latent copies
the next state has 1. cycle: latents of clip A drive clip B, latents inferred from that drive A again; its error over that of A under its
own latents; a model that ignores latents has 1 as well, so read both together. transfer: where the world can be shown again under other
motions, clip B under the motion of A: error under the latents of A over error under the latents of what was seen; 1 is perfect. controller:
a small network from (action, state) to the latent; its roll-out over that under inferred latents. planning: see `clip_planning`.
sampled: distance between latents drawn from the bottleneck's prior and inferred ones. Source: LAWM (arXiv 2601.05230).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.core.errors import RecipeError
from tacit.core.recipe import resolve
from tacit.ops.intervals import Interval, bootstrap, t_interval
from tacit.probing.ridge import ridge_path
from tacit.reports import Result, Table
from tacit.reports.horizons import Curve, save_horizons
from tacit.runs.build import Built, restore, split_of
from tacit.runs.clip_planning import PLANNED, plan_clips
from tacit.runs.controllers import Controlled, Controller, fit_controller, states_of
from tacit.training.disk import write_json
from tacit.training.runtime import choose_device

__all__ = ["Controlled", "Controller", "Latents", "evaluate_latents", "fit_controller", "measure", "states_of"]

_FIT, _PLANNED, _SAMPLED = 4096, 64, 1024  # clips that the ridge learns from; clips planned; latents drawn
_MODEL, _STEERED, _STILL = "latent actions", "through the controller", "persistence"
R2, LEAKAGE = "action R2 of a ridge on latents", "leakage: error at a cut over error without"
ONE_STEP = "one-step error over the variance of states"
CYCLE = "cycle: error after the detour over error before"
TRANSFER = "transfer: error under another clip's latents over error under one's own"
STEERING = "controller: error of its roll-out over that of inferred latents"
PLANNING = "planning to the end of a clip, L1 of the summed actions"
SAMPLED = "sampled latents: energy distance to inferred ones over their spread"
MOTION = "motion R2 of a ridge on latents"
CODES = "share of the codes in use"
Rows = dict[str, dict[str, tuple[Interval, int]]]


@dataclass(frozen=True)
class Latents:
    """The measurements with intervals over clips, and the error by step of the roll-outs."""

    table: Table
    curves: Mapping[str, Curve]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        curves = {name: curve[0].tolist() for name, curve in self.curves.items()}
        return {"results": [{**vars(r), "differences": []} for r in self.table.results], "roll-out by step": curves}

    def text(self) -> str:
        """For people."""
        return self.table.to_text().rstrip()

    def plot(self, path: str | Path) -> Path:
        """Draw the error of the roll-outs by step."""
        ylabel = "squared error over the variance of states"
        return save_horizons(path, self.curves, title="roll-outs of latent actions", xlabel="actions", ylabel=ylabel)


def evaluate_latents(paths: Sequence[str | Path], *, count: int = 256, overrides: Iterable[str] = ()) -> Latents:
    """Measure one run of system 'latent-action' on the first `count` clips of its test split; kept in its folder as latents.json."""
    if len(paths) != 1:
        raise RecipeError(f"latent actions are measured one run at a time, found {len(paths)} run folders")
    texts = list(overrides)
    built = restore(paths[0])
    recipe = resolve(built.recipe, texts)
    if (recipe.system, recipe.views) != (built.recipe.system, built.recipe.views):
        raise RecipeError(f"{paths[0]} holds the system it was trained with: only data and machine can be changed here")
    judged = Built(recipe, built.source, built.views, built.system)
    found, curves = measure(judged, count)
    results = [
        Result(model=model, protocol=f"{name}@1", value=at.value, low=at.low, high=at.high, n=n, seeds=1)
        for name, models in found.items()
        for model, (at, n) in models.items()
    ]
    caption = "95 %, bootstrap over clips"
    value = Latents(Table(results, title="Latent actions", percent=False, higher=None, intervals=caption), curves)
    if not texts:
        write_json(Path(paths[0]) / "latents.json", value.to_plain())
    return value


@torch.no_grad()
def measure(built: Built, count: int = 256) -> tuple[Rows, dict[str, Curve]]:
    """name -> model -> (value with interval, number of clips); and the roll-out errors by step."""
    device = choose_device(built.recipe.machine.device)
    system = built.system.to(device).eval()
    states, actions = states_of(system, built, "test", count, device)
    found: Rows = {}
    n, total = len(states), states.flatten(0, 1).var(0).mean().clamp_min(1e-12)
    z, _ = system.infer(states[:, :-1], states[:, 1:])
    if actions is not None:
        seen, done = states_of(system, built, "train", _FIT, device)
        latents, _ = system.infer(seen[:, :-1], seen[:, 1:])
        found[R2] = {_MODEL: (_r2(latents, done, z, actions), n)}  # type: ignore[arg-type]
        moved = [_motion(built, split, len(s)) for split, s in (("train", seen), ("test", states))]
        if moved[0] is not None and moved[1] is not None:
            found[MOTION] = {_MODEL: (_r2(latents, moved[0].to(z.device), z, moved[1].to(z.device)), n)}
    joined, still = _error(_after(system, states, z), states[:, 1:]), _error(states[:, :-1], states[:, 1:])
    found[ONE_STEP] = {m: (bootstrap((e / total).cpu().numpy()), n) for m, e in ((_MODEL, joined), (_STILL, still))}
    # leakage: the next state is that of another clip
    other = states[:, 1:].roll(1, 0)
    cut, _ = system.infer(states[:, :-1], other)
    found[LEAKAGE] = {_MODEL: (_ratio(_error(_after(system, states, cut), other), joined), n)}
    # cycle: what A did, done to B, inferred again, done to A
    own = system.imagine(states[:, 0], z)
    b = states.roll(1, 0)[:, :1]
    there = torch.cat([b, system.imagine(b[:, 0], z)], 1)
    again, _ = system.infer(there[:, :-1], there[:, 1:])
    back = system.imagine(states[:, 0], again)
    found[CYCLE] = {_MODEL: (_ratio(_error(back, states[:, 1:]), _error(own, states[:, 1:])), n)}
    found |= _transferred(system, built, z, count, device)
    rolled = {_MODEL: own, _STILL: states[:, :1].expand_as(states[:, 1:])}
    if actions is not None:
        with torch.enable_grad():
            steered = Controlled(system, fit_controller(built))
        rolled[_STEERED] = steered.imagine(states[:, 0], actions)
        found[STEERING] = {_STEERED: (_ratio(*(_error(rolled[m], states[:, 1:]) for m in (_STEERED, _MODEL))), n)}
        errors = plan_clips(steered.imagine, states[:_PLANNED], actions[:_PLANNED])
        found[PLANNING] = {
            _STEERED if name == PLANNED else name: (t_interval(values), len(values)) for name, values in errors.items()
        }
    found |= _sampled(system, z.flatten(0, 1), n)
    if hasattr(system.bottleneck, "nearest"):
        chosen = system.bottleneck.nearest(system.guess(states[:, :-1], states[:, 1:]).flatten(0, 1))
        used = len(chosen.unique()) / len(system.bottleneck.usage)
        found[CODES] = {_MODEL: (Interval(used, used, used), n)}
    curves = {name: _curve((y - states[:, 1:]).square().flatten(2).mean(2) / total) for name, y in rolled.items()}
    return found, curves


def _motion(built: Built, split: str, count: int) -> Tensor | None:
    """Changes [n t - 1 k] of the fact `position` [n t k] of the first clips, None where it is not known."""
    source = split_of(built.recipe, split)
    if "position" not in source.facts.factors:
        return None
    where = source.read(range(count)).facts["position"].float()
    return where[:, 1:] - where[:, :-1] if where.ndim == 3 else None


def _transferred(system: Any, built: Built, z: Tensor, count: int, device: Any) -> Rows:
    """B under the motion that A was seen to make, where the world's source can show that and nothing stands in the way."""
    source: Any = split_of(built.recipe, "test")
    if not hasattr(source, "replay"):
        return {}
    batch = source.read(range(min(count, len(source))))
    where = batch.facts["position"].roll(1, 0)
    motion = torch.cat([where[:, 1:] - where[:, :-1], torch.zeros_like(where[:, :1])], 1)
    shown = source.replay(batch, motion)
    went = shown.facts["position"]
    free = ((went[:, 1:] - went[:, :-1] - motion[:, :-1]).abs().amax((1, 2)) < 1e-3).to(device)
    data: Any = built.views.plain(shown).to(device).views["image"].data
    true = system.encode(data)[free]
    own, _ = system.infer(true[:, :-1], true[:, 1:])
    errors = [_error(system.imagine(true[:, 0], given), true[:, 1:]) for given in (z.roll(1, 0)[free], own)]
    return {TRANSFER: {_MODEL: (_ratio(*errors), len(true))}} if len(true) > 1 else {}


def _sampled(system: Any, z: Tensor, clips: int) -> Rows:
    """(2 E|x - y| - E|x - x'| - E|y - y'|) / E|y - y'| of drawn x and inferred y: 0 where both are alike."""
    try:
        drawn = system.sample(_SAMPLED)
    except (AttributeError, RecipeError):
        return {}  # nothing is known of these latents without data
    at = torch.linspace(0, len(z) - 1, min(len(z), _SAMPLED)).long().unique()
    y = z[at.to(z.device)]
    m, near, own = len(y), torch.cdist(y, drawn).mean(1).double().cpu(), torch.cdist(y, y).double().cpu()
    inside = float(torch.cdist(drawn, drawn).sum() / (len(drawn) * (len(drawn) - 1)))
    rng = np.random.Generator(np.random.Philox(key=0))
    weights = np.concatenate([np.ones((1, m)), rng.multinomial(m, np.full(m, 1 / m), 500)])
    w = torch.from_numpy(weights)
    spread = ((w @ own) * w).sum(1) / (m * (m - 1))
    values = ((2 * (w @ near) / m - inside - spread) / spread.clamp_min(1e-12)).numpy()
    low, high = np.quantile(values[1:], [0.025, 0.975])
    value = float(values[0])
    return {SAMPLED: {"drawn": (Interval(value, min(value, float(low)), max(value, float(high))), clips)}}


def _after(system: Any, states: Tensor, z: Tensor) -> Tensor:
    return system.imagine(states[:, :-1].flatten(0, 1), z.flatten(0, 1).unsqueeze(1))[:, 0].view_as(states[:, 1:])  # type: ignore[no-any-return]


def _error(y: Tensor, seen: Tensor) -> Tensor:
    """Mean squared error of each clip [n]."""
    return (y - seen).square().flatten(1).mean(1).double()


def _curve(errors: Tensor) -> Curve:
    ends = [t_interval(column) for column in errors.double().cpu().numpy().T]
    value, low, high = (np.array([getattr(e, name) for e in ends]) for name in ("value", "low", "high"))
    return value, low, high


def _ratio(above: Tensor, below: Tensor) -> Interval:
    """Ratio of means with a percentile bootstrap over clips."""
    a, b = above.cpu().numpy(), below.cpu().numpy()
    rng = np.random.Generator(np.random.Philox(key=0))
    rows = rng.integers(0, len(a), (2000, len(a)))
    ratios = a[rows].mean(1) / b[rows].mean(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(a.mean() / b.mean()), float(low), float(high))


def _r2(latents: Tensor, done: Tensor, z: Tensor, actions: Tensor) -> Interval:
    """1 - error / variance on test transitions; the penalty by leave-one-out on train; bootstrap over clips."""
    x, t = latents.flatten(0, 1).double(), done.flatten(0, 1).double()
    mean, std = x.mean(0), x.std(0).clamp_min(1e-9)
    penalties = torch.tensor([10.0**e for e in range(-6, 3)], dtype=torch.float64, device=x.device)
    weight, bias, out = ridge_path((x - mean) / std, t, penalties)
    best = int((out - t).square().mean((1, 2)).argmin())
    read = ((z.double() - mean) / std) @ weight[best] + bias[best]
    left = _error(read, actions.double())
    spread = _error(actions.double(), actions.double().mean((0, 1), keepdim=True))
    at = _ratio(left, spread)
    return Interval(1 - at.value, 1 - at.high, 1 - at.low)
