"""Exponential time stepping: ETDRK4 for v' = L v + N(v) with a diagonal L.

Source: Cox & Matthews 2002 (the scheme), Kassam & Trefethen 2005 (its coefficients by contour means). Coefficients stay
complex where L is (dispersion, advection): taking their real part there lowers the order from four to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Scheme", "advance", "etdrk4", "phi"]

_CONTOUR = 64  # points on the circle of radius 2: the mean of an entire function converges faster than exponentially


def phi(z: Tensor, order: int) -> Tensor:
    """phi_k(z): phi_0 = e^z, phi_{k+1} = (phi_k - 1/k!) / z, for complex128 `z`, to rounding for every z.

    Near zero, where the recurrence cancels, the mean over a circle of radius 2 around z is taken instead.
    """
    small = z.abs() < 1
    safe = torch.where(small, torch.ones_like(z), z)
    result = _recurrence(safe, order)
    if bool(small.any()):
        angle = 2 * math.pi * (torch.arange(_CONTOUR, dtype=torch.float64, device=z.device) + 0.5) / _CONTOUR
        circle = 2 * torch.polar(torch.ones_like(angle), angle)
        result = result.clone()
        result[small] = _recurrence(z[small].unsqueeze(-1) + circle, order).mean(-1)
    return result


def _recurrence(z: Tensor, order: int) -> Tensor:
    value = torch.exp(z)
    for k in range(order):
        value = (value - 1 / math.factorial(k)) / z
    return value


@dataclass(frozen=True)
class Scheme:
    """The coefficients of one ETDRK4 step, each broadcastable to the state; q, f1, f2, f3 contain the step and the factor."""

    e: Tensor
    half: Tensor
    q: Tensor
    f1: Tensor
    f2: Tensor
    f3: Tensor


def etdrk4(linear: Tensor, step: Tensor | float, factor: Tensor | None = None, *, dtype: torch.dtype) -> Scheme:
    """Coefficients for the symbol `linear` [... k] and the step h ([n] or a number), computed in complex128.

    factor: a diagonal operator in front of the nonlinear term (for example -ik/2), folded in so that the step need not
    apply it. dtype: of the coefficients, complex64 or complex128.
    """
    symbol = linear.to(torch.complex128)
    h = torch.as_tensor(step, dtype=torch.float64, device=linear.device)
    if h.ndim:
        h = h.reshape(h.shape + (1,) * (symbol.ndim - h.ndim)) if symbol.ndim > h.ndim else h.unsqueeze(-1)
    z = symbol * h
    scale = h * (1.0 if factor is None else factor.to(torch.complex128))
    p1, p2, p3 = phi(z, 1), phi(z, 2), phi(z, 3)
    parts = (
        torch.exp(z),
        torch.exp(z / 2),
        scale * phi(z / 2, 1) / 2,
        scale * (p1 - 3 * p2 + 4 * p3),
        scale * (2 * p2 - 4 * p3),  # stands in front of N(a) + N(b)
        scale * (4 * p3 - p2),
    )
    return Scheme(*(part.to(dtype) for part in parts))


def advance(
    v: Tensor,
    nonlinear: Callable[[Tensor], Tensor],
    scheme: Scheme,
    forces: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """One step. `nonlinear` returns N without the factor that the scheme has folded in.

    forces: a term that depends on time alone, at the start, middle and end of the step, added to N.
    """
    begin, middle, end = (0.0, 0.0, 0.0) if forces is None else forces
    forced = forces is not None
    nv = nonlinear(v) + begin if forced else nonlinear(v)
    base = scheme.half * v
    a = torch.addcmul(base, scheme.q, nv)
    na = nonlinear(a) + middle if forced else nonlinear(a)
    b = base.addcmul_(scheme.q, na)  # in place: fresh memory costs as much as the arithmetic here
    nb = nonlinear(b) + middle if forced else nonlinear(b)
    out = (scheme.e * v).addcmul_(scheme.f1, nv).addcmul_(scheme.f2, na + nb)
    c = (scheme.half * a).addcmul_(scheme.q, torch.sub(2 * nb, nv))
    nc = nonlinear(c) + end if forced else nonlinear(c)
    return out.addcmul_(scheme.f3, nc)
