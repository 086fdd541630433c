"""Random numbers on tensors as functions of (key, draw): the counter-based stream of `tacit.core.random`, a tensor of keys at once.

A draw of one world is the same whether it is asked for alone or among thousands. Everything is float64.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from tacit.core.random import key

__all__ = ["keys", "normal_pair", "truncated_normal", "uniform", "von_mises"]

_CELLS = 8192


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x


_GOLDEN, _FIRST, _SECOND = (_signed(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _right(x: Tensor, bits: int) -> Tensor:
    """Shift right without copying the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser in int64: the products wrap as unsigned ones do."""
    x = x + _GOLDEN
    x = (x ^ _right(x, 30)) * _FIRST
    x = (x ^ _right(x, 27)) * _SECOND
    return x ^ _right(x, 31)


def keys(ids: Tensor, *numbers: int | str) -> Tensor:
    """`core.random.key(*numbers, id)` of every id (int64), as int64 with the same bits."""
    return _mix(ids ^ _signed(key(*numbers)))


def uniform(keys: Tensor, draw: Tensor | int) -> Tensor:
    """Draw number `draw` under each key, broadcast together: uniform in [0, 1) with 53 bits, equal to `core.random.uniform`."""
    place = draw * _GOLDEN if isinstance(draw, Tensor) else _signed(draw * _GOLDEN % (1 << 64))
    return _right(_mix(keys + place), 11).double() * 2.0**-53


def normal_pair(keys: Tensor, draw: Tensor | int) -> Tensor:
    """Two independent standard normal numbers [... 2] under each key (Box-Muller on the uniform draws `draw` and `draw` + 1)."""
    radius = (-2 * (1 - uniform(keys, draw)).log()).sqrt()
    angle = 2 * math.pi * uniform(keys, draw + 1)
    return radius.unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], -1)


def truncated_normal(u: Tensor, mean: float, std: float, low: float, high: float) -> Tensor:
    """The quantiles at `u` of a normal distribution cut to [low, high]."""
    ends = torch.special.ndtr((torch.tensor([low, high], dtype=torch.float64) - mean) / std).tolist()
    return (mean + std * torch.special.ndtri(ends[0] + u * (ends[1] - ends[0]))).clamp(low, high)


@functools.lru_cache(maxsize=8)
def _von_mises_table(concentration: float) -> Tensor:
    """The distribution function at _CELLS + 1 angles from -pi to pi (trapezoids: error below 1e-6)."""
    angle = torch.linspace(-math.pi, math.pi, _CELLS + 1, dtype=torch.float64)
    density = (concentration * (angle.cos() - 1)).exp()
    mass = torch.cat([density.new_zeros(1), ((density[1:] + density[:-1]) / 2).cumsum(0)])
    return mass / mass[-1]


def von_mises(u: Tensor, concentration: float) -> Tensor:
    """The quantiles at `u` of a von Mises distribution around 0, in (-pi, pi): density ~ exp(concentration cos angle)."""
    table = _von_mises_table(concentration).to(u.device)
    cell = (torch.searchsorted(table, u, right=True) - 1).clamp(0, _CELLS - 1)
    inside = (u - table[cell]) / (table[cell + 1] - table[cell]).clamp_min(1e-300)
    return -math.pi + (cell + inside) * (2 * math.pi / _CELLS)
