"""What a plan in Two Rooms costs: under a learned model, under one and an ensemble's disagreement, and under the true dynamics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from tacit.planning import Cost, GoalEnergy, goal_energy
from tacit.planning.energies import Imagine
from tacit.worlds.rooms import Rooms, roll

__all__ = ["ModelCost", "Wary", "true_cost"]

_ROWS = 2000  # imagined at once: their gates stay in a processor's cache


class ModelCost:
    """The goal's distance in the states that the model imagines, a few thousand rows at a time; tells what is imagined, as `GoalEnergy`."""

    def __init__(self, imagine: Imagine, state: Tensor, goal: Tensor, over: Literal["sum", "last"] = "sum") -> None:
        self._imagine, self._state, self._goal, self._over = imagine, state, goal, over

    def _parts(self, actions: Tensor) -> Iterable[tuple[GoalEnergy, Tensor]]:
        samples = len(actions) // len(self._state)
        some = max(1, _ROWS // samples)
        parts = zip(self._state.split(some), self._goal.split(some), actions.split(some * samples), strict=True)
        return ((goal_energy(self._imagine, z, g, over=self._over), a) for z, g, a in parts)

    def __call__(self, actions: Tensor) -> Tensor:
        """[s] of actions [s h a]."""
        return torch.cat([energy(a) for energy, a in self._parts(actions)])

    def ahead(self, actions: Tensor) -> Tensor:
        """The states after the last of the actions."""
        return torch.cat([energy.ahead(a) for energy, a in self._parts(actions)])

    def toward(self, state: Tensor) -> ModelCost:
        """The distance to these states at the end of the actions."""
        return ModelCost(self._imagine, self._state, state, "last")


class Wary(ModelCost):
    """The same and the price of leaving what an ensemble agrees on."""

    def __init__(self, cost: ModelCost, price: Cost) -> None:
        self.__dict__.update(cost.__dict__)
        self._price = price

    def __call__(self, actions: Tensor) -> Tensor:
        """Both."""
        return super().__call__(actions) + self._price(actions)


def true_cost(worlds: Rooms, distance: Callable[..., Tensor] | None = None) -> Cost:
    """The squared distance at the end of the plan under the true dynamics (stay put): straight, or by `distance`."""
    tasks = worlds.tasks

    def cost(actions: Tensor) -> Tensor:
        samples = len(actions) // len(tasks)
        layouts, goal = tasks.layouts.repeat(samples), tasks.goal.repeat_interleave(samples, 0)
        last = roll(worlds.position.repeat_interleave(samples, 0), actions, layouts)[:, -1]
        if distance is None:
            return (last - goal).square().mean(1)
        return distance(last, goal, layouts).square()

    return cost
