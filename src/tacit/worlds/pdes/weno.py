"""Shocks on a periodic line: WENO5 reconstruction, Godunov's flux for u^2 / 2, central differences, Dormand-Prince 5(4).

The scheme of MP-PDE (arXiv 2202.03376) for u_t + alpha u u_x - beta u_xx + gamma u_xxx = f(t). Values are cell averages.
Sources: Jiang & Shu 1996 (WENO5), Dormand & Prince 1980.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tacit.core.errors import RunError

__all__ = ["adaptive_step", "godunov", "right_side", "weno_left"]

_EPS = 1e-16
_DEEPEST = 24  # halvings of a step before it is given up

_C = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_GAP = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # fifth order minus fourth


def weno_left(u: Tensor) -> Tensor:
    """The value at the right face of every cell, seen from its left: from cells i - 2 .. i + 2, [n x]."""
    a, b, c, d, e = (u.roll(k, -1) for k in (2, 1, 0, -1, -2))
    candidates = ((2 * a - 7 * b + 11 * c) / 6, (-b + 5 * c + 2 * d) / 6, (2 * c + 5 * d - e) / 6)
    rough = (
        13 / 12 * (a - 2 * b + c).square() + (a - 4 * b + 3 * c).square() / 4,
        13 / 12 * (b - 2 * c + d).square() + (b - d).square() / 4,
        13 / 12 * (c - 2 * d + e).square() + (3 * c - 4 * d + e).square() / 4,
    )
    weights = [share / (_EPS + r).square() for share, r in zip((0.1, 0.6, 0.3), rough, strict=True)]
    total = weights[0] + weights[1] + weights[2]
    return sum((w * v for w, v in zip(weights[1:], candidates[1:], strict=True)), weights[0] * candidates[0]) / total


def godunov(left: Tensor, right: Tensor) -> Tensor:
    """The flux of u^2 / 2 between two states: max(max(left, 0)^2, min(right, 0)^2) / 2."""
    return torch.maximum(left.clamp_min(0).square(), right.clamp_max(0).square()) / 2


def right_side(u: Tensor, dx: float, alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """u_t without the forcing, [n x]; the three coefficients [n 1]. u_xx to fourth order, u_xxx to second, as published."""
    left = weno_left(u)
    right = weno_left(u.flip(-1)).flip(-1).roll(-1, -1)
    flux = godunov(left, right)
    p1, m1, p2, m2 = (u.roll(k, -1) for k in (-1, 1, -2, 2))
    second = (-p2 + 16 * p1 - 30 * u + 16 * m1 - m2) / (12 * dx**2)
    third = (p2 - 2 * p1 + 2 * m1 - m2) / (2 * dx**3)
    return -alpha * (flux - flux.roll(1, -1)) / dx + beta * second - gamma * third


def adaptive_step(
    rate: Callable[[Tensor, float, Tensor], Tensor], u: Tensor, t: float, h: float, tolerance: float
) -> Tensor:
    """u [n x] from t to t + h by Dormand-Prince; samples whose estimated error is too large take two halves instead.

    rate(u, t, which): u_t of the samples `which` at time t. The error of a sample is the root mean square over x of
    estimate / (tolerance (1 + |u|)), and passes below 1.
    """
    return _advance(rate, u, t, h, tolerance, torch.arange(len(u), device=u.device), 0)


def _advance(
    rate: Callable[[Tensor, float, Tensor], Tensor],
    u: Tensor,
    t: float,
    h: float,
    tolerance: float,
    which: Tensor,
    depth: int,
) -> Tensor:
    slopes: list[Tensor] = []
    y = u
    for c, row in zip(_C, _A, strict=True):
        y = u
        for a, k in zip(row, slopes, strict=True):
            if a:
                y = y + h * a * k
        slopes.append(rate(y, t + c * h, which))
    gap = h * sum((b * k for b, k in zip(_GAP[1:], slopes[1:], strict=True)), _GAP[0] * slopes[0])
    size = tolerance * (1 + torch.maximum(u.abs(), y.abs()))
    rough = ~((gap / size).square().mean(-1).sqrt() <= 1)  # NaN is rough too
    if bool(rough.any()):
        if depth >= _DEEPEST:
            raise RunError(
                f"a step of {h:.2g} at t = {t:.4g} is still not accurate to {tolerance:g}"
                f" (trajectory {int(which[rough][0])} of the batch): raise the tolerance or beta"
            )
        some = which[rough]
        half = _advance(rate, u[rough], t, h / 2, tolerance, some, depth + 1)
        y = y.clone()
        y[rough] = _advance(rate, half, t + h / 2, h / 2, tolerance, some, depth + 1)
    return y
