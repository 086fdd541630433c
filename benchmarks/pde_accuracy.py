"""How exact the solvers are: errors against closed solutions, and the order of convergence seen at each doubling of steps.

    python benchmarks/pde.py --only accuracy

Errors are the largest over the grid, relative to the largest value of the solution. "self" rows have no closed solution and are
measured against ETDRK4 with sixteen times the finest step count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tacit.ops import spectral
from tacit.worlds.pdes import exact, hopf
from tacit.worlds.pdes.line import march
from tacit.worlds.pdes.vortex import march_plane

F = torch.float64
Row = dict[str, Any]


def accuracy() -> Iterator[Row]:
    """All rows: task, who, steps, error, order."""
    yield from _kdv()
    yield from _ks()
    yield from _burgers()
    yield from _plane()


def _orders(
    task: str, solve: Callable[[int, str], Tensor], truth: Tensor, steps: dict[str, tuple[int, ...]]
) -> Iterator[Row]:
    for method, counts in steps.items():
        before = None
        for n in counts:
            error = float((solve(n, method) - truth).abs().max() / truth.abs().max())
            made = {"task": task, "who": f"tacit ({method})", "seconds": None, "steps": n, "error": error}
            yield made if before is None or error == 0 else made | {"order": math.log2(before / error)}
            before = error


def _line(
    u0: Tensor, length: float, horizon: float, symbol: Callable[[Tensor], Tensor]
) -> Callable[[int, str], Tensor]:
    period, interval = torch.tensor([length], dtype=F), torch.tensor([horizon], dtype=F)
    linear = symbol(spectral.wavenumbers(len(u0), period))

    def solve(n: int, method: str) -> Tensor:
        return march(u0[None], linear, 1.0, period, interval, frames=2, substeps=n, method=method)[0, 1]  # type: ignore[arg-type]

    return solve


def _kdv() -> Iterator[Row]:
    def dispersion(k: Tensor) -> Tensor:
        return 1j * k**3

    steps = {"etdrk4": (80, 160, 320, 640), "imex": (640, 1280, 2560)}
    x = torch.arange(256, dtype=F) * 60 / 256 - 30
    for name, solution in (
        ("kdv soliton", lambda t: exact.kdv_soliton(x, t)),
        ("kdv two solitons", lambda t: exact.kdv_two_solitons(x, t, (1.2, 0.7), (-12.0, -3.0))),
    ):
        yield from _orders(name, _line(solution(0.0), 60.0, 4.0, dispersion), solution(4.0), steps)
    period = exact.kdv_cnoidal(x, 0.0, 0.6, 0.9)[1]
    y = torch.arange(256, dtype=F) * 4 * period / 256
    wave = [exact.kdv_cnoidal(y, t, 0.6, 0.9)[0] for t in (0.0, 4.0)]
    yield from _orders("kdv travelling (cnoidal) wave", _line(wave[0], 4 * period, 4.0, dispersion), wave[1], steps)


def _ks() -> Iterator[Row]:
    x = torch.arange(256, dtype=F) * 64 / 256
    u0 = torch.sin(2 * math.pi * x / 64) + torch.cos(6 * math.pi * x / 64)
    solve = _line(u0, 64.0, 20.0, lambda k: k**2 - k**4)
    steps = {"etdrk4": (320, 640, 1280, 2560), "adams": (640, 1280, 2560), "imex": (640, 1280, 2560)}
    yield from _orders("ks, self", solve, solve(16 * 2560, "etdrk4"), steps)


def _burgers() -> Iterator[Row]:
    x = torch.arange(512, dtype=F) / 256 - 1
    start, period, time = -torch.sin(math.pi * x), torch.tensor([2.0], dtype=F), torch.tensor([[0.6]], dtype=F)
    for nu in (0.1, 0.05, 0.02):  # below, the series loses its digits
        series = exact.burgers_sine(x, 0.6, nu)
        for route, solve in (("hopf", hopf.hopf), ("heat", hopf.heat_route)):
            found = solve(start[None], time, period, torch.tensor([nu], dtype=F))[0, 0]
            error = float((found - series).abs().max())
            yield {
                "task": f"burgers nu = {nu:g}, Bessel series",
                "who": f"tacit ({route})",
                "seconds": None,
                "error": error,
            }
    for nu in (0.01, 0.007, 0.003, 0.001):  # the heat route is refused here
        found = hopf.hopf(start[None], time, period, torch.tensor([nu], dtype=F))[0, 0]
        some = range(3, 512, 63)
        error = max(abs(float(found[i]) - _many_digits(float(x[i]), 0.6, nu)) for i in some)
        yield {"task": f"burgers nu = {nu:g}, 40 digits", "who": "tacit (hopf)", "seconds": None, "error": error}
    series = exact.burgers_sine(x, 0.6, 0.02)
    solve_line = _line(start, 2.0, 0.6, lambda k: -0.02 * k**2)
    steps = {"etdrk4": (40, 80, 160, 320), "imex": (80, 160, 320)}
    yield from _orders("burgers nu = 0.02, stepped", solve_line, series, steps)


def _many_digits(x: float, t: float, nu: float) -> float:
    """Hopf's formula for u0 = -sin(pi x) by Gauss-Legendre quadrature in 40 digits: shares nothing with `hopf`."""
    import mpmath

    with mpmath.workdps(40):

        def exponent(y: Any) -> Any:
            return ((x - y) ** 2 / (2 * mpmath.mpf(t)) + (mpmath.cos(mpmath.pi * y) - 1) / mpmath.pi) / (
                2 * mpmath.mpf(nu)
            )

        nodes = [x + mpmath.mpf(k) / 40 for k in range(-80, 81)]
        least = min(exponent(y) for y in nodes)
        near = [y for y in nodes if exponent(y) - least < 300]
        ends = [near[0] - mpmath.mpf(1) / 40, *near, near[-1] + mpmath.mpf(1) / 40]
        weight = [
            mpmath.quad(lambda y, k=k: ((x - y) / t) ** k * mpmath.exp(least - exponent(y)), ends) for k in (0, 1)
        ]
        return float(weight[1] / weight[0])


