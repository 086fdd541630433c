"""Does a field solve its equation? The sum of the terms over the sum of their sizes.

Spatial derivatives are spectral along periodic axes and nine-point differences along others; time derivatives are
nine-point differences. On well-resolved data at the published cadence the result is about 1e-6; a transformation that
is no symmetry shows at once (1e-2). Not meant for the smoke data: a semi-Lagrangian step of 1.5 does not satisfy the
equation at grid level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tacit.core.errors import UnknownNameError, unknown
from tacit.ops import spectral
from tacit.ops.fields import Field, difference

__all__ = ["EQUATIONS", "Calculus", "Terms", "residual"]

_EDGE = 4  # points that a nine-point stencil loses on each side


class Calculus:
    """Derivatives of a field's components, all cut to the block where every one of them exists."""

    def __init__(self, field: Field) -> None:
        self.field = field

    def __getitem__(self, name: str) -> Tensor:
        """Component `name` itself."""
        return self._trim(self.field.values[name], keep=None)

    def d(self, name: str, axis: int, order: int = 1) -> Tensor:
        """d^order of component `name` along axis 0 (time), 1 (x) or 2 (y)."""
        u = self._trim(self.field.values[name], keep=axis)
        dim = axis + 1
        if axis == 0:
            return difference(u, self.field.time, dim, order)
        x = self.field.space[axis - 1]
        if not self.field.periodic[axis - 1]:
            return difference(u, x, dim, order)
        return spectral.derivative(u.movedim(dim, -1), self.field.lengths[axis - 1], order).movedim(-1, dim)

    def grid(self) -> tuple[Tensor, ...]:
        """(t, x, ...) of the block, broadcastable to a component."""
        field, axes = self.field, len(self.field.space)
        found = []
        for axis, values in enumerate((field.time, *field.space)):
            cut = axis == 0 or not field.periodic[axis - 1]
            kept = values[:, _EDGE:-_EDGE] if cut else values
            found.append(kept.reshape(len(field), *(1,) * axis, -1, *(1,) * (axes - axis)))
        return tuple(found)

    def parameter(self, name: str) -> Tensor:
        """Parameter `name`, [n 1 1 ...] so that it multiplies a component."""
        value = self.field.parameters[name]
        return value.reshape(-1, *(1,) * (1 + len(self.field.space)))

    def _trim(self, u: Tensor, keep: int | None) -> Tensor:
        """`u` without the edge of every axis that loses it, but for the axis `keep` that a difference is to cut."""
        for axis in range(1 + len(self.field.space)):
            cuts = axis == 0 or not self.field.periodic[axis - 1]
            if cuts and axis != keep:
                u = u.narrow(axis + 1, _EDGE, u.shape[axis + 1] - 2 * _EDGE)
        return u


Terms = Callable[[Calculus], Sequence[Sequence[Tensor]]]
"""The equations of a system; each a list of terms [n t *space] that add up to zero."""


def _kdv(c: Calculus) -> Sequence[Sequence[Tensor]]:
    return [[c.d("u", 0), c["u"] * c.d("u", 1), c.d("u", 1, 3)]]


def _ks(c: Calculus) -> Sequence[Sequence[Tensor]]:
    return [[c.d("u", 0), c["u"] * c.d("u", 1), c.d("u", 1, 2), c.d("u", 1, 4)]]


def _burgers(c: Calculus) -> Sequence[Sequence[Tensor]]:
    return [[c.d("u", 0), c["u"] * c.d("u", 1), -c.parameter("viscosity") * c.d("u", 1, 2)]]


def _heat(c: Calculus) -> Sequence[Sequence[Tensor]]:
    return [[c.d("psi", 0), -c.parameter("viscosity") * c.d("psi", 1, 2)]]


def _navier_stokes(c: Calculus) -> Sequence[Sequence[Tensor]]:
    """Momentum in both directions and continuity; with smoke `s` where the field has it, buoyancy along y."""
    nu = c.parameter("viscosity")

    def carried(name: str) -> list[Tensor]:
        return [c.d(name, 0), c["vx"] * c.d(name, 1), c["vy"] * c.d(name, 2)]

    def spread(name: str, rate: Tensor) -> list[Tensor]:
        return [-rate * c.d(name, 1, 2), -rate * c.d(name, 2, 2)]

    along_x = [*carried("vx"), c.d("p", 1), *spread("vx", nu)]
    along_y = [*carried("vy"), c.d("p", 2), *spread("vy", nu)]
    system = [along_x, along_y, [c.d("vx", 1), c.d("vy", 2)]]
    if "s" in c.field.values:
        along_y.append(-c.parameter("buoyancy") * c["s"])
        system.append([*carried("s"), *spread("s", c.parameter("diffusivity"))])
    return system


def _transport(c: Calculus) -> Sequence[Sequence[Tensor]]:
    """u_t + alpha u u_x - beta u_xx + gamma u_xxx = sum_i A sin(w t + 2 pi l x / L + phi)."""
    t, x = c.grid()
    p = {name: c.field.parameters[name][:, None, None, :] for name in ("amplitude", "frequency", "number", "phase")}
    length = c.field.parameters["length"].reshape(-1, 1, 1, 1)
    angle = p["frequency"] * t.unsqueeze(-1) + spectral.TAU * p["number"] * x.unsqueeze(-1) / length + p["phase"]
    carried = c.parameter("alpha") * c["u"] * c.d("u", 1)
    spread = [-c.parameter("beta") * c.d("u", 1, 2), c.parameter("gamma") * c.d("u", 1, 3)]
    return [[c.d("u", 0), carried, *spread, -(p["amplitude"] * angle.sin()).sum(-1)]]


EQUATIONS: dict[str, Terms] = {
    "kdv": _kdv,
    "ks": _ks,
    "burgers": _burgers,
    "heat": _heat,
    "transport": _transport,
    "navier-stokes": _navier_stokes,
    "boussinesq": _navier_stokes,
}


def residual(field: Field, terms: Terms | None = None) -> Tensor:
    """||sum of the terms|| / sum ||term|| over time and space, the worst equation of the system: [n].

    terms: an equation of your own; by default that of `field.equation`.
    """
    if terms is None:
        if field.equation not in EQUATIONS:
            raise UnknownNameError(
                unknown("equation", field.equation, EQUATIONS, "For one of your own pass terms=function(calculus).")
            )
        terms = EQUATIONS[field.equation]
    field.check()
    worst = []
    for equation in terms(Calculus(field)):
        shape = torch.broadcast_shapes(*(term.shape for term in equation))
        parts = [term.expand(shape) for term in equation]
        total = torch.stack(parts).sum(0)
        size = torch.stack([part.flatten(1).norm(dim=1) for part in parts]).sum(0)
        gap = total.flatten(1).norm(dim=1)
        worst.append(torch.where(size > 0, gap / size.clamp_min(torch.finfo(size.dtype).tiny), gap))
    return torch.stack(worst).amax(0)
