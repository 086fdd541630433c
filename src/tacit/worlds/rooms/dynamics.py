"""How an action moves the dot: the rule of the offline data (stay put on contact) and the rule of the environment (bounce).

Both are pure functions on [n 2] tensors of one floating type, on any device. Source: arXiv 2602.03604 and the public code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tacit.worlds.rooms.draws import normal_pair
from tacit.worlds.rooms.layouts import FAR, HALF_DOOR, HALF_WALL, NEAR, Layouts

__all__ = ["CONTACT_STD", "Rule", "bounce", "contact_noise", "roll", "stay_put"]

CONTACT_STD = 0.5  # of the noise after a bounce, pixels
_INSET = 0.3  # a coordinate on or beyond a wall is set this far inside
_CONTACT_DRAWS = 1 << 20  # above the draws of tasks and walks, below those of policies
Rule = Literal["bounce", "stay-put"]


def _safe(step: Tensor) -> Tensor:
    """A step to divide by: along a line that is met, a step of 0 begins on it, and any other number will do."""
    return torch.where(step == 0, 1, step)


def stay_put(position: Tensor, action: Tensor, layouts: Layouts) -> Tensor:
    """position + action, or the old position where the step meets a border line, a door jamb or the wall outside the door.

    A face of the wall is open on the closed interval of the door; a jamb stops only what moves out of the doorway. The rule
    of the published data sets of PLDM and EB-JEPA, but that a touch counts on every line: there a dot that lands exactly on
    a face is through.
    """
    ahead = position + action
    (px, py), (qx, qy) = position.unsqueeze(-1).unbind(-2), ahead.unsqueeze(-1).unbind(-2)  # each [n 1]
    dx, dy = qx - px, qy - py
    wall, door = layouts.wall.unsqueeze(-1), layouts.door.unsqueeze(-1)
    border = ((ahead <= NEAR) | (ahead >= FAR) | (position <= NEAR) | (position >= FAR)).any(-1)
    # lines to the left and right [n 2]: a point before and a point behind have a product below 0, a touch has 0
    before = px - layouts.faces
    y = py - before * (dy / _safe(dx))
    face = (before * (qx - layouts.faces) <= 0) & ((y - door).abs() > HALF_DOOR)
    before = py - layouts.jambs
    x = px - before * (dx / _safe(dy))
    outward = torch.cat([dy < 0, dy > 0], -1)
    jamb = outward & (before * (qy - layouts.jambs) <= 0) & ((x - wall).abs() <= HALF_WALL)
    blocked = border | (face | jamb).any(-1)
    return torch.where(blocked.unsqueeze(-1), position, ahead)


def roll(position: Tensor, actions: Tensor, layouts: Layouts) -> Tensor:
    """Positions after each of the actions [n h 2] under the rule `stay_put`: [n h 2]."""
    path = []
    for action in actions.unbind(1):
        position = stay_put(position, action, layouts)
        path.append(position)
    return torch.stack(path, 1)


def contact_noise(keys: Tensor, step: int) -> Tensor:
    """The standard normal pair [n 2] that belongs to step number `step` of the episode with this key."""
    return normal_pair(keys, _CONTACT_DRAWS + 2 * step)


def bounce(position: Tensor, action: Tensor, layouts: Layouts, noise: Tensor) -> Tensor:
    """position + action; on contact the point of contact plus 0.5 times `noise`, folded back to the side the dot came from.

    noise: standard normal [n 2]. A jamb inside the doorway is met first; then left and right (the face of the wall, open at
    the door, takes the place of one border), then top and bottom; of two contacts the nearer counts. The result lies in the
    room of the contact, at least the tiniest bit inside. Steps shorter than the door (8 pixels) cannot pass through anything.
    """
    ahead = position + action
    step = ahead - position
    noise = CONTACT_STD * noise.to(position.dtype)
    px, py = position.unbind(-1)
    slope = step.flip(-1) / _safe(step)  # dy / dx, dx / dy
    wall, door, faces = layouts.wall, layouts.door, layouts.faces

    # out of the doorway across a jamb: nothing to be clamped to, the doorway is wider than any noise
    down = step[..., 1] > 0
    line = torch.where(down, layouts.high, layouts.low)
    sign = torch.where(down, 1.0, -1.0).to(line.dtype)
    behind = (ahead[..., 1] - line) * sign > 0
    jamb = behind & ((py - line) * sign <= 0) & (step[..., 1] != 0)
    x = px + (line - py) * slope[..., 1]
    jamb = jamb & ((x - wall).abs() <= HALF_WALL)
    held = torch.stack([x + noise[..., 0], line - sign * noise[..., 1].abs()], -1)

    # the borders of the room on both axes; the wall's face takes the place of one
    on_left = px < wall
    low, high = _room(on_left, position, faces)
    hit_low = (position - low) * (ahead - low) <= 0
    hit = hit_low | ((position - high) * (ahead - high) <= 0)
    line = torch.where(hit_low, low, high)
    there = position.flip(-1) + (line - position) * slope  # y on the line of x, x on the line of y
    hit_x = hit[..., 0] & ~((on_left != hit_low[..., 0]) & ((there[..., 0] - door).abs() <= HALF_DOOR))
    hit_y = hit[..., 1]
    across, along = torch.stack([line[..., 0], there[..., 0]], -1), torch.stack([there[..., 1], line[..., 1]], -1)
    nearer = (across - position).square().sum(-1) < (along - position).square().sum(-1)
    by_x = (hit_x & (~hit_y | nearer)).unsqueeze(-1)
    contact = torch.where(by_x, across, along)
    folded = noise.abs() * (position - contact).sign()
    axis = torch.cat([by_x, ~by_x], -1)
    low, high = _room(contact[..., 0] < wall, position, faces)
    placed = _inside(contact + torch.where(axis, folded, noise), low, high)
    free = torch.where((hit_x | hit_y).unsqueeze(-1), placed, ahead)
    return torch.where(jamb.unsqueeze(-1), held, free)


def _room(on_left: Tensor, like: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper ends [n 2] of the left or the right room."""
    low, high = torch.full_like(like, NEAR), torch.full_like(like, FAR)
    low[..., 0] = torch.where(on_left, low[..., 0], faces[..., 1])
    high[..., 0] = torch.where(on_left, faces[..., 0], high[..., 0])
    return low, high


def _inside(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values on or beyond an end are set inside it."""
    value = torch.where(value <= low, low + _INSET, value)
    return torch.where(value >= high, high - _INSET, value)
