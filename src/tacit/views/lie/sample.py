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
    rows = []
    for i, sample in enumerate(ids):
        state = key(seed, epoch, int(sample), "lie", view)
        for attempt in range(_TRIES):
            row = _row(group, strengths, state, attempt * _AGAIN)
            if group.action != "projective" or time is None or _finite(group, row, time[i]):
                break
        else:
            raise DataError(
                f"sample {sample}: {_TRIES} draws in a row sent one of its times to infinity:"
                f" lower the projective strength {strengths.get('projective', 0):g} (below 1 / largest time)"
            )
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def _row(group: Group, strengths: Mapping[str, float], state: int, first: int) -> list[float]:
    row = []
    for k, name in enumerate(group.generators):
        value = uniform(state, first + k)
        strength = strengths.get(name, 0.0)
        row.append(strength * (value if name in group.one_sided else 2 * value - 1))
    return row


def _finite(group: Group, row: list[float], time: Tensor) -> bool:
    matrix = group.element(torch.tensor([row], dtype=torch.float64)).matrix[0]
    return bool((matrix[2, 1] * time.double().cpu() + matrix[2, 2] > 0.05).all())


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
