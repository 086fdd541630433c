"""The two-channel picture of a world, and the published normalisation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tacit.worlds.rooms.layouts import FAR, HALF_DOOR, HALF_WALL, NEAR, SIZE, Layouts

__all__ = ["DOT_STD", "MEAN", "POSITION_MEAN", "POSITION_STD", "STD", "colours", "draw", "draw_dot", "draw_walls", "normalise",
           "normalise_position", "unnormalise_position"]  # fmt: skip

DOT_STD = 1.3  # pixels
_PIECE = 64  # pictures in floating point at once: a megabyte, which stays in a processor's cache
MEAN, STD = (0.0026, 0.0989), (0.0369, 0.2986)  # of the channels dot and wall after each was scaled to [0, 1]
POSITION_MEAN, POSITION_STD = (31.5863, 32.0618), (16.1025, 16.1353)


@torch.no_grad()
def _paint_dot(picture: Tensor, position: Tensor, std: float) -> None:
    """Write the dots into uint8 [m 65 65]: only a window around each, outside which 255 times the Gaussian is below 1.

    The Gaussian is the product of one over x and one over y.
    """
    reach = std * (2 * math.log(255)) ** 0.5
    side = min(SIZE, math.floor(2 * reach) + 2)
    first = (position - reach).ceil().nan_to_num().clamp(0, SIZE - side)
    pixel = first.unsqueeze(-1) + torch.arange(side, device=position.device, dtype=position.dtype)  # [m 2 side]
    bell = (-(position.unsqueeze(-1) - pixel).square() / (2 * std * std)).exp()
    value = (255 * bell[:, 1]).unsqueeze(-1) * bell[:, 0].unsqueeze(-2)
    x, y = pixel.long().unbind(1)
    at = y.unsqueeze(-1) * SIZE + x.unsqueeze(-2)
    picture.zero_().view(-1, SIZE * SIZE).scatter_(1, at.flatten(1), value.flatten(1).to(torch.uint8))


def draw_dot(position: Tensor, std: float = DOT_STD) -> Tensor:
    """floor(255 exp(-d^2 / (2 std^2))) at every pixel: uint8 [... 65 65] of positions [... 2]."""
    picture = torch.empty(*position.shape[:-1], SIZE, SIZE, dtype=torch.uint8, device=position.device)
    _paint_dot(picture.view(-1, SIZE, SIZE), position.reshape(-1, 2), std)
    return picture


def draw_walls(layouts: Layouts) -> Tensor:
    """The border lines, through the whole picture, and the wall with its door, 0 or 255: uint8 [n 65 65]."""
    pixel = torch.arange(SIZE, device=layouts.wall.device)
    line = ((pixel == NEAR) | (pixel == FAR)).to(torch.uint8) * 255
    column = ((pixel - layouts.wall.unsqueeze(-1)).abs() <= HALF_WALL).to(torch.uint8) * 255
    row = ((pixel - layouts.door.unsqueeze(-1)).abs() > HALF_DOOR).to(torch.uint8)
    picture = row.unsqueeze(-1) * torch.maximum(column, line).unsqueeze(-2)
    for border in (int(NEAR), int(FAR)):
        picture[:, :, border] = 255
        picture[:, border] = 255
    return picture


def draw(position: Tensor, layouts: Layouts, std: float = DOT_STD) -> Tensor:
    """The channels dot and wall: uint8 [n ... 2 65 65] of positions [n ... 2]."""
    shape = position.shape[:-1]
    picture = torch.empty(*shape, 2, SIZE, SIZE, dtype=torch.uint8, device=position.device)
    flat = picture.view(-1, 2, SIZE, SIZE)
    _paint_dot(flat[:, 0], position.reshape(-1, 2), std)
    walls = draw_walls(layouts)
    picture[..., 1, :, :] = walls.view(len(walls), *(1,) * (len(shape) - 1), SIZE, SIZE)
    return picture


def normalise(picture: Tensor, shrink: int = 1) -> Tensor:
    """Each channel of each picture scaled to [0, 1], minus the mean over the deviation: float32 [... 2 65 65].

    A dark dot channel, where the dot is out of sight, stays dark. shrink: afterwards the mean over blocks of shrink x shrink pixels; rows
    and columns that fill no block are left out (with 2 the last, which lies outside the arena).
    """
    flat = picture.flatten(-2)
    low, high = (end.unsqueeze(-1).unsqueeze(-1).float() for end in (flat.amin(-1), flat.amax(-1)))
    mean, std = (torch.tensor(v, device=picture.device).view(2, 1, 1) for v in (MEAN, STD))
    scale = 1 / ((high - low + 1e-6) * (std + 1e-6))
    shift = -low * scale - mean / (std + 1e-6)
    return _blocks(picture, shrink).mul_(scale).add_(shift)  # in place: memory is what this costs


def _blocks(picture: Tensor, shrink: int) -> Tensor:
    """float32 of uint8 [... h w], or its means over blocks."""
    if shrink == 1:
        return picture.to(torch.float32, copy=True)
    flat = picture.reshape(-1, *picture.shape[-2:])
    small = torch.empty(len(flat), *(n // shrink for n in flat.shape[1:]), device=picture.device)
    piece = _PIECE if picture.device.type == "cpu" else max(1, len(flat))
    for whole, blocks in zip(flat.split(piece), small.split(piece), strict=True):
        blocks.copy_(F.avg_pool2d(whole.float(), shrink))
    return small.view(*picture.shape[:-2], *small.shape[1:])


def colours(picture: Tensor) -> Tensor:
    """Red, green, blue in [0, 1], [n 3 65 65] of [n 2 65 65]: white ground, black walls, red dot."""
    dot, walls = (picture / 255).unbind(-3)
    ground = 1 - walls
    return torch.stack([ground, ground * (1 - dot), ground * (1 - dot)], -3)


def normalise_position(position: Tensor) -> Tensor:
    """Pixels to the published units."""
    return (position - position.new_tensor(POSITION_MEAN)) / position.new_tensor(POSITION_STD)


def unnormalise_position(position: Tensor) -> Tensor:
    """The published units to pixels."""
    return position * position.new_tensor(POSITION_STD) + position.new_tensor(POSITION_MEAN)