def _plane() -> Iterator[Row]:
    axis = torch.arange(32, dtype=F) * 2 * math.pi / 32
    x, y, boost, nu = axis.unsqueeze(1), axis, (0.7, -0.4), 0.05
    one, rates = torch.zeros(1, dtype=F), torch.tensor([[nu]], dtype=F)

    def vorticity(t: float) -> Tensor:
        return exact.taylor_green(x, y, torch.tensor(t, dtype=F), nu, boost)["vorticity"]

    for name, drift in (("Taylor-Green", (0.0, 0.0)), ("Taylor-Green, carried", boost)):
        truth = exact.taylor_green(x, y, torch.tensor(2.0, dtype=F), nu, drift)["vorticity"]

        def solve(n: int, method: str, drift: tuple[float, float] = drift) -> Tensor:
            moved = torch.tensor([drift], dtype=F)
            start = vorticity(0.0)[None, None]
            return march_plane(start, 2 * math.pi, rates, one, 2.0, frames=2, substeps=n, boost=moved, method=method)[
                0, 1, 0
            ]  # type: ignore[arg-type]

        counts = (
            {"etdrk4": (4,), "imex": (4,)}
            if drift == (0.0, 0.0)
            else {"etdrk4": (10, 20, 40, 80), "imex": (20, 40, 80)}
        )
        yield from _orders(name, solve, truth, counts)
    torch.manual_seed(0)
    modes = torch.zeros(32, 32, dtype=torch.complex128)
    modes[:4, :4] = torch.randn(4, 4, dtype=torch.complex128) * 60
    modes[0, 0] = 0
    start = torch.fft.ifft2(modes).real[None, None]

    def random(n: int, method: str) -> Tensor:
        return march_plane(start, 2 * math.pi, rates, one, 2.0, frames=2, substeps=n, method=method)[0, 1, 0]  # type: ignore[arg-type]

    yield from _orders(
        "navier-stokes, self",
        random,
        random(16 * 160, "etdrk4"),
        {"etdrk4": (20, 40, 80, 160), "adams": (80, 160, 320), "imex": (40, 80, 160)},
    )
