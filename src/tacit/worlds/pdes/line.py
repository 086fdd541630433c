"""Solving v' = L v + N(v) on a periodic line: the batched march, its error control and its blow-up report.

Every trajectory is its own: its length, horizon and step may differ, its result does not depend on its neighbours in
the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tacit.core.errors import RunError
from tacit.ops import spectral
from tacit.ops.adams import adams
from tacit.ops.exponential import etdrk4
from tacit.ops.imex import Method, integrator
from tacit.ops.quadratic import SquareAdams, SquareMarch

__all__ = ["Solver", "controlled", "march", "refuse_blow_up", "refuse_unresolved", "relative_gap"]

Solver = Callable[[Tensor, int], Tensor]
"""(indices of trajectories [m], substeps in an output interval) -> values [m t ...]."""

_MOST_SUBSTEPS = 4096
_ROUGH = 5e-2


def march(
    start: Tensor,
    linear: Tensor,
    speed: Tensor | float,
    period: Tensor,
    interval: Tensor,
    *,
    frames: int,
    substeps: int,
    dealias: bool = True,
    skip: int = 0,
    method: Method = "etdrk4",
) -> Tensor:
    """Solve u_t + speed u u_x = L u from `start` [n x], giving frames `skip` .. frames - 1 of spacing `interval` [n].

    linear: the symbol of L at k = 2 pi m / period, [n k] for all points // 2 + 1 modes. speed: a number or [n].
    Returns [n t x]. Not finite where the step was unstable; `refuse_blow_up` names it.
    """
    points = start.shape[-1]
    kept = spectral.kept_modes(points, dealias)
    single = start.dtype == torch.float32
    k = spectral.wavenumbers(points, period.double())[..., :kept]
    factor = -0.5j * k * torch.as_tensor(speed, dtype=torch.float64, device=start.device).reshape(-1, 1)
    if points % 2 == 0 and not dealias:
        factor[..., -1] = 0
    dtype = torch.complex64 if single else torch.complex128
    v = torch.fft.rfft(start)[..., :kept].contiguous()
    rows = [start] if skip == 0 else []
    if method != "imex" and start.device.type == "cpu" and not start.requires_grad:
        known = (linear[..., :kept], interval / substeps, factor)
        fused: SquareMarch | SquareAdams
        if method == "adams":
            fused = SquareAdams(adams(*known, dtype=dtype), v, points)
        else:
            fused = SquareMarch(etdrk4(*known, dtype=dtype), v, points)
        for frame in range(1, frames):
            fused.steps(substeps)
            if frame >= skip:
                rows.append(fused.field())
        return torch.stack(rows, dim=1)
    ahead = integrator(method, linear[..., :kept], interval / substeps, factor, dtype=dtype)

    def square(v: Tensor) -> Tensor:
        u = torch.fft.irfft(v, n=points)
        return torch.fft.rfft(u * u)[..., :kept]

    for frame in range(1, frames):
        for _ in range(substeps):
            v = ahead(v, square)
        if frame >= skip:
            rows.append(torch.fft.irfft(v, n=points))
    return torch.stack(rows, dim=1)


def relative_gap(a: Tensor, b: Tensor) -> Tensor:
    """max over frames of ||a - b|| / max over frames of ||b||, for [n t ...]: [n]; infinite where one is not finite."""
    gap = (a - b).flatten(2).norm(dim=2).amax(1) / b.flatten(2).norm(dim=2).amax(1).clamp_min(1e-300)
    return torch.where(gap.isfinite(), gap, torch.full_like(gap, torch.inf))


def controlled(solve: Solver, count: int, substeps: int, tolerance: float | None, device: torch.device) -> Tensor:
    """The solution of each trajectory with a step halved until the error is below `tolerance`.

    Without a tolerance one pass is made. With one, runs at s and 2 s substeps are compared; the finer one is returned
    once their relative gap is below it. Its own error is usually 15 times smaller (ETDRK4; IMEX 7), but with dispersion
    the order is ragged before it settles, so that share is not counted on.
    """
    everyone = torch.arange(count, device=device)
    values = solve(everyone, substeps)
    if tolerance is None:
        return values
    open_ = everyone
    coarse = values
    while len(open_):
        substeps *= 2
        if substeps > _MOST_SUBSTEPS:
            raise RunError(
                f"trajectory {int(open_[0])} does not reach the tolerance {tolerance:g} with {_MOST_SUBSTEPS} substeps a"
                " frame: it may be under-resolved or chaotic; raise points, shorten the horizon or loosen the tolerance"
            )
        fine = solve(open_, substeps)
        values = values.clone()
        values[open_] = fine
        rough = relative_gap(coarse, fine) > tolerance
        open_, coarse = open_[rough], fine[rough]
    return values


def refuse_blow_up(values: Tensor, time: Tensor, equation: str, first: int = 0) -> Tensor:
    """`values` [n t ...] if all are finite; else an error that names the trajectory and the time."""
    bad = ~values.isfinite().flatten(2).all(-1)
    if bool(bad.any()):
        i, j = (int(k) for k in bad.nonzero()[0])
        raise RunError(
            f"{equation}: trajectory {first + i} blew up before t = {float(time[i, j]):.4g}"
            f" ({int(bad.any(1).sum())} of {len(values)} did): raise substeps, or set a tolerance"
        )
    return values


def refuse_unresolved(modes: Tensor, time: Tensor, equation: str, first: int = 0) -> None:
    """Name the trajectory whose spectrum [n t k] does not fall: the grid is too coarse for what has formed on it.

    The measure is the amplitude of the highest eighth of the kept modes beside the largest one, `_ROUGH` at most.
    """
    size = modes.abs()
    last = max(1, size.shape[-1] // 8)
    share = size[..., -last:].amax(-1) / size.amax(-1).clamp_min(1e-300)
    rough = share > _ROUGH
    if bool(rough.any()):
        i, j = (int(k) for k in rough.nonzero()[0])
        raise RunError(
            f"{equation}: trajectory {first + i} is not resolved at t = {float(time[i, j]):.4g}: its highest modes are"
            f" {float(share[i].max()):.1e} of its largest ({int(rough.any(1).sum())} of {len(modes)} are so):"
            " raise points (or refine) or the viscosity; if it comes from an unstable step, raise substeps"
        )
