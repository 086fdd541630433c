"""The forced equations of MP-PDE by finite volumes, where shocks form; and its wave equation between two walls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.parts import part
from tacit.ops import spectral
from tacit.ops.fields import Field
from tacit.worlds.pdes import draws
from tacit.worlds.pdes.kdv import Precision
from tacit.worlds.pdes.line import refuse_blow_up
from tacit.worlds.pdes.transport import coefficients, rising_ranges
from tacit.worlds.pdes.weno import adaptive_step, right_side

__all__ = ["Shocks", "Wave"]

Range = tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]]


@part("world", "shocks")
class Shocks:
    """The family of MP-PDE (arXiv 2202.03376) by its own scheme; the defaults are its set E1: alpha 1, no diffusion, T = 4.

    E2: beta=(0, 0.2). E3: alpha=(0, 6), beta=(0.1, 0.4), gamma=(0, 1), horizon=2. WENO5 with Godunov's flux and
    Dormand-Prince 5(4), one step in an output interval, halved where its error exceeds `tolerance`. delta and u0 as in the
    world "transport", as cell averages: cells are [j dx, (j + 1) dx], x their centres. The published files carry both end points of
    the domain with a step that belongs to neither, and a flux that vanishes at the seam; not so here.
    """

    equation = "transport"

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = 16.0,
        horizon: Annotated[float, Gt(0)] = 4.0,
        points: Annotated[int, Ge(8)] = 200,
        frames: Annotated[int, Ge(2)] = 250,
        stored: Annotated[int, Ge(1)] = 250,
        alpha: Range = (1.0, 1.0),
        beta: Range = (0.0, 0.0),
        gamma: Range = (0.0, 0.0),
        waves: Annotated[int, Ge(1)] = 5,
        lowest: Annotated[int, Ge(1)] = 1,
        highest: Annotated[int, Ge(2)] = 3,
        frequency: Annotated[float, Ge(0)] = 0.4,
        tolerance: Annotated[float, Gt(0)] = 1e-5,
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        yield from rising_ranges(settings)

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed, float64 inside; each is the same whatever else is asked for."""
        o, n = self.settings, len(indices)
        rates, facts = coefficients(o, seed, indices, device)
        dx = o["length"] / o["points"]
        x = (torch.arange(o["points"], dtype=torch.float64, device=device) + 0.5) * dx
        k = spectral.TAU * facts["number"] / o["length"]
        average = facts["amplitude"] * torch.sinc(k * dx / spectral.TAU)  # of a wave over a cell
        angle = k.unsqueeze(-1) * x + facts["phase"].unsqueeze(-1)
        rolling, standing = angle.sin() * average.unsqueeze(-1), angle.cos() * average.unsqueeze(-1)

        def force(t: float, which: Tensor) -> Tensor:
            turn = (facts["frequency"][which] * t).unsqueeze(-1)
            return (rolling[which] * turn.cos() + standing[which] * turn.sin()).sum(1)

        def rate(u: Tensor, t: float, which: Tensor) -> Tensor:
            coefficients = (rates[name][which].unsqueeze(1) for name in ("alpha", "beta", "gamma"))
            return right_side(u, dx, *coefficients) + force(t, which)

        interval = o["horizon"] / (o["frames"] - 1)
        u = force(0.0, torch.arange(n, device=device))
        rows = [u]
        for frame in range(o["frames"] - 1):
            u = adaptive_step(rate, u, frame * interval, interval, o["tolerance"])
            rows.append(u)
        skip = o["frames"] - o["stored"]
        values = torch.stack(rows[skip:], 1).to(getattr(torch, o["precision"]))
        time = torch.arange(skip, o["frames"], dtype=torch.float64, device=device) * interval
        time = time.expand(n, -1).contiguous()
        refuse_blow_up(values, time, self.equation, int(indices[0]))
        length = torch.full((n,), o["length"], dtype=torch.float64, device=device)
        known = {**rates, **facts, "length": length}
        return Field(self.equation, {"u": values}, time, (x.expand(n, -1).contiguous(),), (True,), known)


Wall = Literal["dirichlet", "neumann"]


@part("world", "wave")
class Wave:
    """u_tt = c^2 u_xx on [-8, 8] between two walls, MP-PDE (arXiv 2202.03376): a pulse exp(-(x - s)^2), s ~ U(-4, 4), running left.

    Exact: the pulse and its images, each reflection keeping its sign at a Neumann wall and changing it at a Dirichlet wall.
    (The published files were solved to 1e-3 and run backwards in time.) points lie at Chebyshev's extrema, as published, or
    evenly. left, right: which wall; the parameters bc_left and bc_right of the field are -1 for Dirichlet, 1 for Neumann.
    """

    equation = "wave"

    def __init__(
        self,
        *,
        horizon: Annotated[float, Gt(0)] = 100.0,
        speed: Annotated[float, Gt(0)] = 2.0,
        points: Annotated[int, Ge(8)] = 200,
        frames: Annotated[int, Ge(2)] = 250,
        grid: Literal["chebyshev", "even"] = "chebyshev",
        left: Wall = "dirichlet",
        right: Wall = "dirichlet",
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for."""
        o, n = self.settings, len(indices)
        s = draws.uniform(seed, indices, "place", -4.0, 4.0).to(device)
        place = torch.linspace(-1, 1, o["points"], dtype=torch.float64, device=device)
        x = 8 * (torch.sin(spectral.TAU / 4 * place) if o["grid"] == "chebyshev" else place)
        time = torch.linspace(0, o["horizon"], o["frames"], dtype=torch.float64, device=device)
        signs = [1.0 if o[wall] == "neumann" else -1.0 for wall in ("left", "right")]
        u = running_pulse(x, o["speed"] * time.unsqueeze(1), s.reshape(-1, 1, 1), *signs)
        known = {"place": s} | {
            name: torch.full_like(s, value)
            for name, value in (("speed", o["speed"]), ("bc_left", signs[0]), ("bc_right", signs[1]))
        }
        values = {"u": u.to(getattr(torch, o["precision"]))}
        every = time.expand(n, -1).contiguous()
        return Field(self.equation, values, every, (x.expand(n, -1).contiguous(),), (False,), known)


def running_pulse(x: Tensor, way: Tensor, s: Tensor, left: float, right: float) -> Tensor:
    """exp(-(x - s)^2) after it has run the way c t to the left between walls at -8 and 8 that multiply it by `left` and `right`.

    u = sum_m (left right)^m [f(x + ct - 32 m) + left f(-16 - x + ct - 32 m)]
    """
    u = torch.zeros(torch.broadcast_shapes(x.shape, way.shape, s.shape), dtype=x.dtype, device=x.device)
    for m in range(-1, int(float(way.max()) // 32) + 2):
        sign = (left * right) ** abs(m)
        gone = way - 32 * m
        u = u + sign * torch.exp(-(x + gone - s).square()) + sign * left * torch.exp(-(-16 - x + gone - s).square())
    return u
