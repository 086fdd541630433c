"""Burgers, u_t + u u_x = nu u_xx, and the heat equation psi_t = nu psi_xx that it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.parts import part
from tacit.ops import spectral
from tacit.ops.fields import Field
from tacit.ops.imex import Method
from tacit.worlds.pdes import draws, hopf
from tacit.worlds.pdes.kdv import Precision, check_rows
from tacit.worlds.pdes.line import controlled, march, refuse_blow_up, refuse_unresolved

__all__ = ["Burgers", "Heat"]

Range = tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]]
_PEAK = 10.0  # LPSDA: log psi of the start runs from -10 to 10


def _check(settings: Mapping[str, Any]) -> Iterable[str]:
    yield from check_rows(settings)
    low, high = settings["viscosity"]
    if low > high:
        yield f"viscosity: the range must rise, found {low:g} to {high:g}"


class _Start:
    """What the two equations draw in common: domain, rows, viscosity, waves and log psi at t = 0."""

    def __init__(self, settings: Mapping[str, Any], seed: int, indices: Sequence[int]) -> None:
        points, n = settings["points"], len(indices)
        self.length = torch.full((n,), settings["length"], dtype=torch.float64)
        self.x = torch.arange(points, dtype=torch.float64) / points * self.length.unsqueeze(1)
        frames = torch.arange(settings["frames"] - settings["stored"], settings["frames"], dtype=torch.float64)
        self.interval = settings["horizon"] / (settings["frames"] - 1)
        self.time = (frames * self.interval).expand(n, -1).contiguous()
        self.viscosity = draws.uniform(seed, indices, "viscosity", *settings["viscosity"])
        self.waves = draws.waves(seed, indices, settings["waves"], settings["lowest"], settings["highest"])
        p = self.waves(self.x, self.length)
        p = p - p.amin(1, keepdim=True)
        self.log_psi = _PEAK * 2 * (p / p.amax(1, keepdim=True) - 0.5)

    def field(self, equation: str, name: str, values: Tensor, settings: Mapping[str, Any], first: int) -> Field:
        refuse_blow_up(values, self.time, equation, first)
        facts = {**self.waves.facts(), "viscosity": self.viscosity, "length": self.length}
        if settings.get("start") == "velocity":  # otherwise the waves were stretched, and are not those of the start
            facts |= self.waves.modes(settings["lowest"], settings["highest"])
        values = values.to(getattr(torch, settings["precision"]))
        return Field(equation, {name: values}, self.time, (self.x,), (True,), facts)


@part("world", "heat")
class Heat:
    """Heat trajectories of LPSDA: psi0 = exp(p), p a sum of 20 waves stretched to [-10, 10]; L = 2 pi, T = 18, nu = 0.01.

    Exact: every mode decays by exp(-nu k^2 t). These are the files from which LPSDA makes its Burgers data.
    """

    equation = "heat"
    check_settings = staticmethod(_check)

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = spectral.TAU,
        horizon: Annotated[float, Gt(0)] = 18.0,
        points: Annotated[int, Ge(8)] = 256,
        frames: Annotated[int, Ge(2)] = 180,
        stored: Annotated[int, Ge(1)] = 140,
        viscosity: Range = (0.01, 0.01),
        waves: Annotated[int, Ge(1)] = 20,
        lowest: Annotated[int, Ge(1)] = 1,
        highest: Annotated[int, Ge(2)] = 7,
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for."""
        start = _Start(self.settings, seed, indices)
        psi = hopf.heat(start.log_psi.exp(), start.time, start.length, start.viscosity)
        return start.field(self.equation, "psi", psi, self.settings, int(indices[0])).to(device)


@part("world", "burgers")
class Burgers:
    """Burgers trajectories. Defaults: those of LPSDA (arXiv 2202.07643), from the same draws as the world "heat".

    The set of arXiv 2307.05432 is viscosity (0.001, 0.007), 224 points, 448 frames, all stored (recalled).
    start: "heat" begins at u0 = -2 nu p_x as published, whose size is proportional to the viscosity; "velocity" begins
    at the sum of waves itself, so that the viscosity must be read from the shape.
    route: "hopf" is the log-domain formula, exact at every viscosity; "heat" the textbook route, refused where it
    loses its digits; "spectral" steps by `method` and needs a grid step below about nu / max |u|.
    """

    equation = "burgers"
    family: ClassVar = {"waves": 40, "highest": 10}  # settings of another family of starts, for probes

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = spectral.TAU,
        horizon: Annotated[float, Gt(0)] = 18.0,
        points: Annotated[int, Ge(8)] = 256,
        frames: Annotated[int, Ge(2)] = 180,
        stored: Annotated[int, Ge(1)] = 140,
        viscosity: Range = (0.01, 0.01),
        start: Literal["heat", "velocity"] = "heat",
        waves: Annotated[int, Ge(1)] = 20,
        lowest: Annotated[int, Ge(1)] = 1,
        highest: Annotated[int, Ge(2)] = 7,
        route: Literal["hopf", "heat", "spectral"] = "hopf",
        substeps: Annotated[int, Ge(1)] = 8,
        method: Method = "etdrk4",
        tolerance: Annotated[float, Gt(0)] | None = None,
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        yield from _check(settings)
        if settings["route"] != "spectral" and settings["tolerance"] is not None:
            yield f"tolerance: only route='spectral' has steps to control, found route={settings['route']!r}"

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for."""
        start = _Start(self.settings, seed, indices)
        if self.settings["start"] == "heat":
            u = -2 * start.viscosity.unsqueeze(1) * spectral.derivative(start.log_psi, start.length)
        else:
            u = start.waves(start.x, start.length)
        solve = {"hopf": hopf.hopf, "heat": hopf.heat_route, "spectral": self._march}[self.settings["route"]]
        where = (start.time.to(device), start.length.to(device), start.viscosity.to(device))
        values = solve(u.to(device), *where).cpu()
        return start.field(self.equation, "u", values, self.settings, int(indices[0])).to(device)

    def _march(self, u: Tensor, time: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
        u = u.to(getattr(torch, self.settings["precision"]))
        interval = torch.full_like(length, self.settings["horizon"] / (self.settings["frames"] - 1))
        linear = -viscosity.unsqueeze(1) * spectral.wavenumbers(u.shape[1], length) ** 2
        frames = self.settings["frames"]

        def solve(which: Tensor, substeps: int) -> Tensor:
            skip = frames - time.shape[1]
            rest = {"frames": frames, "substeps": substeps, "skip": skip, "method": self.settings["method"]}
            return march(u[which], linear[which], 1.0, length[which], interval[which], **rest)

        values = controlled(solve, len(u), self.settings["substeps"], self.settings["tolerance"], u.device)
        refuse_blow_up(values, time, self.equation)
        refuse_unresolved(torch.fft.rfft(values)[..., : spectral.kept_modes(u.shape[1], True)], time, self.equation)
        return values
