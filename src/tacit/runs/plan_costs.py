"""What a plan in Two Rooms costs beside the goal's energy: an ensemble's disagreement; and the cost under the true dynamics."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tacit.planning import Cost, GoalEnergy
from tacit.worlds.rooms import Rooms, roll

__all__ = ["Wary", "true_cost"]


class Wary(GoalEnergy):
    """An energy and the price of leaving what an ensemble agrees on."""

    def __init__(self, energy: GoalEnergy, price: Cost) -> None:
        self.__dict__.update(energy.__dict__)
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
