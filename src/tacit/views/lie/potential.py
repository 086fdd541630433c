"""The potential form of Burgers, w_t = b w_xx + a w_x^2, and the heat equation: closed flows, one generator at a time.

v = -2 a w_x solves v_t + v v_x = b v_xx, and exp(a w / b) solves psi_t = b psi_xx: every heat solution may be added to it, so
the group has infinitely many dimensions. The flows are those of the equations' form in the README of SSLForPDEs (there
with an integer division in the x^2 term of the last, which is no symmetry).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.views.lie.apply import Points

__all__ = ["GENERATORS", "move_heat", "move_potential", "superpose"]

GENERATORS = ("time", "shift", "level", "scale", "galilei", "projective")


def move_potential(points: Points, generator: str, g: Tensor | float, a: Tensor | float, b: Tensor | float) -> Points:
    """The graph of a solution 'w' moved by the flow of one generator with parameter g; numbers or broadcastable to the points.

    time: t + g. shift: x + g. level: w + g. scale: (e^2g t, e^g x). galilei: (x + 2 g a t, w - g x - g^2 a t).
    projective, with m = 1 - 4 g a t > 0: (t / m, x / m, w - g x^2 / m + b / (2 a) log m).
    """
    t, x, w = points.time, points.space[0], points.values["w"]
    g, a, b = (torch.as_tensor(v, dtype=w.dtype, device=w.device) for v in (g, a, b))
    if generator == "time":
        t = t + g
    elif generator == "shift":
        x = x + g
    elif generator == "level":
        w = w + g
    elif generator == "scale":
        t, x = t * torch.exp(2 * g), x * torch.exp(g)
    elif generator == "galilei":
        w = w - g * x - g.square() * a * t
        x = x + 2 * g * a * t
    elif generator == "projective":
        m = 1 - 4 * g * a * t
        if bool((m <= 0).any()):
            raise DataError(
                f"the projective flow with g = {float(g.max()):g} sends a time of the sample to infinity: keep 4 g a t below 1"
            )
        w = w - g * x.square() / m + b / (2 * a) * torch.log(m)
        t, x = t / m, x / m
    else:
        raise UnknownNameError(unknown("generator", generator, GENERATORS))
    return Points(t, (x,), {**points.values, "w": w})


def move_heat(points: Points, generator: str, g: Tensor | float, viscosity: Tensor | float) -> Points:
    """The same for a positive heat solution 'psi', psi_t = nu psi_xx: w = log psi with a = b = nu; level multiplies psi by e^g."""
    psi = points.values["psi"]
    if bool((psi <= 0).any()):
        raise DataError(
            f"the heat solution must be positive, found {float(psi.min()):.3g}: add a constant, which is a solution too"
        )
    moved = move_potential(Points(points.time, points.space, {"w": psi.log()}), generator, g, viscosity, viscosity)
    return Points(moved.time, moved.space, {"psi": moved.values["w"].exp()})


def superpose(w: Tensor, h: Tensor, share: Tensor | float, a: Tensor | float, b: Tensor | float) -> Tensor:
    """b / a log(exp(a w / b) + share h): w with a heat solution h of rate b added to exp(a w / b). In the log domain."""
    ratio = torch.as_tensor(a, dtype=w.dtype, device=w.device) / b
    if bool((h <= 0).any()) or bool((torch.as_tensor(share) < 0).any()):
        raise DataError("superposition needs a positive heat solution and a share of 0 or more")
    weight = torch.as_tensor(share, dtype=w.dtype, device=w.device).log()
    return torch.logaddexp(ratio * w, weight + h.log()) / ratio
