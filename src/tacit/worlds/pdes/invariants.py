"""Conserved quantities over time, and how far a trajectory drifts from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tacit.core.errors import UnknownNameError, unknown
from tacit.ops import spectral
from tacit.ops.fields import Field

__all__ = ["EQUATIONS", "conserved", "drift"]


def _mean(field: Field) -> dict[str, Tensor]:
    u = field.values["u"]
    return {"mass": spectral.dot(u, torch.ones_like(u), field.lengths[0])}


def _heat(field: Field) -> dict[str, Tensor]:
    psi = field.values["psi"]
    return {"mass": spectral.dot(psi, torch.ones_like(psi), field.lengths[0])}


def _kdv(field: Field) -> dict[str, Tensor]:
    """int u, int u^2 and int (u^3 / 3 - u_x^2)."""
    u, length = field.values["u"], field.lengths[0]
    slope = spectral.derivative(u, length)
    energy = spectral.dot(u * u / 3, u, length) - spectral.dot(slope, slope, length)
    return {**_mean(field), "momentum": spectral.dot(u, u, length), "energy": energy}


def _flow(field: Field) -> dict[str, Tensor]:
    """Momentum in each direction; smoke where there is some."""
    area = (field.lengths[0] * field.lengths[1]).unsqueeze(1)
    found = {f"momentum_{axis}": field.values[f"v{axis}"].mean((-2, -1)) * area for axis in "xy"}
    if "s" in field.values:
        found["smoke"] = field.values["s"].mean((-2, -1)) * area
    return found


def _nothing(field: Field) -> dict[str, Tensor]:  # noqa: ARG001
    return {}


_CONSERVED: dict[str, Callable[[Field], dict[str, Tensor]]] = {
    "kdv": _kdv,
    "ks": _mean,
    "burgers": _mean,
    "heat": _heat,
    "navier-stokes": _flow,
    "boussinesq": lambda field: {"smoke": _flow(field)["smoke"]},
    "smoke": _nothing,  # semi-Lagrangian: nothing is conserved; smoke stays within its first range
    "transport": _nothing,  # forced
    "wave": _nothing,  # its energy needs u_t
}

EQUATIONS = tuple(_CONSERVED)


def conserved(field: Field) -> dict[str, Tensor]:
    """What the equation keeps constant, by name, over time: [n t] each."""
    if field.equation not in _CONSERVED:
        raise UnknownNameError(unknown("equation", field.equation, _CONSERVED))
    return _CONSERVED[field.equation](field)


def drift(field: Field) -> dict[str, Tensor]:
    """max over time of |Q(t) - Q(0)| relative to the L2 size of the field over the domain: [n] each."""
    size = torch.ones_like(field.time[:, 0])
    for length in field.lengths:
        size = size * length
    energy = torch.stack([v[:, 0].square().flatten(1).mean(1) for v in field.values.values()]).sum(0)
    scale = size * energy.sqrt().clamp_min(1e-12)
    return {name: (q - q[:, :1]).abs().amax(1) / scale for name, q in conserved(field).items()}
