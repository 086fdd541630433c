"""Energies of a goal over imagined states: what turns a world model into a planner's cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.planning.values import Cost

__all__ = ["GoalEnergy", "Imagine", "disagreement", "goal_energy", "squared"]

Imagine = Callable[[Tensor, Tensor], Tensor]  # states [s ...], actions [s h a] -> states [s h ...]


def squared(states: Tensor, goal: Tensor) -> Tensor:
    """Mean over the entries of a state of (state - goal)^2: [s h] of states [s h ...] and goals [s 1 ...]."""
    return (states - goal).square().flatten(2).mean(2)


def _rows(state: Tensor, actions: Tensor) -> Tensor:
    """The states of p problems [p ...] as those of their samples [s ...]; one problem's is not copied."""
    problems, samples = len(state), len(actions)
    if samples % problems:
        raise DataError(
            f"{samples} action sequences do not split over {problems} states: plan with a start of {problems} problems"
        )
    each = state.unsqueeze(1).expand(problems, samples // problems, *state.shape[1:])
    return each.flatten(0, 1) if problems > 1 else each.squeeze(0)


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

    def __call__(self, actions: Tensor) -> Tensor:
        """[s] of actions [s h a]."""
        states = self._imagine(_rows(self._state, actions), actions)
        target = _rows(self._goal, actions).unsqueeze(1)
        if self._over == "last":
            return self._distance(states[:, -1:], target).squeeze(1)
        return self._distance(states, target).sum(1)

    def ahead(self, actions: Tensor) -> Tensor:
        """The states [s ...] after the last of actions [s h a]."""
        return self._imagine(_rows(self._state, actions), actions)[:, -1]

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
        rows = _rows(state, actions)
        spread = torch.stack([imagine(rows, actions) for imagine in models]).var(0).flatten(2).sum(2)
        steps = torch.arange(spread.shape[1], device=spread.device, dtype=spread.dtype)
        return weight * (spread * discount**steps).sum(1)

    return cost
