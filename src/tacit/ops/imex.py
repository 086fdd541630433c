"""Implicit-explicit time stepping: the linear part implicit, the rest explicit. ARS(4,4,3) for a diagonal L.

Source: Ascher, Ruuth & Spiteri 1997, section 2.8. Third order, L-stable, four implicit stages with one resolvent. Beside
ETDRK4 it has no exponentials to prepare, so that the step may change at no cost; for the same digits it needs more steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tacit.ops.adams import Adams, adams
from tacit.ops.exponential import advance, etdrk4

__all__ = ["ImexScheme", "Method", "advance_imex", "ars443", "integrator"]

Method = Literal["etdrk4", "imex", "adams"]

_IMPLICIT = ((1 / 2,), (1 / 6, 1 / 2), (-1 / 2, 1 / 2, 1 / 2), (3 / 2, -3 / 2, 1 / 2, 1 / 2))
_EXPLICIT = ((1 / 2,), (11 / 18, 1 / 18), (5 / 6, -5 / 6, 1 / 2), (1 / 4, 7 / 4, 3 / 4, -7 / 4))


@dataclass(frozen=True)
class ImexScheme:
    """h L, the resolvent 1 / (1 - h L / 2), and h times the factor in front of the nonlinear term."""

    linear: Tensor
    resolvent: Tensor
    scale: Tensor


def ars443(linear: Tensor, step: Tensor | float, factor: Tensor | None = None, *, dtype: torch.dtype) -> ImexScheme:
    """For the symbol `linear` [... k] and the step h ([n] or a number); arguments as those of `etdrk4`."""
    h = torch.as_tensor(step, dtype=torch.float64, device=linear.device)
    if h.ndim:
        h = h.reshape(h.shape + (1,) * (linear.ndim - h.ndim)) if linear.ndim > h.ndim else h.unsqueeze(-1)
    z = linear.to(torch.complex128) * h
    scale = h * (torch.ones((), dtype=torch.complex128) if factor is None else factor.to(torch.complex128))
    return ImexScheme(z.to(dtype), (1 / (1 - z / 2)).to(dtype), scale.to(dtype))


def advance_imex(v: Tensor, nonlinear: Callable[[Tensor], Tensor], scheme: ImexScheme) -> Tensor:
    """One step. Stage i: u_i = v + sum_j a_ij hL u_j + sum_j b_ij hN(u_j); the last stage is the result.

    `nonlinear` returns N without the factor that the scheme has folded in.
    """
    explicit = [scheme.scale * nonlinear(v)]
    implicit: list[Tensor] = []
    u = v
    for ahead, behind in zip(_EXPLICIT, _IMPLICIT, strict=True):
        rest = v
        for weight, n in zip(ahead, explicit, strict=True):
            rest = rest + weight * n
        for weight, known in zip(behind, implicit, strict=False):
            rest = rest + weight * known
        u = scheme.resolvent * rest
        if len(explicit) < len(_EXPLICIT):
            implicit.append(scheme.linear * u)
            explicit.append(scheme.scale * nonlinear(u))
    return u


def integrator(
    method: Method, linear: Tensor, step: Tensor | float, factor: Tensor | None = None, *, dtype: torch.dtype
) -> Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]:
    """(v, nonlinear) -> v one step on, by ETDRK4, ARS(4,4,3) or Adams, which remembers its last steps; arguments as those of `etdrk4`."""
    if method == "adams":
        return Adams(adams(linear, step, factor, dtype=dtype))
    if method == "etdrk4":
        exponential = etdrk4(linear, step, factor, dtype=dtype)
        return lambda v, nonlinear: advance(v, nonlinear, exponential)
    implicit = ars443(linear, step, factor, dtype=dtype)
    return lambda v, nonlinear: advance_imex(v, nonlinear, implicit)
