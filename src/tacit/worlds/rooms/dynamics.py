"""How an action moves the dot: the rule of the offline data (stay put on contact) and the rule of the environment (bounce).

Both are pure functions on [n 2] tensors of one floating type, on any device. Source: arXiv 2602.03604 and the public code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tacit.worlds.rooms.draws import normal
from tacit.worlds.rooms.layouts import FAR, NEAR, Layouts

__all__ = ["CONTACT_STD", "Rule", "bounce", "contact_noise", "roll", "stay_put"]

CONTACT_STD = 0.5  # of the noise after a bounce, pixels
_INSET = 0.3  # a coordinate on or beyond a wall is set this far inside
_BORDERS = (NEAR, FAR)
Rule = Literal["bounce", "stay-put"]


def _touches(p: Tensor, q: Tensor, line: Tensor | float) -> Tensor:
    """Does the step from p to q touch or cross the line?"""
    return (p - line).sign() * (q - line).sign() <= 0


def _share(p: Tensor, q: Tensor, line: Tensor | float) -> Tensor:
    """Which share of the step lies before the line; 0 for a step along it (where a slope would be 0/0)."""
    step = q - p
    return torch.where(step == 0, torch.zeros_like(step), (line - p) / torch.where(step == 0, 1, step))


def stay_put(position: Tensor, action: Tensor, layouts: Layouts) -> Tensor:
    """position + action, or the old position where the step meets a border line, a door jamb or the wall outside the door.

    A face of the wall is open on the closed interval of the door; a jamb stops only what moves out of the doorway. The rule
    of the published data sets of PLDM and EB-JEPA, but that a touch counts on every line: there a dot that lands exactly on
    a face is through.
    """
    ahead = position + action
    px, py = position.unbind(-1)
    qx, qy = ahead.unbind(-1)
    blocked = torch.zeros_like(px, dtype=torch.bool)
    for border in _BORDERS:
        blocked |= _touches(px, qx, border) | _touches(py, qy, border)
    left, right = layouts.left, layouts.right
    for jamb, outward in ((layouts.high, qy > py), (layouts.low, qy < py)):
        x = px + _share(py, qy, jamb) * (qx - px)
        blocked |= outward & _touches(py, qy, jamb) & (x >= left) & (x <= right)
    for face in (left, right):
        y = py + _share(px, qx, face) * (qy - py)
        blocked |= _touches(px, qx, face) & ((y < layouts.low) | (y > layouts.high))
    return torch.where(blocked.unsqueeze(-1), position, ahead)


def roll(position: Tensor, actions: Tensor, layouts: Layouts) -> Tensor:
    """Positions after each of the actions [n h 2] under the rule `stay_put`: [n h 2]."""
    path = []
    for action in actions.unbind(1):
        position = stay_put(position, action, layouts)
        path.append(position)
    return torch.stack(path, 1)


def contact_noise(keys: Tensor, step: Tensor | int) -> Tensor:
    """The standard normal pair [n 2] that belongs to step number `step` of the episode with this key."""
    return torch.stack([normal(keys, 2 * step), normal(keys, 2 * step + 1)], -1)


def bounce(position: Tensor, action: Tensor, layouts: Layouts, noise: Tensor) -> Tensor:
    """position + action; on contact the point of contact plus 0.5 times `noise`, folded back to the side the dot came from.

    noise: standard normal [n 2]. A jamb inside the doorway is met first; then left and right (the face of the wall, open at
    the door, takes the place of one border), then top and bottom; of two contacts the nearer counts. The result lies in the
    room of the contact, at least the tiniest bit inside. Steps shorter than the door (8 pixels) cannot pass through anything.
    """
    ahead = position + action
    px, py = position.unbind(-1)
    qx, qy = ahead.unbind(-1)
    noise = CONTACT_STD * noise.to(position.dtype)
    left, right, low, high = layouts.left, layouts.right, layouts.low, layouts.high

    # out of the doorway across a jamb: no room to be clamped to, the doorway is wider than any noise
    result, done = ahead, torch.zeros_like(px, dtype=torch.bool)
    for jamb, crosses, back in ((high, (qy > high) & (py <= high), -1.0), (low, (qy < low) & (py >= low), 1.0)):
        x = px + _share(py, qy, jamb) * (qx - px)
        hit = crosses & (x >= left) & (x <= right)
        held = torch.stack([x + noise[..., 0], jamb + back * noise[..., 1].abs()], -1)
        result = torch.where((hit & ~done).unsqueeze(-1), held, result)
        done = done | hit

    on_left = layouts.wall > px
    west, east = torch.where(on_left, NEAR, right), torch.where(on_left, left, FAR)

    def side(line: Tensor, is_wall: Tensor) -> tuple[Tensor, Tensor]:
        y = py + _share(px, qx, line) * (qy - py)
        return _touches(px, qx, line) & ~(is_wall & (y >= low) & (y <= high)), y

    hit_west, y_west = side(west, ~on_left)
    hit_east, y_east = side(east, on_left)
    hit_x = hit_west | hit_east
    across = torch.stack([torch.where(hit_west, west, east), torch.where(hit_west, y_west, y_east)], -1)

    hit_top, hit_bottom = _touches(py, qy, NEAR), _touches(py, qy, FAR)
    hit_y = hit_top | hit_bottom
    line = torch.where(hit_top, torch.full_like(py, NEAR), FAR)
    along = torch.stack([px + _share(py, qy, line) * (qx - px), line], -1)

    nearer = (across - position).square().sum(-1) < (along - position).square().sum(-1)
    by_x = hit_x & (~hit_y | nearer)
    contact = torch.where(by_x.unsqueeze(-1), across, along)
    folded = noise.abs() * (position - contact).sign()
    axis = torch.stack([by_x, ~by_x], -1)
    placed = contact + torch.where(axis, folded, noise)
    in_left = contact[..., 0] < layouts.wall
    west, east = torch.where(in_left, NEAR, right), torch.where(in_left, left, FAR)
    x = _inside(placed[..., 0], west, east)
    y = _inside(placed[..., 1], torch.full_like(py, NEAR), torch.full_like(py, FAR))
    hit = (hit_x | hit_y) & ~done
    return torch.where(hit.unsqueeze(-1), torch.stack([x, y], -1), result)


def _inside(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values on or beyond an end are set inside it."""
    value = torch.where(value <= low, low + _INSET, value)
    return torch.where(value >= high, high - _INSET, value)
