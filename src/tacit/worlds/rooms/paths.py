"""The length of the shortest way through the door: the distance that a good latent distance should resemble."""

from __future__ import annotations

from itertools import pairwise, product

import torch
from torch import Tensor

from tacit.worlds.rooms.layouts import Layouts

__all__ = ["path_length"]

_ROUNDING = 1e-4  # pixels that a line through a corner may miss the door by


def _free(p: Tensor, q: Tensor, layouts: Layouts) -> Tensor:
    """Does the line from p to q cross the faces of the wall only where the door is? [n]"""
    px, py = p.unbind(-1)
    qx, qy = q.unbind(-1)
    free = torch.ones_like(px, dtype=torch.bool)
    for face in (layouts.left, layouts.right):
        crosses = (px - face).sign() * (qx - face).sign() < 0
        y = py + (face - px) / torch.where(qx == px, 1, qx - px) * (qy - py)
        free &= ~crosses | ((y >= layouts.low - _ROUNDING) & (y <= layouts.high + _ROUNDING))
    return free


def path_length(position: Tensor, goal: Tensor, layouts: Layouts) -> Tensor:
    """Length [n] in pixels of the shortest path from positions to goals [n 2] that stays out of the wall.

    A shortest path is a chain of lines over corners of the door, at most one on each face; both points must be free. Used as the
    cost of a planner with the true dynamics it solves every task, where the straight distance waits in front of the wall.
    """
    shape = torch.broadcast_shapes(position.shape, goal.shape)
    position, goal = position.expand(shape), goal.expand(shape)
    corner = {
        (x, y): torch.stack([getattr(layouts, x).expand(shape[:-1]), getattr(layouts, y).expand(shape[:-1])], -1)
        for x, y in product(("left", "right"), ("low", "high"))
    }
    chains: list[list[Tensor]] = [[], *([point] for point in corner.values())]
    for a, b in product(("low", "high"), repeat=2):
        chains += [[corner["left", a], corner["right", b]], [corner["right", a], corner["left", b]]]
    best = torch.full(shape[:-1], float("inf"), dtype=position.dtype, device=position.device)
    for chain in chains:
        points = [position, *chain, goal]
        length, free = torch.zeros_like(best), torch.ones_like(best, dtype=torch.bool)
        for p, q in pairwise(points):
            length = length + (q - p).square().sum(-1).sqrt()
            free = free & _free(p, q, layouts)
        best = torch.where(free & (length < best), length, best)
    return best
