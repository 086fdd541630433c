"""Thousands of Two Rooms at once."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.worlds.rooms.dynamics import Rule, bounce, contact_noise, stay_put
from tacit.worlds.rooms.pictures import draw
from tacit.worlds.rooms.tasks import Tasks, check_task

__all__ = ["NEAR_GOAL", "REACHED", "Rooms"]

NEAR_GOAL = 4.5  # pixels, EB-JEPA and DINO-WM
REACHED = 1.0  # mean squared coordinate error, PLDM


class Rooms:
    """n worlds under way: `position` [n 2] after `steps` actions, and which of them have `reached` their goal so far.

    World i is the same whether it is alone or among thousands: its noise is a function of (its key, its step).
    """

    def __init__(self, tasks: Tasks, *, rule: Rule = "bounce", check: bool = True) -> None:
        if check:
            check_task(tasks.layouts, tasks.start, tasks.goal)
        self.tasks, self.rule = tasks, rule
        self.position, self.steps = tasks.start, 0
        self.reached = torch.zeros(len(tasks), dtype=torch.bool, device=tasks.start.device)

    def step(self, action: Tensor) -> Tensor:
        """Apply one action [n 2] in pixels to each world; the new positions [n 2]. Any length is allowed, see `bounce`."""
        if action.shape != self.position.shape:
            raise DataError(
                f"{len(self.tasks)} worlds need actions {list(self.position.shape)}, found {list(action.shape)}"
            )
        action = action.to(self.position)
        if self.rule == "bounce":
            noise = contact_noise(self.tasks.keys, self.steps)
            self.position = bounce(self.position, action, self.tasks.layouts, noise)
        else:
            self.position = stay_put(self.position, action, self.tasks.layouts)
        self.steps += 1
        self.reached = self.reached | (self.error() < REACHED)
        return self.position

    def distance(self) -> Tensor:
        """Euclidean distance [n] to the goals, pixels."""
        return (self.position - self.tasks.goal).square().sum(-1).sqrt()

    def error(self) -> Tensor:
        """Mean squared coordinate error [n] to the goals, pixels squared."""
        return (self.position - self.tasks.goal).square().mean(-1)

    def picture(self) -> Tensor:
        """What is seen: uint8 [n 2 65 65], dot and walls."""
        return draw(self.position, self.tasks.layouts)

    def goal_picture(self) -> Tensor:
        """What would be seen at the goals."""
        return draw(self.tasks.goal, self.tasks.layouts)
