"""What latent actions are worth where the true actions are known: do they say the action, do they leak, do they transfer, do they steer.

action R2: share of the variance of recorded actions that a ridge reads from latents, fitted on train clips, on transitions of test clips.
leakage: error of the prediction where the end of another clip is spliced on, over the error without the cut; a model whose latent copies
the next state has 1. cycle: latents of clip A drive clip B, latents inferred from that drive A again; its error over that of A under its
own latents; a model that ignores latents has 1 as well, so read both together. controller: a small network from (action, state) to the
latent, for planning. Source: LAWM (arXiv 2601.05230).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.random import torch_seed
from tacit.core.recipe import resolve
from tacit.ops.intervals import Interval, bootstrap
from tacit.probing.ridge import ridge_path
from tacit.reports import Result, Table
from tacit.runs.build import Built, restore, split_of
from tacit.training.runtime import choose_device

__all__ = ["Controlled", "Controller", "Latents", "evaluate_latents", "fit_controller", "measure"]

_BATCH, _FIT = 128, 4096  # clips at once; clips that ridge and controller learn from
_MODEL = "latent actions"


@dataclass(frozen=True)
class Latents:
    """The measurements with intervals over clips."""

    table: Table

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"results": [{**vars(r), "differences": []} for r in self.table.results]}

    def text(self) -> str:
        """For people."""
        return self.table.to_text().rstrip()

    def plot(self, path: str | Path) -> Path:
        """There is no curve."""
        raise DataError(f"latent actions are measured by single numbers: there is nothing to draw into {path}")


def evaluate_latents(paths: Sequence[str | Path], *, count: int = 256, overrides: Iterable[str] = ()) -> Latents:
    """Measure one run of system 'latent-action' on the first `count` clips of its test split."""
    if len(paths) != 1:
        raise RecipeError(f"latent actions are measured one run at a time, found {len(paths)} run folders")
    built = restore(paths[0])
    recipe = resolve(built.recipe, list(overrides))
    if (recipe.system, recipe.views) != (built.recipe.system, built.recipe.views):
        raise RecipeError(f"{paths[0]} holds the system it was trained with: only data and machine can be changed here")
    found = measure(Built(recipe, built.source, built.views, built.system), count)
    results = [
        Result(model=_MODEL, protocol=f"{name}@1", value=at.value, low=at.low, high=at.high, n=n, seeds=1)
        for name, (at, n) in found.items()
    ]
    return Latents(Table(results, title="Latent actions", percent=False, intervals="95 %, bootstrap over clips"))


@torch.no_grad()
def measure(built: Built, count: int = 256) -> dict[str, tuple[Interval, int]]:
    """name -> (value with interval, number of clips)."""
    device = choose_device(built.recipe.machine.device)
    system = built.system.to(device).eval()
    train, test = (states_of(system, built, split, n, device) for split, n in (("train", _FIT), ("test", count)))
    found: dict[str, tuple[Interval, int]] = {}
    states, actions = test
    n = len(states)
    z, _ = system.infer(states[:, :-1], states[:, 1:])
    if actions is not None:
        seen, done = train
        latents, _ = system.infer(seen[:, :-1], seen[:, 1:])
        found["action R2 of a ridge on latents"] = (_r2(latents, done, z, actions), n)  # type: ignore[arg-type]
    # leakage: the next state is that of another clip
    other = states[:, 1:].roll(1, 0)
    cut, _ = system.infer(states[:, :-1], other)
    joined = _error(_after(system, states, z), states[:, 1:])
    spliced = _error(_after(system, states, cut), other)
    found["one-step error over the variance of states"] = (
        bootstrap((joined / states.flatten(0, 1).var(0).mean()).cpu().numpy()),
        n,
    )
    found["leakage: error at a cut over error without"] = (_ratio(spliced, joined), n)
    # cycle: what A did, done to B, inferred again, done to A
    own = system.imagine(states[:, 0], z)
    b = states.roll(1, 0)[:, :1]
    there = torch.cat([b, system.imagine(b[:, 0], z)], 1)
    again, _ = system.infer(there[:, :-1], there[:, 1:])
    back = system.imagine(states[:, 0], again)
    found["cycle: error after the detour over error before"] = (
        _ratio(_error(back, states[:, 1:]), _error(own, states[:, 1:])),
        n,
    )
    if hasattr(system.bottleneck, "nearest"):
        chosen = system.bottleneck.nearest(system.guess(states[:, :-1], states[:, 1:]).flatten(0, 1))
        used = len(chosen.unique()) / len(system.bottleneck.usage)
        found["share of the codes in use"] = (Interval(used, used, used), n)
    return found


def states_of(system: Any, built: Built, split: str, count: int, device: Any) -> tuple[Tensor, Tensor | None]:
    """States [n t s] and the actions [n t - 1 a] between them, of the first clips of a split."""
    source = split_of(built.recipe, split)
    states, actions = [], []
    for at in range(0, min(count, len(source)), _BATCH):
        batch = built.views.plain(source.read(range(at, min(at + _BATCH, count, len(source))))).to(device)
        data: Any = batch.views["image"].data
        states.append(system.encode(data))
        if batch.action is not None:
            actions.append(batch.action[:, : data.shape[2] - 1])
    return torch.cat(states), torch.cat(actions) if actions else None


def _after(system: Any, states: Tensor, z: Tensor) -> Tensor:
    return system.imagine(states[:, :-1].flatten(0, 1), z.flatten(0, 1).unsqueeze(1))[:, 0].view_as(states[:, 1:])  # type: ignore[no-any-return]


def _error(y: Tensor, seen: Tensor) -> Tensor:
    """Mean squared error of each clip [n]."""
    return (y - seen).square().flatten(1).mean(1).double()


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


class Controller(nn.Module):
    """From a known action and the state it is taken in to the latent it stands for: a perceptron over both.

    Without the state it cannot know whether a wall is in the way. LAWM's is an attention block over patch tokens; states here are vectors.
    """

    def __init__(self, actions: int, dim: int, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(actions + dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, action: Tensor, state: Tensor) -> Tensor:
        """The latent [n d]."""
        return self.net(torch.cat([action, state], -1))  # type: ignore[no-any-return]


def fit_controller(built: Built, *, steps: int = 1000, batch: int = 256, lr: float = 1e-3, seed: int = 0) -> Controller:
    """Learn the controller on train clips by mean squared error to the inferred latents (AdamW, cosine); the model stays as it is."""
    system = built.system.eval()
    device = next(system.parameters()).device
    with torch.no_grad():
        states, actions = states_of(system, built, "train", _FIT, device)
        if actions is None:
            raise DataError("a controller learns from recorded actions, and these data have none")
        z, _ = system.infer(states[:, :-1], states[:, 1:])
    s, a, z = states[:, :-1].flatten(0, 1), actions.flatten(0, 1), z.flatten(0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "controller"))
        controller = Controller(a.shape[1], s.shape[1], z.shape[1]).to(device)
        optimizer = torch.optim.AdamW(controller.parameters(), lr=lr, weight_decay=0.04)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = torch.randint(len(s), (batch,)).to(device)
            loss = (controller(a[rows], s[rows]) - z[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return controller.eval()


class Controlled:
    """A latent action model steered by known actions: what `play_model` plans with."""

    def __init__(self, system: Any, controller: Controller) -> None:
        self.system, self.controller = system, controller

    def encode(self, x: Tensor) -> Tensor:
        """States of pictures."""
        return self.system.encode(x)  # type: ignore[no-any-return]

    def imagine(self, z0: Tensor, actions: Tensor) -> Tensor:
        """The states after each known action, through the controller."""
        states = []
        for action in actions.unbind(1):
            z0 = self.system.imagine(z0, self.controller(action, z0).unsqueeze(1))[:, 0]
            states.append(z0)
        return torch.stack(states, 1)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of the model."""
        return self.system.parameters()  # type: ignore[no-any-return]

    def to(self, device: Any) -> Controlled:
        """On another device."""
        self.system.to(device)
        self.controller.to(device)
        return self

    def eval(self) -> Controlled:
        """In evaluation mode."""
        self.system.eval()
        self.controller.eval()
        return self
