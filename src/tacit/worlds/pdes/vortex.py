"""Two-dimensional incompressible Navier-Stokes on a periodic square, with or without buoyant smoke (Boussinesq).

    w_t + u . grad w = nu Lap w + b s_x,   s_t + u . grad s = kappa Lap s,   Lap psi = -w,   (vx, vy) = (psi_y, -psi_x)

Vorticity is w = d_x vy - d_y vx; buoyancy points along +y. Axes are [n t x y].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.parts import part
from tacit.ops.fields import Field
from tacit.ops.imex import Method, integrator
from tacit.ops.spectral import TAU
from tacit.worlds.pdes import draws
from tacit.worlds.pdes.kdv import Precision
from tacit.worlds.pdes.line import controlled, refuse_blow_up

__all__ = ["Plane", "Vortex", "flow_of", "march_plane"]

Range = tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]]


class Plane:
    """Wave numbers of a periodic square of `points` x `points` and side `length`, with the 2/3 mask."""

    def __init__(self, points: int, length: float, device: torch.device | str, dtype: torch.dtype) -> None:
        unit = 2 * math.pi / length
        self.points = points
        self.kx = (torch.fft.fftfreq(points, 1 / points, dtype=dtype, device=device) * unit).unsqueeze(1)
        self.ky = (torch.fft.rfftfreq(points, 1 / points, dtype=dtype, device=device) * unit).unsqueeze(0)
        self.square = self.kx**2 + self.ky**2
        self.inverse = torch.where(self.square > 0, 1 / self.square.clamp_min(1e-30), torch.zeros_like(self.square))
        limit = unit * points / 3
        self.mask = ((self.kx.abs() < limit) & (self.ky.abs() < limit)).to(dtype)

    def to_modes(self, u: Tensor) -> Tensor:
        """[... x y] -> [... kx ky]."""
        return torch.fft.rfft2(u)

    def to_grid(self, v: Tensor) -> Tensor:
        """[... kx ky] -> [... x y]."""
        return torch.fft.irfft2(v, s=(self.points, self.points))


def _advection(plane: Plane, buoyancy: Tensor, boost: Tensor) -> Callable[[Tensor], Tensor]:
    """N of the state [n 2 kx ky] (vorticity, smoke), or [n 1 kx ky] without smoke. boost: the mean flow [n 2]."""
    ikx, iky = 1j * plane.kx * plane.mask, 1j * plane.ky * plane.mask
    mean_x, mean_y = boost[:, 0].reshape(-1, 1, 1, 1), boost[:, 1].reshape(-1, 1, 1, 1)
    lift = buoyancy.reshape(-1, 1, 1)

    def nonlinear(v: Tensor) -> Tensor:
        psi = v[:, :1] * plane.inverse
        grid = plane.to_grid(torch.cat([iky * psi, -ikx * psi, v], dim=1))
        vx, vy, carried = grid[:, :1] + mean_x, grid[:, 1:2] + mean_y, grid[:, 2:]
        flux = plane.to_modes(torch.cat([vx * carried, vy * carried], dim=1))
        c = carried.shape[1]
        out = -(ikx * flux[:, :c]) - iky * flux[:, c:]
        if c == 2:
            out[:, 0] += lift * ikx * v[:, 1]
        return out

    return nonlinear


def march_plane(
    start: Tensor,
    length: float,
    rates: Tensor,
    buoyancy: Tensor,
    interval: float,
    *,
    frames: int,
    substeps: int,
    boost: Tensor | None = None,
    method: Method = "etdrk4",
) -> Tensor:
    """Vorticity and smoke [n t c x y] from `start` [n c x y], c = 1 or 2, at t = 0, interval, ...

    rates: [n c], viscosity and diffusivity. buoyancy: [n]. boost: mean velocity [n 2], zero by default.
    """
    plane = Plane(start.shape[-1], length, start.device, start.dtype)
    linear = -rates.reshape(*rates.shape, 1, 1) * plane.square
    complex_dtype = torch.complex64 if start.dtype == torch.float32 else torch.complex128
    ahead = integrator(method, linear, interval / substeps, dtype=complex_dtype)
    drifting = torch.zeros(len(start), 2, dtype=start.dtype, device=start.device) if boost is None else boost
    nonlinear = _advection(plane, buoyancy.to(start.dtype), drifting)
    v = plane.to_modes(start) * plane.mask
    rows = [plane.to_grid(v)]
    for _ in range(frames - 1):
        for _ in range(substeps):
            v = ahead(v, nonlinear)
        rows.append(plane.to_grid(v))
    return torch.stack(rows, 1)


def flow_of(state: Tensor, length: float, buoyancy: Tensor, boost: Tensor | None = None) -> dict[str, Tensor]:
    """vx, vy, pressure p (mean zero) and, where the state has it, smoke s from the state [n t c x y]: [n t x y] each.

    The pressure solves Lap p = -(vx_x^2 + 2 vx_y vy_x + vy_y^2) + b s_y.
    """
    plane = Plane(state.shape[-1], length, state.device, state.dtype)
    psi = plane.to_modes(state[:, :, 0]) * plane.inverse
    ikx, iky = 1j * plane.kx, 1j * plane.ky
    vx, vy = iky * psi, -ikx * psi
    xx, xy, yx = (plane.to_grid(g) for g in (ikx * vx, iky * vx, ikx * vy))
    source = plane.to_modes(-(2 * xx.square() + 2 * xy * yx))
    found = {"vx": plane.to_grid(vx), "vy": plane.to_grid(vy)}
    if boost is not None:
        found["vx"] = found["vx"] + boost[:, 0].reshape(-1, 1, 1, 1)
        found["vy"] = found["vy"] + boost[:, 1].reshape(-1, 1, 1, 1)
    if state.shape[2] == 2:
        found["s"] = state[:, :, 1]
        source = source + buoyancy.reshape(-1, 1, 1, 1) * iky * plane.to_modes(found["s"])
    found["p"] = plane.to_grid(-source * plane.inverse)
    return found


@part("world", "vortex")
class Vortex:
    """Decaying vortices on a periodic square, optionally driven by buoyant smoke: a resolved, exactly symmetric testing ground.

    The start is a random vorticity of root mean square `strength` on the wave numbers 1 .. highest, and, where `buoyancy`
    is not zero, a smoke of mean zero and variance one on the same wave numbers. Not a published set: the published smoke
    data are the world "smoke", with walls and a first-order scheme.
    """

    family: ClassVar = {"highest": 6}  # settings of another family of starts, for probes

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = TAU,
        horizon: Annotated[float, Gt(0)] = 4.0,
        points: Annotated[int, Ge(8)] = 64,
        frames: Annotated[int, Ge(2)] = 41,
        viscosity: Range = (0.05, 0.05),
        diffusivity: Range = (0.05, 0.05),
        buoyancy: Range = (0.0, 0.0),
        strength: Annotated[float, Gt(0)] = 1.0,
        highest: Annotated[int, Ge(1)] = 4,
        substeps: Annotated[int, Ge(1)] = 4,
        method: Method = "etdrk4",
        tolerance: Annotated[float, Gt(0)] | None = None,
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}
        self.equation = "boussinesq" if buoyancy[1] > 0 else "navier-stokes"

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        for name in ("viscosity", "diffusivity", "buoyancy"):
            low, high = settings[name]
            if low > high:
                yield f"{name}: the range must rise, found {low:g} to {high:g}"
        if settings["highest"] >= settings["points"] / 3:
            yield f"highest: {settings['points']} points keep wave numbers below {settings['points'] / 3:.1f}: raise points"

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for."""
        s = self.settings
        n, points, length = len(indices), s["points"], s["length"]
        dtype = getattr(torch, s["precision"])
        rate = {name: draws.uniform(seed, indices, name, *s[name]) for name in ("viscosity", "diffusivity", "buoyancy")}
        names = ["vorticity", "smoke"] if self.equation == "boussinesq" else ["vorticity"]
        start = torch.stack([self._random(seed, indices, name) for name in names], 1)
        start[:, 0] *= s["strength"]
        rates = torch.stack([rate["viscosity"], rate["diffusivity"]], 1)[:, : len(names)]
        rates, lift, start = rates.to(device), rate["buoyancy"].to(device), start.to(device, dtype)
        interval = s["horizon"] / (s["frames"] - 1)

        def solve(which: Tensor, substeps: int) -> Tensor:
            rest = {"frames": s["frames"], "substeps": substeps, "method": s["method"]}
            return march_plane(start[which], length, rates[which], lift[which], interval, **rest)

        state = controlled(solve, n, s["substeps"], s["tolerance"], start.device)
        time = (torch.arange(s["frames"], dtype=torch.float64, device=device) * interval).expand(n, -1).contiguous()
        refuse_blow_up(state, time, self.equation, int(indices[0]))
        axis = (torch.arange(points, dtype=torch.float64, device=device) * length / points).expand(n, -1).contiguous()
        facts = {name: value.to(device) for name, value in rate.items()}
        values = flow_of(state, length, lift.to(dtype))
        return Field(self.equation, values, time, (axis, axis), (True, True), facts)

    def _random(self, seed: int, indices: Sequence[int], what: str) -> Tensor:
        """A random field of mean zero and mean square one, wave numbers 1 .. highest in each direction: [n x y]."""
        points, high = self.settings["points"], self.settings["highest"]
        kept = 2 * high + 1
        normal = draws.draw(seed, indices, what, lambda r: r.standard_normal((2, kept, kept)))
        modes = torch.zeros(len(indices), points, points, dtype=torch.complex128)
        at = torch.arange(-high, high + 1) % points
        modes[:, at.unsqueeze(1), at] = torch.complex(normal[:, 0], normal[:, 1])
        modes[:, 0, 0] = 0
        u = torch.fft.ifft2(modes).real
        return u / u.square().mean((-2, -1), keepdim=True).sqrt()
