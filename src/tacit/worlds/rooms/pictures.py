"""The two-channel picture of a world, and the published normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.worlds.rooms.layouts import FAR, NEAR, SIZE, Layouts

__all__ = ["DOT_STD", "MEAN", "POSITION_MEAN", "POSITION_STD", "STD", "draw", "draw_dot", "draw_walls", "normalise",
           "normalise_position", "unnormalise_position"]  # fmt: skip

DOT_STD = 1.3  # pixels
MEAN, STD = (0.0026, 0.0989), (0.0369, 0.2986)  # of the channels dot and wall after each was scaled to [0, 1]
POSITION_MEAN, POSITION_STD = (31.5863, 32.0618), (16.1025, 16.1353)


def draw_dot(position: Tensor, std: float = DOT_STD) -> Tensor:
    """floor(255 exp(-d^2 / (2 std^2))) at every pixel: uint8 [... 65 65] of positions [... 2].

    The Gaussian is the product of one over x and one over y: 130 exponentials a picture in place of 4225.
    """
    pixel = torch.arange(SIZE, device=position.device, dtype=position.dtype)
    bell = (-(position.unsqueeze(-1) - pixel).square() / (2 * std * std)).exp()
    x, y = bell.unbind(-2)
    return ((255 * y).unsqueeze(-1) * x.unsqueeze(-2)).to(torch.uint8)


def draw_walls(layouts: Layouts) -> Tensor:
    """The border lines, through the whole picture, and the wall with its door, 0 or 255: uint8 [n 65 65]."""
    pixel = torch.arange(SIZE, device=layouts.wall.device)
    near_wall = (pixel - layouts.wall.unsqueeze(-1)).abs() <= 1
    beside_door = (pixel - layouts.door.unsqueeze(-1)).abs() > 4
    line = (pixel == NEAR) | (pixel == FAR)
    solid = (near_wall.unsqueeze(-2) & beside_door.unsqueeze(-1)) | line | line.unsqueeze(-1)
    return solid.to(torch.uint8) * 255


def draw(position: Tensor, layouts: Layouts, std: float = DOT_STD) -> Tensor:
    """The channels dot and wall: uint8 [n ... 2 65 65] of positions [n ... 2]."""
    dot = draw_dot(position, std)
    walls = draw_walls(layouts)
    walls = walls.view(len(walls), *(1,) * (dot.ndim - 3), SIZE, SIZE).expand_as(dot)
    return torch.stack([dot, walls], -3)


def normalise(picture: Tensor) -> Tensor:
    """Each channel of each picture scaled to [0, 1], minus the mean over the deviation: float32 [... 2 65 65].

    A dark dot channel, where the dot is out of sight, stays dark. One multiplication and one addition a pixel.
    """
    low = picture.amin((-2, -1), keepdim=True).float()
    high = picture.amax((-2, -1), keepdim=True).float()
    mean, std = (torch.tensor(v, device=picture.device).view(2, 1, 1) for v in (MEAN, STD))
    scale = 1 / ((high - low + 1e-6) * (std + 1e-6))
    return torch.addcmul(-low * scale - mean / (std + 1e-6), picture.float(), scale)


def normalise_position(position: Tensor) -> Tensor:
    """Pixels to the published units."""
    return (position - position.new_tensor(POSITION_MEAN)) / position.new_tensor(POSITION_STD)


def unnormalise_position(position: Tensor) -> Tensor:
    """The published units to pixels."""
    return position * position.new_tensor(POSITION_STD) + position.new_tensor(POSITION_MEAN)
