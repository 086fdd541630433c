"""Drawing group elements and crops: a function of (seed, epoch, sample id, view), each parameter with its own draw number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.random import key, keys, uniforms
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
    states = _states(seed, epoch, ids, view)
    g = _rows(group, strengths, states, 0)
    if group.action != "projective" or time is None or not strengths.get("projective", 0.0):
        return g
    far = _infinite(group, g, time)
    for attempt in range(1, _TRIES):
        if not far:
            return g
        g[far] = _rows(group, strengths, states[far], attempt * _AGAIN)
        far = [far[k] for k in _infinite(group, g[far], time[far])]
    if far:
        raise DataError(
            f"sample {ids[far[0]]}: {_TRIES} draws in a row sent one of its times to infinity:"
            f" lower the projective strength {strengths['projective']:g} (below 1 / largest time)"
        )
    return g


def _states(seed: int, epoch: int, ids: Sequence[int], view: int) -> NDArray[np.uint64]:
    """key(seed, epoch, id, "lie", view) of every sample."""
    return keys(np.asarray(ids, dtype=np.int64).astype(np.uint64), "lie", view, after=key(seed, epoch))


def _rows(group: Group, strengths: Mapping[str, float], states: NDArray[np.uint64], first: int) -> Tensor:
    value = uniforms(states, np.arange(first, first + len(group.generators), dtype=np.uint64))
    one_sided = np.array([name in group.one_sided for name in group.generators])
    strength = np.array([strengths.get(name, 0.0) for name in group.generators])
    return torch.from_numpy(strength * np.where(one_sided, value, 2 * value - 1))


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
    room = np.subtract(full, size) + 1
    value = uniforms(_states(seed, epoch, ids, view), np.arange(_CROP, _CROP + len(size), dtype=np.uint64))
    return torch.from_numpy((value * room).astype(np.int64))
