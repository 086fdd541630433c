"""Many cameras at once with goals: tasks, steps, distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.random import torch_seed
from tacit.worlds.camera.canvas import SIZE, canvases, look

__all__ = ["REACHED", "CameraTasks", "Cameras", "camera_tasks"]

REACHED = 1.0  # pixels from the goal


@dataclass(frozen=True)
class CameraTasks:
    """n tasks: scenes [n 64 64], starts [n 2] and goals [n 2] in pixels, the side of a picture, the longest coordinate of a step."""

    canvas: Tensor
    start: Tensor
    goal: Tensor
    side: int
    bound: float

    def __len__(self) -> int:
        return len(self.start)


def camera_tasks(count: int, seed: int = 0, *, side: int = 16, far: float = 6.0, bound: float = 2.0) -> CameraTasks:
    """One task for each of `count` test scenes: the goal lies up to `far` pixels away in each coordinate, and more than `REACHED`."""
    rng = torch.Generator().manual_seed(torch_seed(seed, "camera-tasks"))
    start = SIZE * torch.rand(count, 2, generator=rng)
    away = far * (2 * torch.rand(count, 2, generator=rng) - 1)
    near = away.norm(dim=1, keepdim=True) <= 2 * REACHED
    away = torch.where(near, away + 2 * REACHED, away)
    return CameraTasks(canvases(range(count), seed, "test"), start, start + away, side, bound)


class Cameras:
    """n cameras under way: `position` [n 2] after `steps` motions."""

    def __init__(self, tasks: CameraTasks) -> None:
        if (tasks.start == tasks.goal).all(-1).any():
            raise DataError("the goal equals the start: there is nothing to plan; choose another goal")
        self.tasks, self.position, self.steps = tasks, tasks.start, 0

    def step(self, action: Tensor) -> Tensor:
        """Move each camera by its action [n 2], every coordinate cut to the bound; the new positions."""
        if action.shape != self.position.shape:
            raise DataError(
                f"{len(self.tasks)} cameras need actions {list(self.position.shape)}, found {list(action.shape)}"
            )
        if not torch.isfinite(action).all():
            raise DataError(
                f"an action needs finite numbers, found {int((~torch.isfinite(action)).sum())} that are not"
            )
        self.position = self.position + action.to(self.position).clamp(-self.tasks.bound, self.tasks.bound)
        self.steps += 1
        return self.position

    def distance(self) -> Tensor:
        """Pixels to the goals [n], on the plane: the canvas's repetition is no short cut."""
        return (self.position - self.tasks.goal).norm(dim=1)

    def picture(self) -> Tensor:
        """What is seen: uint8 [n 1 side side]."""
        return look(self.tasks.canvas, self.position.unsqueeze(1), self.tasks.side)

    def goal_picture(self) -> Tensor:
        """What would be seen at the goals."""
        return look(self.tasks.canvas, self.tasks.goal.unsqueeze(1), self.tasks.side)
