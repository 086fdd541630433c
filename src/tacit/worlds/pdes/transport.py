"""The forced equations of MP-PDE (arXiv 2202.03376): u_t + alpha u u_x - beta u_xx + gamma u_xxx = delta(t, x)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.parts import part
from tacit.ops import spectral
from tacit.ops.exponential import advance, etdrk4
from tacit.ops.fields import Field
from tacit.worlds.pdes import draws
from tacit.worlds.pdes.kdv import Precision, check_rows
from tacit.worlds.pdes.line import controlled, refuse_blow_up, refuse_unresolved

__all__ = ["Transport", "coefficients", "rising_ranges"]

Range = tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)]]


@part("world", "transport")
class Transport:
    """The family of MP-PDE with diffusion; the defaults are its set E3, T = 2; E2 is alpha 1, beta (0, 0.2), gamma 0, T = 4.

    delta = sum of 5 waves A sin(w t + 2 pi l x / L + phi), A ~ U(-1/2, 1/2), w ~ U(-0.4, 0.4), l in {1, 2}; u0 = delta(0, x).
    Spectral, solved on a grid `refine` times finer: a beta that is tiny beside alpha makes a shock that it cannot hold
    (set E1 has none and is not made here). The published files carry both end points of the domain and a step that
    belongs to neither, so that their advection is off by 1 / points; here x_j = j L / points.
    """

    equation = "transport"
    family: ClassVar = {"waves": 3, "highest": 4}  # settings of another family of starts, for probes

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = 16.0,
        horizon: Annotated[float, Gt(0)] = 2.0,
        points: Annotated[int, Ge(8)] = 200,
        frames: Annotated[int, Ge(2)] = 250,
        stored: Annotated[int, Ge(1)] = 250,
        alpha: Range = (0.0, 6.0),
        beta: Range = (0.1, 0.4),
        gamma: Range = (0.0, 1.0),
        waves: Annotated[int, Ge(1)] = 5,
        lowest: Annotated[int, Ge(1)] = 1,
        highest: Annotated[int, Ge(2)] = 3,
        frequency: Annotated[float, Ge(0)] = 0.4,
        refine: Annotated[int, Ge(1)] = 4,
        substeps: Annotated[int, Ge(1)] = 2,
        tolerance: Annotated[float, Gt(0)] | None = None,
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        yield from rising_ranges(settings)

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for."""
        o, n = self.settings, len(indices)
        rates, facts = coefficients(o, seed, indices, device)
        interval = o["horizon"] / (o["frames"] - 1)

        def solve(which: Tensor, substeps: int) -> Tensor:
            picked = {name: value[which] for name, value in (rates | facts).items()}
            return self._march(picked, interval, substeps)

        values = controlled(solve, n, o["substeps"], o["tolerance"], torch.device(device))
        skip = o["frames"] - o["stored"]
        time = torch.arange(skip, o["frames"], dtype=torch.float64, device=device) * interval
        time = time.expand(n, -1).contiguous()
        refuse_blow_up(values, time, self.equation, int(indices[0]))
        x = torch.arange(o["points"], dtype=torch.float64, device=device) / o["points"] * o["length"]
        length = torch.full((n,), o["length"], dtype=torch.float64, device=device)
        known = {**rates, **facts, "length": length}
        return Field(self.equation, {"u": values}, time, (x.expand(n, -1).contiguous(),), (True,), known)

    def _march(self, p: Mapping[str, Tensor], interval: float, substeps: int) -> Tensor:
        """[n t x] on the stored rows and points."""
        o = self.settings
        points, h = o["points"] * o["refine"], interval / substeps
        kept = spectral.kept_modes(points, dealias=True)
        k = spectral.wavenumbers(points, torch.full_like(p["alpha"], o["length"]))[:, :kept]
        linear = -p["beta"].unsqueeze(1) * k**2 + 1j * p["gamma"].unsqueeze(1) * k**3
        single = o["precision"] == "float32"
        dtype, real = (torch.complex64, torch.float32) if single else (torch.complex128, torch.float64)
        scheme = etdrk4(linear, h, dtype=dtype)
        factor = (-0.5j * k * p["alpha"].unsqueeze(1)).to(dtype)
        place = torch.zeros(len(k), kept, dtype=torch.complex128, device=k.device)
        lines = p["number"].long()

        def force(t: float) -> Tensor:
            """rfft of delta: a wave A sin(2 pi l x / L + c) is the mode l with coefficient A N / 2 e^(i (c - pi / 2))."""
            angle = p["frequency"] * t + p["phase"] - spectral.TAU / 4
            return place.scatter_add(1, lines, torch.polar(p["amplitude"] * points / 2, angle)).to(dtype)

        def nonlinear(v: Tensor) -> Tensor:
            u = torch.fft.irfft(v, n=points)
            return torch.fft.rfft(u * u)[:, :kept] * factor

        v, ahead = force(0.0), force(0.0)
        rows = [v]
        for frame in range(o["frames"] - 1):
            for s in range(substeps):
                t = frame * interval + s * h
                now, ahead = ahead, force(t + h)
                v = advance(v, nonlinear, scheme, (now, force(t + h / 2), ahead))
            rows.append(v)
        kept_rows = rows[o["frames"] - o["stored"] :]
        time = torch.arange(len(rows), device=v.device).expand(len(v), -1) * interval
        if bool(v.isfinite().all()):
            refuse_unresolved(torch.stack(rows, 1), time, self.equation)
        return torch.stack([torch.fft.irfft(r, n=points)[:, :: o["refine"]] for r in kept_rows], 1).to(real)


def rising_ranges(settings: Mapping[str, Any]) -> Iterable[str]:
    """Faults of rows and of the ranges of the three coefficients."""
    yield from check_rows(settings)
    for name in ("alpha", "beta", "gamma"):
        low, high = settings[name]
        if low > high:
            yield f"{name}: the range must rise, found {low:g} to {high:g}"


def coefficients(
    o: Mapping[str, Any], seed: int, indices: Sequence[int], device: torch.device | str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The drawn alpha, beta, gamma [n], and the waves of the start and of the forcing [n waves]."""
    rates = {name: draws.uniform(seed, indices, name, *o[name]).to(device) for name in ("alpha", "beta", "gamma")}
    waves = draws.waves(seed, indices, o["waves"], o["lowest"], o["highest"])
    w = draws.draw(seed, indices, "frequency", lambda r: r.uniform(-o["frequency"], o["frequency"], o["waves"]))
    return rates, {**{k: v.to(device) for k, v in waves.facts().items()}, "frequency": w.to(device)}
