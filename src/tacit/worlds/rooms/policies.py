"""Scripted policies: what a success rate has to be read beside. Each is (position, goal, layouts, keys, step) -> action [n 2]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tacit.worlds.rooms.draws import truncated_normal, uniform
from tacit.worlds.rooms.layouts import Layouts

__all__ = ["POLICIES", "Policy", "oracle", "random_walk", "still", "straight"]

Policy = Callable[[Tensor, Tensor, Layouts, Tensor, int], Tensor]
_OFFSET = 1 << 32  # the policies' draws lie apart from those of the tasks and the contacts


def _towards(position: Tensor, target: Tensor, speed: float) -> Tensor:
    step = target - position
    length = step.square().sum(-1, keepdim=True).sqrt()
    return step * (speed / length.clamp_min(speed))


def still(position: Tensor, goal: Tensor, layouts: Layouts, keys: Tensor, step: int) -> Tensor:  # noqa: ARG001
    """Do nothing."""
    return torch.zeros_like(position)


def random_walk(position: Tensor, goal: Tensor, layouts: Layouts, keys: Tensor, step: int) -> Tensor:  # noqa: ARG001
    """A uniform direction and the step length of the data, anew at each step."""
    angle = 2 * math.pi * uniform(keys, _OFFSET + 2 * step)
    length = truncated_normal(uniform(keys, _OFFSET + 2 * step + 1), 1.0, 0.4, 0.2, 1.8)
    return torch.stack([length * angle.cos(), length * angle.sin()], -1).to(position.dtype)


def straight(position: Tensor, goal: Tensor, layouts: Layouts, keys: Tensor, step: int) -> Tensor:  # noqa: ARG001
    """Straight to the goal, at most 1 pixel a step, as if there were no wall."""
    return _towards(position, goal, 1.0)


def oracle(position: Tensor, goal: Tensor, layouts: Layouts, keys: Tensor, step: int) -> Tensor:  # noqa: ARG001
    """Through the middle of the door to the goal, at most 1.5 pixels a step. It reads the layout."""
    x, y = position.unbind(-1)
    side = torch.where(goal[..., 0] < layouts.wall, -1.0, 1.0)  # of the goal
    near, far = layouts.wall - 2.5 * side, layouts.wall + 2.5 * side
    arrived = (x - layouts.wall) * side > 1.2  # past the wall's face
    before = (x - layouts.wall) * side <= -1
    aligned = (y - layouts.door).abs() < 1
    target_x = torch.where(before & ~aligned, near, far)
    through = torch.stack([target_x, layouts.door.expand_as(target_x)], -1)
    return _towards(position, torch.where(arrived.unsqueeze(-1), goal, through), 1.5)


POLICIES: Mapping[str, Policy] = {"still": still, "random": random_walk, "straight": straight, "oracle": oracle}
