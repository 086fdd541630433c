"""Exponential Adams-Bashforth stepping for v' = L v + N(v) with a diagonal L: one evaluation of N a step.

    v(t + h) = e^{hL} v(t) + h sum_j g_j(hL) N(t - j h),   g_j(z) = int_0^1 e^{(1 - s) z} l_j(s) ds,

l_j being Lagrange's polynomials on s = 0, -1, ..., 1 - order (Certaine 1960; Cox & Matthews 2002, section 2.1). Where L damps what
the step does not resolve it needs a tenth of the evaluations of ETDRK4 for eight digits; where L only turns (dispersion) its steps
are not stable enough to be worth it. The first steps are made by ETDRK4 with a finer step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.ops.exponential import Scheme, advance, etdrk4, phi

__all__ = ["FINER", "ORDER", "Adams", "AdamsScheme", "adams"]

ORDER = 5  # 6 and more bear shorter steps only
FINER = 16  # steps of ETDRK4 in each of the first ones


@dataclass(frozen=True)
class AdamsScheme:
    """e^{hL}, the weights of N now and before (step and factor folded in), and the scheme of the first steps."""

    e: Tensor
    weights: tuple[Tensor, ...]
    first: Scheme


def adams(linear: Tensor, step: Tensor | float, factor: Tensor | None = None, *, dtype: torch.dtype) -> AdamsScheme:
    """For the symbol `linear` [... k] and the step h ([n] or a number); arguments as those of `etdrk4`."""
    symbol = linear.to(torch.complex128)
    h = torch.as_tensor(step, dtype=torch.float64, device=linear.device)
    shaped = h
    if h.ndim:
        shaped = h.reshape(h.shape + (1,) * (symbol.ndim - h.ndim)) if symbol.ndim > h.ndim else h.unsqueeze(-1)
    z = symbol * shaped
    scale = shaped * (torch.ones((), dtype=torch.complex128) if factor is None else factor.to(torch.complex128))
    moments = torch.stack([math.factorial(k) * phi(z, k + 1) for k in range(ORDER)])
    nodes = -torch.arange(ORDER, dtype=torch.float64)
    lagrange = torch.linalg.inv(torch.vander(nodes, N=ORDER, increasing=True)).T.to(
        moments
    )  # l_j(s) = sum_k lagrange[j, k] s^k
    weights = (scale * torch.einsum("k...,k->...", moments, row) for row in lagrange)
    return AdamsScheme(
        torch.exp(z).to(dtype), tuple(w.to(dtype) for w in weights), etdrk4(linear, h / FINER, factor, dtype=dtype)
    )


class Adams:
    """Steps that remember: called with (v, N), once for each step of one trajectory, it returns v one step on.

    N(v) is without the factor that the scheme has folded in.
    """

    def __init__(self, scheme: AdamsScheme) -> None:
        self._scheme = scheme
        self._before: list[Tensor] = []  # N, newest first

    def __call__(self, v: Tensor, nonlinear: Callable[[Tensor], Tensor]) -> Tensor:
        """v one step on."""
        self._before = [nonlinear(v), *self._before[: ORDER - 1]]
        if len(self._before) < ORDER:
            for _ in range(FINER):
                v = advance(v, nonlinear, self._scheme.first)
            return v
        v = self._scheme.e * v
        for weight, n in zip(self._scheme.weights, self._before, strict=True):
            v = v + weight * n
        return v
