"""The data policies: noisy walks, a share of which is drawn so that it passes the door."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.worlds.rooms.draws import truncated_normal, uniform, von_mises
from tacit.worlds.rooms.dynamics import bounce, contact_noise, roll
from tacit.worlds.rooms.layouts import FAR, NEAR, Layouts, random_layouts

__all__ = ["ACTIONS", "Policy", "Walks", "walks"]

ACTIONS = 90  # of a trajectory, which has one state more
_EDGE = 0.01  # pixels that a start keeps from the border
# which draw of a key serves what; the walks take two draws an action from their base on
_LAYOUT, _X, _Y, _CROSSING, _DOOR_X, _DOOR_Y, _AT, _REVERSED, WINDOW, _SIDE, _PUSHED, _ANGLE = range(12)
_FIRST_WALK, _SECOND_WALK = 1000, 2000


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How the walks are drawn.

    crossing: share of trajectories made to pass the door (0.35 EB-JEPA, 0.60 PLDM's released generator). turn: 1 / kappa of
    the von Mises distribution of turns; a large one makes the directions uniform. Step lengths [pixels] are normal, cut.
    """

    crossing: float = 0.35
    turn: float = 0.2
    mean: float = 1.0
    std: float = 0.4
    low: float = 0.2
    high: float = 1.8


@dataclass(frozen=True)
class Walks:
    """n trajectories: positions [n 91 2] and actions [n 90 2] in float32; action i leads from state i to state i + 1."""

    positions: Tensor
    actions: Tensor
    layouts: Layouts
    crossing: Tensor

    @staticmethod
    def joined(parts: Sequence[Walks]) -> Walks:
        """All trajectories of all parts, in order."""
        layouts = Layouts(torch.cat([p.layouts.wall for p in parts]), torch.cat([p.layouts.door for p in parts]))
        positions, actions = torch.cat([p.positions for p in parts]), torch.cat([p.actions for p in parts])
        return Walks(positions, actions, layouts, torch.cat([p.crossing for p in parts]))

    def at(self, rows: Tensor) -> Walks:
        """The trajectories of these rows."""
        return Walks(self.positions[rows], self.actions[rows], self.layouts[rows], self.crossing[rows])


def _walk(keys: Tensor, base: int, first: Tensor, policy: Policy) -> Tensor:
    """Actions [n 90 2] that begin at the angle `first` [n] and turn by von Mises noise; float64."""
    step = torch.arange(ACTIONS, device=keys.device)
    turns = von_mises(uniform(keys.unsqueeze(-1), base + 2 * step[1:]), 1 / policy.turn)
    angle = torch.cat([first.unsqueeze(-1), turns], -1).cumsum(-1)
    share = uniform(keys.unsqueeze(-1), base + 2 * step + 1)
    length = truncated_normal(share, policy.mean, policy.std, policy.low, policy.high)
    return torch.stack([length * angle.cos(), length * angle.sin()], -1)


def _crossing(keys: Tensor, layouts: Layouts, policy: Policy) -> tuple[Tensor, Tensor]:
    """Starts [n 2] and actions [n 90 2] of trajectories that meet a drawn point in the doorway at a drawn step.

    One walk to the left and one to the right set out from the point; the first is run backwards, so that it arrives there.
    """
    door = torch.stack(
        [
            layouts.left.double() + uniform(keys, _DOOR_X) * (layouts.right - layouts.left).double(),
            layouts.door.double() + truncated_normal(uniform(keys, _DOOR_Y), 0.0, 1.4, -4.0, 4.0),
        ],
        -1,
    )
    at = 1 + (uniform(keys, _AT) * ACTIONS).long()  # 1 .. 90
    first = math.pi + (uniform(keys, _ANGLE) - 0.5) * (math.pi / 2)
    leftward = _walk(keys, _FIRST_WALK, first, policy)
    rightward = _walk(keys, _SECOND_WALK, first + math.pi, policy)
    step = torch.arange(ACTIONS, device=keys.device)
    since = step - at.unsqueeze(-1)
    back = (-1 - since).clamp_min(0).unsqueeze(-1).expand(-1, -1, 2)
    on = (since + 1).clamp_min(0).unsqueeze(-1).expand(-1, -1, 2)
    actions = torch.where((since < 0).unsqueeze(-1), -leftward.gather(1, back), rightward.gather(1, on))
    reverse = uniform(keys, _REVERSED) < 0.5
    actions = torch.where(reverse.view(-1, 1, 1), -actions.flip(1), actions)
    before = torch.where(reverse, ACTIONS - at, at)
    done = torch.where((step < before.unsqueeze(-1)).unsqueeze(-1), actions, 0).sum(1)
    return (door - done).clamp(NEAR + _EDGE, FAR - _EDGE), actions


def walks(keys: Tensor, policy: Policy | None = None, layouts: Layouts | None = None, rule: str = "stay-put") -> Walks:
    """One trajectory of 90 actions for each key [n], in a random layout unless `layouts` are given.

    Starts are uniform in the arena, those of crossing trajectories fixed by the door point; one inside the wall is pushed out
    to a random side. rule: how the offline data move (stay-put, as published) or as the environment does (bounce).
    """
    policy = policy or Policy()
    layouts = random_layouts(keys, _LAYOUT) if layouts is None else layouts.to(keys.device)
    start = NEAR + torch.stack([uniform(keys, _X), uniform(keys, _Y)], -1) * (FAR - NEAR)
    actions = _walk(keys, _FIRST_WALK, 2 * math.pi * uniform(keys, _ANGLE), policy)
    crossing = uniform(keys, _CROSSING) < policy.crossing
    rows = crossing.nonzero().squeeze(-1)
    if len(rows):
        start[rows], actions[rows] = _crossing(keys[rows], layouts[rows], policy)
    to_left, share = uniform(keys, _SIDE) < 0.5, uniform(keys, _PUSHED)
    left, right = layouts.left.double(), layouts.right.double()
    pushed = torch.where(to_left, NEAR + share * (left - NEAR), right + share * (FAR - right))
    start[:, 0] = torch.where(layouts.in_wall(start), pushed, start[:, 0])
    first, taken = start.float(), actions.float()
    if rule == "stay-put":
        after = roll(first, taken, layouts)
    else:
        path = [first]
        for i, action in enumerate(taken.unbind(1)):
            path.append(bounce(path[-1], action, layouts, contact_noise(keys, i)))
        after = torch.stack(path[1:], 1)
    return Walks(torch.cat([first.unsqueeze(1), after], 1), taken, layouts, crossing)
