"""The two-channel picture of a world, and the published normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.worlds.rooms.layouts import FAR, HALF_DOOR, HALF_WALL, NEAR, SIZE, Layouts

__all__ = ["DOT_STD", "MEAN", "POSITION_MEAN", "POSITION_STD", "STD", "draw", "draw_dot", "draw_walls", "normalise",
           "normalise_position", "unnormalise_position"]  # fmt: skip

DOT_STD = 1.3  # pixels
MEAN, STD = (0.0026, 0.0989), (0.0369, 0.2986)  # of the channels dot and wall after each was scaled to [0, 1]
_PIECE = 64  # pictures painted at once: a megabyte of float32
POSITION_MEAN, POSITION_STD = (31.5863, 32.0618), (16.1025, 16.1353)


def _bells(position: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """The Gaussian over the rows, times 255, and over the columns: each [... 65]."""
    pixel = torch.arange(SIZE, device=position.device, dtype=position.dtype)
    bell = (-(position.unsqueeze(-1) - pixel).square() / (2 * std * std)).exp()
    return 255 * bell[..., 1, :], bell[..., 0, :]


@torch.no_grad()
def _paint_dot(picture: Tensor, position: Tensor, std: float) -> None:
    """Write the dots into uint8 [m 65 65], in pieces that stay in the processor's cache."""
    rows, columns = _bells(position, std)
    piece = _PIECE if picture.device.type == "cpu" else max(1, len(picture))
    drawn = position.new_empty(min(piece, len(picture)), SIZE, SIZE)
    for part, y, x in zip(picture.split(piece), rows.split(piece), columns.split(piece), strict=True):
        part.copy_(torch.mul(y.unsqueeze(-1), x.unsqueeze(-2), out=drawn[: len(part)]))


def draw_dot(position: Tensor, std: float = DOT_STD) -> Tensor:
    """floor(255 exp(-d^2 / (2 std^2))) at every pixel: uint8 [... 65 65] of positions [... 2].

    The Gaussian is the product of one over x and one over y: 130 exponentials a picture in place of 4225.
    """
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


def normalise(picture: Tensor) -> Tensor:
    """Each channel of each picture scaled to [0, 1], minus the mean over the deviation: float32 [... 2 65 65].

    A dark dot channel, where the dot is out of sight, stays dark.
    """
    flat = picture.flatten(-2)
    low, high = (end.unsqueeze(-1).unsqueeze(-1).float() for end in (flat.amin(-1), flat.amax(-1)))
    mean, std = (torch.tensor(v, device=picture.device).view(2, 1, 1) for v in (MEAN, STD))
    scale = 1 / ((high - low + 1e-6) * (std + 1e-6))
    shift = -low * scale - mean / (std + 1e-6)
    return picture.to(torch.float32, copy=True).mul_(scale).add_(shift)  # in place: memory is what this costs


def normalise_position(position: Tensor) -> Tensor:
    """Pixels to the published units."""
    return (position - position.new_tensor(POSITION_MEAN)) / position.new_tensor(POSITION_STD)


def unnormalise_position(position: Tensor) -> Tensor:
    """The published units to pixels."""
    return position * position.new_tensor(POSITION_STD) + position.new_tensor(POSITION_MEAN)
