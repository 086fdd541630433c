"""Success rates with their card: criterion, step budget, episodes, interval; and those of the scripted policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.ops.intervals import Interval, wilson
from tacit.worlds.rooms.dynamics import Rule
from tacit.worlds.rooms.policies import POLICIES
from tacit.worlds.rooms.tasks import Tasks
from tacit.worlds.rooms.world import NEAR_GOAL, Rooms

__all__ = ["CRITERIA", "Card", "Criterion", "Outcome", "baselines", "play", "scripted"]

Criterion = Literal["eb-jepa", "pldm", "dino-wm"]
CRITERIA: Mapping[str, str] = {
    "eb-jepa": "less than 4.5 pixels from the goal after the last step (DINO-WM: the same after the plan)",
    "pldm": "mean squared coordinate error below 1 at any step",
    "dino-wm": "less than 4.5 pixels from the goal after any step (there: at any replan, success is latched)",
}


@dataclass(frozen=True)
class Outcome:
    """How n episodes went: the last distance [n] in pixels, whether the goal was ever reached [n], the budget, the least distance [n]
    after a step, and the positions [n steps + 1 2] from the start on."""

    distance: Tensor
    reached: Tensor
    steps: int
    closest: Tensor
    path: Tensor

    def success(self, criterion: str = "eb-jepa") -> Tensor:
        """Which episodes succeed [n] under a published criterion; the criteria differ, so name it with every rate."""
        if criterion not in CRITERIA:
            raise UnknownNameError(unknown("criterion", criterion, CRITERIA))
        if criterion == "pldm":
            return self.reached
        return (self.distance if criterion == "eb-jepa" else self.closest) < NEAR_GOAL

    def card(self, name: str, criterion: str = "eb-jepa") -> Card:
        """The rate with all that belongs to it."""
        success = self.success(criterion)
        n = len(success)
        return Card(name, wilson(int(success.sum()), n), criterion, n, self.steps)


@dataclass(frozen=True)
class Card:
    """A success rate with its 95 % Wilson interval, criterion, number of episodes and step budget."""

    name: str
    success: Interval
    criterion: str
    episodes: int
    steps: int

    def __str__(self) -> str:
        value, low, high = (100 * x for x in self.success)
        return (
            f"{self.name}: {value:.1f} % (95 % interval {low:.1f} to {high:.1f}), "
            f"{self.episodes} episodes of {self.steps} steps, criterion {self.criterion}"
        )


def play(tasks: Tasks, act: Callable[[Rooms], Tensor], *, steps: int = 200, rule: Rule = "bounce") -> Outcome:
    """Play all tasks at once, always to the last step; `act` sees the worlds and answers with actions [n 2]."""
    worlds = Rooms(tasks, rule=rule)
    path, closest = [worlds.position], torch.full_like(worlds.position[:, 0], float("inf"))
    for _ in range(steps):
        path.append(worlds.step(act(worlds)))
        closest = torch.minimum(closest, worlds.distance())
    if not torch.isfinite(worlds.position).all():
        raise DataError("the actions of these episodes were not all finite numbers: look at what the policy returns")
    return Outcome(worlds.distance(), worlds.reached, steps, closest, torch.stack(path, 1))


def baselines(tasks: Tasks, *, steps: int = 200, rule: Rule = "bounce", criterion: str = "eb-jepa") -> dict[str, Card]:
    """The scripted policies on the same tasks: still, random, straight, oracle."""
    return {name: played.card(name, criterion) for name, played in scripted(tasks, steps=steps, rule=rule).items()}


def scripted(tasks: Tasks, *, steps: int = 200, rule: Rule = "bounce") -> dict[str, Outcome]:
    """How the scripted policies fare on the same tasks, to be judged by any criterion."""
    found = {}
    for name, policy in POLICIES.items():

        def act(worlds: Rooms, policy: Callable[..., Tensor] = policy) -> Tensor:
            now = worlds.tasks
            return policy(worlds.position, now.goal, now.layouts, now.keys, worlds.steps)

        found[name] = play(tasks, act, steps=steps, rule=rule)
    return found
