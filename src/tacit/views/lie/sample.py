"""Drawing group elements and crops: a function of (seed, epoch, sample id, view), each parameter with its own draw number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.random import key, uniform
from tacit.views.lie.algebra import Group

__all__ = ["draw", "draw_starts"]

_CROP, _AGAIN, _TRIES = 40, 64, 16


def draw(
    group: Group,
    strengths: Mapping[str, float],
    seed: int,
    epoch: int,
    ids: Sequence[int],
    view: int,
    time: Tensor | None = None,
) -> Tensor:
    """g [n k]: U(-s, s) for each generator, U(0, s) for the one-sided ones (time), zero where no strength is given.

    time: [n t], for projective groups: an element that would send one of these times to infinity is drawn again.
    """
    states = [key(seed, epoch, int(sample), "lie", view) for sample in ids]
    g = torch.tensor([_row(group, strengths, state, 0) for state in states], dtype=torch.float64)
    if group.action != "projective" or time is None or not strengths.get("projective", 0.0):
        return g
    far = _infinite(group, g, time)
    for attempt in range(1, _TRIES):
        if not far:
            return g
        for i in far:
            g[i] = torch.tensor(_row(group, strengths, states[i], attempt * _AGAIN), dtype=torch.float64)
        far = [far[k] for k in _infinite(group, g[far], time[far])]
    if far:
        raise DataError(
            f"sample {ids[far[0]]}: {_TRIES} draws in a row sent one of its times to infinity:"
            f" lower the projective strength {strengths['projective']:g} (below 1 / largest time)"
        )
    return g


def _row(group: Group, strengths: Mapping[str, float], state: int, first: int) -> list[float]:
    row = []
    for k, name in enumerate(group.generators):
        value = uniform(state, first + k)
        strength = strengths.get(name, 0.0)
        row.append(strength * (value if name in group.one_sided else 2 * value - 1))
    return row


def _infinite(group: Group, g: Tensor, time: Tensor) -> list[int]:
    """Which elements g [m k] send one of the times [m t] to infinity, or close to it."""
    matrix = torch.matrix_exp((g[:, :, None, None] * group.basis).sum(1))
    scale = matrix[:, 2, 1:2] * time.double().cpu() + matrix[:, 2, 2:3]
    return (scale <= 0.05).any(1).nonzero().squeeze(1).tolist()


def draw_starts(
    size: Sequence[int], full: Sequence[int], seed: int, epoch: int, ids: Sequence[int], view: int
) -> Tensor:
    """Where the crop of each sample begins along every axis, uniform over all places it fits: int64 [n axes]."""
    for axis, (s, f) in enumerate(zip(size, full, strict=True)):
        if s > f:
            raise DataError(f"crop of {s} does not fit axis {axis} of size {f}: the samples are {tuple(full)}")
    states = [key(seed, epoch, int(sample), "lie", view) for sample in ids]
    return torch.tensor(
        [[int(uniform(state, _CROP + a) * (f - s + 1)) for a, (s, f) in enumerate(zip(size, full, strict=True))]
         for state in states]
    )  # fmt: skip
