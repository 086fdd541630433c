"""Burgers' equation u_t + u u_x = nu u_xx through the heat equation (Cole-Hopf), for periodic u of mean zero.

Two routes. `heat_route` is the textbook one, psi = exp(-U / 2 nu) with U' = u and Fourier modes that decay; its relative
error is about 1e-16 exp(range(U) / 2 nu), nonsense at the viscosities the papers use. `hopf` is Hopf's formula with the
exponents kept as exponents: about 1e-13 at every viscosity.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops import spectral
from tacit.ops.compiled import jit

__all__ = ["heat", "heat_route", "hopf", "mix", "potential", "velocity"]

_TAIL = 45.0  # nodes whose weight is below e^-45 of the largest are left out
_STEP = 0.6  # nodes per standard deviation of the narrowest Gaussian: the trapezoid rule errs by exp(-2 (pi / 0.6)^2)
_FINEST = 1 << 22
_RANGE = 300.0  # of U / 2 nu, up to which e^-U/2nu times the Gaussian of any node that counts is far from the end of a double's range


def _antiderivative(u: Tensor, length: Tensor | float) -> Tensor:
    points = u.shape[-1]
    modes = torch.fft.rfft(u)
    k = spectral.wavenumbers(points, length)
    factor = torch.zeros_like(modes)
    factor[..., 1:] = 1 / (1j * k[..., 1:])
    if points % 2 == 0:
        factor[..., -1] = 0
    return torch.fft.irfft(modes * factor, n=points)


def potential(u: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """psi [n x] with u = -2 nu psi_x / psi, its largest value 1. u [n x] must have mean zero."""
    return torch.exp(_exponent(u, length, viscosity))


def _exponent(u: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """log psi, its largest value 0."""
    _refuse(u, viscosity)
    exponent = -_antiderivative(u, length) / (2 * viscosity.unsqueeze(-1))
    return exponent - exponent.amax(-1, keepdim=True)


def _refuse(u: Tensor, viscosity: Tensor) -> None:
    if bool((u.mean(-1).abs() > 1e-9 * u.abs().amax(-1).clamp_min(1)).any()):
        raise DataError(
            f"Cole-Hopf needs u of mean zero, found {float(u.mean(-1).abs().max()):.3g}:"
            " remove the mean with a Galilei boost and add it back afterwards"
        )
    if bool((viscosity <= 0).any()):
        raise DataError(f"viscosity must be positive, found {float(viscosity.min()):g}")


def velocity(psi: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """u = -2 nu psi_x / psi for psi [n ... x]."""
    if bool((psi <= 0).any()):
        raise DataError(
            f"Cole-Hopf needs a positive heat solution, found {float(psi.min()):.3g}: it has lost its digits,"
            " use hopf (the log-domain formula) instead"
        )
    nu = viscosity.reshape(-1, *(1,) * (psi.ndim - 1))
    return -2 * nu * spectral.derivative(psi, length) / psi


def heat(psi: Tensor, time: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """psi_t = nu psi_xx from `psi` [n x] at `time` [n t]: each mode decays by exp(-nu k^2 t). [n t x]."""
    k = spectral.wavenumbers(psi.shape[-1], length).reshape(-1, 1, psi.shape[-1] // 2 + 1)
    decay = torch.exp(-viscosity.reshape(-1, 1, 1) * k**2 * time.unsqueeze(-1))
    return torch.fft.irfft(torch.fft.rfft(psi).unsqueeze(1) * decay, n=psi.shape[-1])


def heat_route(u: Tensor, time: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """u [n x] carried to `time` [n t] through the heat equation: [n t x]. Refused where it has lost its digits."""
    spread = -float(_exponent(u, length, viscosity).min())
    if spread > 30:
        raise DataError(
            f"the heat route loses all digits here: psi ranges over e^{spread:.0f} (at most e^30 works); use hopf instead"
        )
    return velocity(heat(potential(u, length, viscosity), time, length, viscosity), length, viscosity)


def mix(a: Tensor, b: Tensor, alpha: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """The start [n x] made of two starts, psi = (1 - alpha) psi_a + alpha psi_b with alpha [n] in [0, 1]; largest psi = 1.

    The heat equation is linear, so `hopf` of the result is the mixture of the two solutions at every time. In the log
    domain: u = w_a u_a + w_b u_b with weights that are the shares of psi.
    """
    if bool(((alpha < 0) | (alpha > 1)).any()):
        raise DataError(f"mixing needs alpha in [0, 1], found {float(alpha.min()):g} to {float(alpha.max()):g}")
    share = torch.stack([1 - alpha, alpha]).unsqueeze(-1).log()
    weight = torch.softmax(share + torch.stack([_exponent(u, length, viscosity) for u in (a, b)]), 0)
    return weight[0] * a + weight[1] * b


def hopf(u: Tensor, time: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """u [n x] at t = 0 carried to `time` [n t] by Hopf's formula: [n t x], to about 1e-13 at any viscosity.

        u(x, t) = sum_y (x - y) / t e^-P(y) / sum_y e^-P(y),   P(y) = ((x - y)^2 / 2 t + U(y)) / 2 nu,   U' = u0

    The sum is the trapezoid rule over the window outside of which no node weighs e^-45 of the heaviest, with nodes fine
    enough for the narrowest peak. `u` must be resolved and of mean zero. Sample by sample: neighbours do not matter.
    """
    _refuse(u, viscosity)
    return torch.stack([_hopf_one(u[i], time[i], float(length[i]), float(viscosity[i])) for i in range(len(u))])


def _hopf_one(u: Tensor, time: Tensor, length: float, nu: float) -> Tensor:
    points = u.shape[0]
    steepest = float(spectral.derivative(u, length).max().clamp_min(0))
    smooth = _antiderivative(u, length)
    spread = float(smooth.max() - smooth.min())
    fine: dict[int, Tensor] = {}
    out = []
    for t in time.tolist():
        if t < 0:
            raise DataError(f"the heat equation has no past: time must be 0 or more, found {t:g}")
        if t == 0:
            out.append(u)
            continue
        narrow = math.sqrt(2 * nu / (1 / t + steepest))
        factor = 1 << max(0, math.ceil(math.log2(length / points / (_STEP * narrow))))
        if points * factor > _FINEST:
            raise DataError(f"t = {t:g} is too close to 0 for viscosity {nu:g}: the kernel is {narrow:.2g} wide")
        if factor not in fine:
            fine[factor] = spectral.upsample(smooth, factor)
        step = length / (points * factor)
        reach = math.ceil(math.sqrt(2 * t * spread + 4 * nu * t * _TAIL) / step)
        stride = max(1, int(_STEP * narrow / step))
        node = torch.arange(-(reach // stride), reach // stride + 1, device=u.device) * stride
        distance = node.to(u.dtype) * step
        quick = u.device.type == "cpu" and u.dtype == torch.float64 and spread / (2 * nu) < _RANGE
        weigh = _weighed_by_products if quick else _weighed
        out.append(weigh(fine[factor] / (2 * nu), distance.square() / (4 * nu * t), distance, node, factor, points) / t)
    return torch.stack(out)


def _weighed(smooth: Tensor, square: Tensor, distance: Tensor, node: Tensor, factor: int, points: int) -> Tensor:
    """The mean of `distance` over the nodes around each of `points`, weighed by e^-(square + smooth)."""
    at = (torch.arange(points, device=node.device).unsqueeze(1) * factor - node) % len(smooth)
    return (torch.softmax(-(square + smooth[at]), dim=1) * distance).sum(1)


def _weighed_by_products(
    smooth: Tensor, square: Tensor, distance: Tensor, node: Tensor, factor: int, points: int
) -> Tensor:
    """The same where both parts of the weight are numbers: products of few exponentials in the place of many."""
    reach, stride = int(node[-1]), int(node[-1]) // max(1, len(node) // 2)
    around = torch.exp(smooth.min() - smooth)[torch.arange(-reach, (points - 1) * factor + reach + 1) % len(smooth)]
    near = torch.exp(-square)
    total, weight = torch.zeros(2, points, dtype=smooth.dtype)
    _add(around.numpy(), near.numpy(), (near * distance).numpy(), stride, factor, total.numpy(), weight.numpy())
    return total / weight


@jit
def _add(around: Any, near: Any, far: Any, stride: int, factor: int, total: Any, weight: Any) -> None:
    last = (len(near) - 1) * stride
    for j in range(len(near)):
        n, f, begin = near[j], far[j], last - j * stride
        if factor == 1:  # side by side in memory
            row = around[begin : begin + len(total)]
            for i in range(len(total)):
                total[i] += f * row[i]
                weight[i] += n * row[i]
        else:
            for i in range(len(total)):
                total[i] += f * around[begin + i * factor]
                weight[i] += n * around[begin + i * factor]
