"""Predictors that learned the same data from other first weights: where they disagree, the data say nothing (PLDM, arXiv 2502.14819)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import RecipeError
from tacit.core.random import torch_seed
from tacit.runs.build import Built, split_of

__all__ = ["fit_ensemble"]

_CLIPS, _BATCH = 2048, 64


def fit_ensemble(built: Built, count: int, *, steps: int = 300, lr: float = 1e-3, seed: int = 0) -> list[Any]:
    """`count` world models with the encoder of the run and predictors of their own, learned on its train clips by its own roll-out error.

    The states are encoded once and stay as they are. Returns systems to imagine with.
    """
    if built.recipe.system.kind != "world-model" or built.recipe.system["state"] != "pooled":
        raise RecipeError(
            "ensemble: predictors are learned anew for a system 'world-model' of pooled states, this run trained "
            f"{built.recipe.system.kind!r}: set ensemble=0"
        )
    states, actions = _clips(built)
    found = []
    for k in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "ensemble", k))
            own = copy.deepcopy(built.system)
            own.predictor = (
                built.recipe.system["predictor"].build(own.dim, own.action_dim, own.places).to(states.device)
            )
            own.requires_grad_(False)
            own.predictor.requires_grad_(True)
            own.train()
            optimizer = torch.optim.AdamW(own.predictor.parameters(), lr=lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                rows = torch.randint(len(states), (min(_BATCH, len(states)),))
                loss = own.prediction_error(states[rows], actions[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        found.append(own.eval())
    return found


@torch.no_grad()
def _clips(built: Built) -> tuple[Tensor, Tensor]:
    system, train = built.system.eval(), split_of(built.recipe, "train")
    device = next(system.parameters()).device
    states, actions = [], []
    for at in range(0, min(_CLIPS, len(train)), 128):
        batch = built.views.plain(train.read(range(at, min(at + 128, _CLIPS, len(train))))).to(device)
        given: Any = batch.views["image"].data
        states.append(system.encode(given))
        actions.append(batch.action)
    return torch.cat(states), torch.cat(actions)  # type: ignore[arg-type]
