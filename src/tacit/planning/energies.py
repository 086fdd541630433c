"""Energies of a goal over imagined states: what turns a world model into a planner's cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.planning.values import Cost

__all__ = ["GoalEnergy", "Imagine", "disagreement", "goal_energy", "squared"]

Imagine = Callable[[Tensor, Tensor], Tensor]  # states [s ...], actions [s h a] -> states [s h ...]
_ON_A_CARD, _ON_A_PROCESSOR = 1 << 26, 1 << 20  # numbers of all states that are imagined at once


def squared(states: Tensor, goal: Tensor) -> Tensor:
    """Mean over the entries of a state of (state - goal)^2: [s h] of states [s h ...] and goals [s 1 ...]."""
    return (states - goal).square().flatten(2).mean(2)


def _samples(state: Tensor, actions: Tensor) -> int:
    """Action sequences of each problem."""
    if len(actions) % len(state):
        raise DataError(
            f"{len(actions)} action sequences do not split over {len(state)} states: plan with a start of {len(state)} problems"
        )
    return len(actions) // len(state)


def _rows(state: Tensor, actions: Tensor) -> Tensor:
    """The states of p problems [p ...] as those of their samples [s ...]; one problem's is not copied."""
    each = state.unsqueeze(1).expand(-1, _samples(state, actions), *state.shape[1:])
    return each.flatten(0, 1) if len(state) > 1 else each.squeeze(0)


def _parts(actions: Tensor, state: Tensor, *others: Tensor, models: int = 1) -> Iterator[tuple[Tensor, ...]]:
    """Some actions [r h a] beside the states of their problems [r ...], of state and others [p ...], until all had their turn.

    What `models` imagine of them at once is bounded, and so is memory; a processor's cache holds what passes by.
    """
    samples = _samples(state, actions)
    most = _ON_A_PROCESSOR if actions.device.type == "cpu" else _ON_A_CARD
    rows = max(1, most // (models * state[0].numel()))
    some = max(1, rows // samples)  # whole problems; the samples of one are split where they alone are too many
    each = (x.split(some) for x in (state, *others))
    for of_some, *own in zip(actions.split(some * samples), *each, strict=True):
        for given in of_some.split(rows) if some == 1 else (of_some,):
            yield given, *(_rows(x, given) for x in own)


class GoalEnergy:
    """A cost that also tells what is imagined: `ahead` of actions, and the same energy `toward` another state."""

    def __init__(
        self,
        imagine: Imagine,
        state: Tensor,
        goal: Tensor,
        over: Literal["last", "sum"],
        distance: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self._imagine, self._state, self._goal, self._over, self._distance = imagine, state, goal, over, distance

    def _imagined(self, actions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Imagined states [r h ...] and the goals [r 1 ...] of a part of the rows, until all had their turn."""
        for given, state, goal in _parts(actions, self._state, self._goal):
            yield self._imagine(state, given), goal.unsqueeze(1)

    def __call__(self, actions: Tensor) -> Tensor:
        """[s] of actions [s h a]."""
        if self._over == "last":
            found = [self._distance(states[:, -1:], goal).squeeze(1) for states, goal in self._imagined(actions)]
        else:
            found = [self._distance(states, goal).sum(1) for states, goal in self._imagined(actions)]
        return torch.cat(found)

    def ahead(self, actions: Tensor) -> Tensor:
        """The states [s ...] after the last of actions [s h a]."""
        return torch.cat([states[:, -1] for states, _ in self._imagined(actions)])

    def toward(self, state: Tensor) -> GoalEnergy:
        """The distance to these states [p ...] at the end of the actions."""
        return GoalEnergy(self._imagine, self._state, state, "last", self._distance)


def goal_energy(
    imagine: Imagine,
    state: Tensor,
    goal: Tensor,
    *,
    over: Literal["last", "sum"] = "last",
    distance: Callable[[Tensor, Tensor], Tensor] = squared,
) -> GoalEnergy:
    """The distance of imagined states to a goal, at the end of the plan or summed over its steps.

    state, goal [p ...] are encoded ONCE, before the plan; every sample and iteration shares them. The published 'sum' also counts
    the state before the first action, a constant.
    """
    if state.shape != goal.shape:
        raise DataError(f"state {list(state.shape)} and goal {list(goal.shape)} must have one shape")
    return GoalEnergy(imagine, state, goal, over, distance)


def disagreement(models: Sequence[Imagine], state: Tensor, *, weight: float = 1.0, discount: float = 1.0) -> Cost:
    """weight * sum_t discount^t sum_j Var_k(z_tj) over an ensemble of predictors: the cost of leaving what the data show.

    Add it to another cost. Variance unbiased over the K models. Source: PLDM, arXiv 2502.14819.
    """
    if len(models) < 2:
        raise DataError(f"disagreement needs at least 2 models, found {len(models)}")

    def cost(actions: Tensor) -> Tensor:
        found = []
        for given, rows in _parts(actions, state, models=len(models)):
            spread = torch.stack([imagine(rows, given) for imagine in models]).var(0).flatten(2).sum(2)
            steps = torch.arange(spread.shape[1], device=spread.device, dtype=spread.dtype)
            found.append(weight * (spread * discount**steps).sum(1))
        return torch.cat(found)

    return cost
