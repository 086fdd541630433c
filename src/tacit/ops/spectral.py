"""Periodic functions on a uniform grid, through their Fourier coefficients.

Legend: the last axis of `u` is the grid x_j = j L / N; `length` is the period L, a number or one per sample, [n] or
broadcastable to `u` without its last axis. Exact for functions that the grid resolves. Everything is pure and works on
any device and in float32 or float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["derivative", "dot", "evaluate", "kept_modes", "shift", "upsample", "wavenumbers"]

TAU = 2 * math.pi


def _column(value: Tensor | float, like: Tensor) -> Tensor:
    """`value` with as many axes as `like` has, sample axes first, the last one of size 1."""
    v = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    while v.ndim < like.ndim:
        v = v.unsqueeze(-1)
    return v


def wavenumbers(points: int, length: Tensor | float, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """k = 2 pi m / L for m = 0 .. points // 2, radians per unit of x: [k] for a number, [n k] for [n] periods."""
    period = torch.as_tensor(length, dtype=dtype)
    m = torch.arange(points // 2 + 1, dtype=dtype, device=period.device)
    return TAU * m / period.unsqueeze(-1)


def kept_modes(points: int, dealias: bool) -> int:
    """How many of the modes 0, 1, ... a solver keeps: all of them, or those below points / 3 (the 2/3 rule).

    With the 2/3 rule the product of two kept functions has no alias among the kept modes.
    """
    return (points - 1) // 3 + 1 if dealias else points // 2 + 1


def derivative(u: Tensor, length: Tensor | float, order: int = 1) -> Tensor:
    """d^order u / dx^order along the last axis. Odd orders drop the Nyquist mode, which has no derivative on the grid."""
    points = u.shape[-1]
    k = TAU * torch.arange(points // 2 + 1, dtype=u.dtype, device=u.device) / _column(length, u)
    factor = (1j * k) ** order
    if points % 2 == 0 and order % 2:
        factor[..., -1] = 0
    return torch.fft.irfft(torch.fft.rfft(u) * factor, n=points)


def shift(u: Tensor, delta: Tensor | float, length: Tensor | float) -> Tensor:
    """u(x - delta) along the last axis; `delta` in units of x, broadcastable to `u` without its last axis.

    The Nyquist mode of an even grid stays as it is, so that two half shifts are one and an inverse undoes it.
    """
    points = u.shape[-1]
    d = torch.as_tensor(delta, dtype=u.dtype, device=u.device)
    d = d.reshape(d.shape + (1,) * (u.ndim - d.ndim)) if d.ndim < u.ndim else d
    angle = -TAU * torch.arange(points // 2 + 1, dtype=u.dtype, device=u.device) * d / _column(length, u)
    if points % 2 == 0:
        angle = angle.clone()
        angle[..., -1] = 0
    return torch.fft.irfft(torch.fft.rfft(u) * torch.polar(torch.ones_like(angle), angle), n=points)


def upsample(u: Tensor, factor: int, dim: int = -1) -> Tensor:
    """The same trigonometric polynomial on a grid `factor` times finer along `dim`."""
    points = u.shape[dim]
    modes = torch.fft.rfft(u, dim=dim)
    if points % 2 == 0:  # half of the Nyquist mode belongs to its negative twin on the finer grid
        head, last = modes.narrow(dim, 0, points // 2), modes.narrow(dim, points // 2, 1)
        modes = torch.cat([head, last.real.to(modes.dtype) / 2], dim) if factor > 1 else modes
    return torch.fft.irfft(modes, n=points * factor, dim=dim) * factor


def evaluate(u: Tensor, at: Tensor, length: Tensor | float) -> Tensor:
    """The trigonometric polynomial of `u` [... x] at any points `at` [... p], in units of x: [... p].

    A dense sum of all modes: exact, cost N per point. Points outside the period see the periodic continuation.
    """
    points = u.shape[-1]
    modes = torch.fft.rfft(u) / points
    weight = torch.full((points // 2 + 1,), 2.0, dtype=u.dtype, device=u.device)
    weight[0] = 1
    if points % 2 == 0:
        weight[-1] = 1
    angle = TAU * (at / _column(length, at)).unsqueeze(-1)
    angle = angle * torch.arange(points // 2 + 1, dtype=u.dtype, device=u.device)
    scaled = (modes * weight).unsqueeze(-2)
    return (angle.cos() * scaled.real - angle.sin() * scaled.imag).sum(-1)


def dot(u: Tensor, v: Tensor, length: Tensor | float) -> Tensor:
    """The integral of u v over one period (trapezoid rule, spectrally accurate): `u` without its last axis."""
    mean = (u * v).mean(-1)
    return mean * _column(length, mean)


def require_periodic(periodic: bool, what: str) -> None:
    """Refuse spectral work along an axis that is not periodic, in one sentence."""
    if not periodic:
        raise DataError(
            f"{what} needs data that repeat along the axis, and this axis is not periodic: use resample='cubic' or crop"
        )
