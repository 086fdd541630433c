"""Where the walls are. Lengths in pixels; the image has 65 x 65."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.worlds.rooms.draws import uniform

__all__ = [
    "DOORS",
    "FAR",
    "HALF_DOOR",
    "HALF_WALL",
    "NEAR",
    "SIZE",
    "WALLS",
    "Layouts",
    "all_layouts",
    "fixed_layouts",
    "random_layouts",
]

SIZE = 65
NEAR, FAR = 4.0, 60.0  # the border lines on both axes; the free interior is the open square between them
HALF_WALL, HALF_DOOR = 1, 4  # the wall covers the columns w - 1 .. w + 1, the door the rows d - 4 .. d + 4
WALLS, DOORS = range(20, 45), range(10, 55)


@dataclass(frozen=True, eq=False)
class Layouts:
    """n worlds: the column of the wall's middle and the row of the door's middle, each float [n]."""

    wall: Tensor
    door: Tensor

    @cached_property
    def faces(self) -> Tensor:
        """The wall's left and right face [n 2]."""
        return torch.stack([self.wall - HALF_WALL, self.wall + HALF_WALL], -1)

    @cached_property
    def jambs(self) -> Tensor:
        """The door's upper and lower jamb in the picture, the smaller y first [n 2]."""
        return torch.stack([self.door - HALF_DOOR, self.door + HALF_DOOR], -1)

    @property
    def left(self) -> Tensor:
        """The wall's left face [n]."""
        return self.faces[..., 0]

    @property
    def right(self) -> Tensor:
        """The wall's right face [n]."""
        return self.faces[..., 1]

    @property
    def low(self) -> Tensor:
        """The jamb with the smaller y [n]."""
        return self.jambs[..., 0]

    @property
    def high(self) -> Tensor:
        """The jamb with the larger y [n]."""
        return self.jambs[..., 1]

    def __len__(self) -> int:
        return len(self.wall)

    def __getitem__(self, rows: Tensor | slice) -> Layouts:
        return Layouts(self.wall[rows], self.door[rows])

    def repeat(self, samples: int) -> Layouts:
        """Each world `samples` times in a row: the order in which planners ask for their samples."""
        return Layouts(self.wall.repeat_interleave(samples), self.door.repeat_interleave(samples))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Layouts:
        """On another device or in another type."""
        return Layouts(self.wall.to(device, dtype), self.door.to(device, dtype))

    def in_wall(self, position: Tensor) -> Tensor:
        """Is a position [n 2] inside the wall, the doorway excepted?"""
        x, y = position.unbind(-1)
        return (x >= self.left) & (x <= self.right) & ((y < self.low) | (y > self.high))


def fixed_layouts(n: int, wall: float = 32, door: float = 18) -> Layouts:
    """n equal layouts; the fixed wall of EB-JEPA is (32, 18), of PLDM (32, 10)."""
    for name, value, known in (("wall", wall, WALLS), ("door", door, DOORS)):
        if not known[0] <= value <= known[-1]:
            raise DataError(f"{name}={value}: a {name} stands between {known[0]} and {known[-1]} pixels")
    return Layouts(torch.full((n,), float(wall)), torch.full((n,), float(door)))


def all_layouts() -> Layouts:
    """The 1125 layouts, in the published order: the door's row runs fastest."""
    grid = torch.cartesian_prod(torch.tensor(WALLS), torch.tensor(DOORS)).float()
    return Layouts(grid[:, 0], grid[:, 1])


def random_layouts(keys: Tensor, draw: int = 0) -> Layouts:
    """One of the 1125 layouts for each key [n], all equally likely; uses one draw."""
    which = (uniform(keys, draw) * (len(WALLS) * len(DOORS))).long()
    wall = WALLS[0] + which.div(len(DOORS), rounding_mode="floor")
    return Layouts(wall.float(), (DOORS[0] + which % len(DOORS)).float())
