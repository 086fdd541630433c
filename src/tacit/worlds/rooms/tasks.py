"""Where an episode starts and where it shall end: always in different rooms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.worlds.rooms.draws import keys as keys_of
from tacit.worlds.rooms.draws import uniform
from tacit.worlds.rooms.layouts import DOORS, FAR, NEAR, SIZE, WALLS, Layouts, all_layouts, random_layouts
from tacit.worlds.rooms.pictures import DOT_STD

__all__ = ["Level", "Tasks", "published_tasks", "random_tasks"]

Level = Literal["easy", "medium"]
PADDING = 2 * DOT_STD
_EASY_STEPS = 17  # the published n_steps; with the evaluation's 200 the level "easy" does not fit into the rooms


@dataclass(frozen=True)
class Tasks:
    """n tasks: layouts, starts [n 2] and goals [n 2] in pixels, and the key [n] of all later noise."""

    layouts: Layouts
    start: Tensor
    goal: Tensor
    keys: Tensor

    def __len__(self) -> int:
        return len(self.start)

    def to(self, device: torch.device | str) -> Tasks:
        """On another device."""
        return Tasks(self.layouts.to(device), self.start.to(device), self.goal.to(device), self.keys.to(device))


def random_tasks(keys: Tensor, level: Level = "medium", layouts: Layouts | None = None) -> Tasks:
    """One task for each key [n]: a random layout unless `layouts` are given, start and goal drawn as `level` says.

    medium: anywhere in the rooms, 2.6 pixels away from every wall. easy: 5 to 13 pixels from the wall and within 13 rows of
    the door. The draws 0..5 are layout, x of both, y of both, and the coin that says which is the start.
    """
    if layouts is None:
        layouts = random_layouts(keys, 0)
    u = torch.stack([uniform(keys, draw) for draw in range(1, 6)], -1)
    layouts = layouts.to(keys.device)
    return _tasks(layouts, u, keys, level)


def _tasks(layouts: Layouts, u: Tensor, keys: Tensor, level: Level) -> Tasks:
    left, right = layouts.left.double(), layouts.right.double()
    low = torch.full_like(left, NEAR + PADDING)
    high = torch.full_like(left, SIZE - 1 - NEAR - PADDING)
    if level == "easy":
        far, near = math.ceil(_EASY_STEPS * 3 / 4), math.ceil(_EASY_STEPS / 4)
        west, east = (left - far, left - near), (right + near, right + far)
        rows = (torch.maximum(layouts.door.double() - far, low), torch.minimum(layouts.door.double() + far, high))
    else:
        west, east, rows = (low, left - PADDING), (right + PADDING, high), (low, high)

    def between(ends: tuple[Tensor, Tensor], share: Tensor) -> Tensor:
        return ends[0] + share * (ends[1] - ends[0])

    x0, x1 = between(west, u[:, 0]), between(east, u[:, 1])
    y0, y1 = between(rows, u[:, 2]), between(rows, u[:, 3])
    swap = u[:, 4] < 0.5
    start = torch.stack([torch.where(swap, x1, x0), y0], -1).float()
    goal = torch.stack([torch.where(swap, x0, x1), y1], -1).float()
    return Tasks(layouts, start, goal, keys)


def published_tasks(n: int, seed: int = 0, *, layouts: Layouts | None = None, skip: int = 1) -> Tasks:
    """The tasks that the public evaluation meets: its draws from numpy's default generator, in its order.

    It throws the first task away (skip=1) and begins again with seed 0 at every evaluation: always the same 20 tasks.
    layouts: n given ones, which take no draw. The contact noise afterwards is our own.
    """
    if seed < 0:
        raise DataError(f"published tasks are drawn by numpy's generator, whose seeds begin at 0, found seed {seed}")
    rng = np.random.default_rng(seed)
    known = all_layouts()
    rows, numbers = [], []
    for _ in range(n + skip):
        if layouts is None:  # every layout is listed twice there
            rows.append(int(rng.choice(2 * len(WALLS) * len(DOORS))) // 2)
        numbers.append([rng.random() for _ in range(5)])
    u = torch.tensor(numbers[skip:], dtype=torch.float64).reshape(n, 5)
    if layouts is None:
        layouts = known[torch.tensor(rows[skip:], dtype=torch.int64)]
    return _tasks(layouts, u, keys_of(torch.arange(n), seed, "rooms", "published"), "medium")


def check_task(layouts: Layouts, start: Tensor, goal: Tensor) -> None:
    """Refuse a start or goal that is outside the arena or in the wall, and a goal that equals the start."""
    for name, place in (("start", start), ("goal", goal)):
        if not torch.isfinite(place).all():
            raise DataError(f"the {name} needs finite coordinates, found {place.tolist()}")
        outside = ((place <= NEAR) | (place >= FAR)).any()
        if outside or layouts.in_wall(place).any():
            raise DataError(
                f"the {name} {place.tolist()} must lie inside the rooms: between {NEAR:g} and {FAR:g} and not in the wall"
            )
    if (start == goal).all(-1).any():
        raise DataError(f"the goal equals the start {start.tolist()}: there is nothing to plan; choose another goal")
