"""Finite volumes: conservation, order, entropy, samples apart; the wave between walls solves its equation and keeps its energy."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tacit.core.errors import RunError
from tacit.core.spec import Spec
from tacit.worlds.pdes import hopf
from tacit.worlds.pdes.shocks import running_pulse
from tacit.worlds.pdes.weno import adaptive_step, godunov, right_side, weno_left

F = torch.float64


def one(value):
    return torch.tensor([[float(value)]], dtype=F)


def free(dx, alpha=1.0, beta=0.0, gamma=0.0):
    return lambda u, t, which: right_side(u, dx, one(alpha), one(beta), one(gamma))


def averages(f, points, length):
    """Cell averages of f by Gauss' rule with five nodes."""
    nodes = torch.tensor(
        [0, 1 / 3 * math.sqrt(5 - 2 * math.sqrt(10 / 7)), 1 / 3 * math.sqrt(5 + 2 * math.sqrt(10 / 7))], dtype=F
    )
    w = torch.tensor([128 / 225, (322 + 13 * math.sqrt(70)) / 900, (322 - 13 * math.sqrt(70)) / 900], dtype=F)
    dx = length / points
    centre = (torch.arange(points, dtype=F) + 0.5) * dx
    total = w[0] * f(centre)
    for node, weight in zip(nodes[1:], w[1:], strict=True):
        total = total + weight * (f(centre + node * dx / 2) + f(centre - node * dx / 2))
    return total / 2


def test_reconstruction_is_of_fifth_order_and_exact_for_constants():
    errors = []
    for points in (32, 64, 128):
        dx = 2 * math.pi / points
        u = averages(torch.sin, points, 2 * math.pi)
        face = (torch.arange(points, dtype=F) + 1) * dx
        errors.append(float((weno_left(u[None])[0] - face.sin()).abs().mean()))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert min(slopes) > 4.4, slopes
    assert torch.allclose(weno_left(torch.full((1, 9), 3.0, dtype=F)), torch.full((1, 9), 3.0, dtype=F))


def test_godunov_takes_the_upwind_state_and_nothing_from_a_rarefaction_across_zero():
    left = torch.tensor([1.0, -1.0, -1.0, 2.0, 1.0], dtype=F)
    right = torch.tensor([2.0, -2.0, 1.0, -1.0, -2.0], dtype=F)
    assert godunov(left, right).tolist() == [0.5, 2.0, 0.0, 2.0, 2.0]


def test_before_the_shock_the_solution_runs_along_its_characteristics():
    t, errors = 0.5, []
    for points in (32, 64, 128):
        dx = 2 * math.pi / points

        def exact(x):
            u = torch.sin(x)
            for _ in range(200):  # u = sin(x - u t), a contraction for t < 1
                u = torch.sin(x - u * t)
            return u

        u = averages(torch.sin, points, 2 * math.pi)[None]
        for k in range(20):
            u = adaptive_step(free(dx), u, k * t / 20, t / 20, 1e-10)
        errors.append(float((u[0] - averages(exact, points, 2 * math.pi)).abs().mean()))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[-1] > 4 and errors[-1] < 1e-6, (errors, slopes)


def test_after_the_shock_it_is_the_limit_of_small_viscosity():
    points, length = 400, 2.0
    x = (torch.arange(points, dtype=F) + 0.5) * length / points
    u0 = -torch.sin(math.pi * (x - 1))
    exact = hopf.hopf(
        u0[None], torch.tensor([[1.0]], dtype=F), torch.tensor([length], dtype=F), torch.tensor([2e-4], dtype=F)
    )
    u = u0[None]
    for k in range(40):
        u = adaptive_step(free(length / points), u, k / 40, 1 / 40, 1e-6)
    assert float((u - exact[0]).abs().mean()) < 2e-3
    assert float(u.diff(dim=-1).abs().sum()) <= float(u0.diff().abs().sum()) * 1.001


def test_diffusion_and_dispersion_act_on_a_wave_as_they_should():
    points, k = 64, 1.0
    x = (torch.arange(points, dtype=F) + 0.5) * 2 * math.pi / points
    beta, gamma, t = 0.3, 0.2, 0.5
    u = torch.sin(k * x)[None]
    for j in range(10):
        u = adaptive_step(free(2 * math.pi / points, 0.0, beta, gamma), u, j * t / 10, t / 10, 1e-8)
    exact = math.exp(-beta * t) * torch.sin(x + gamma * t)
    assert float((u[0] - exact).abs().max()) < 5e-4


def test_worlds_conserve_mass_and_do_not_depend_on_the_batch():
    world = Spec("world", "shocks", points=64, frames=30, stored=30, horizon=2.0).build()
    field = world.generate(3, range(4))
    mass = field.values["u"].sum(-1)
    assert float((mass - mass[:, :1]).abs().max()) < 1e-10  # the forcing has mean zero
    alone = world.generate(3, [2])
    torch.testing.assert_close(alone.values["u"][0], field.values["u"][2], rtol=0, atol=1e-13)


def test_with_enough_diffusion_it_agrees_with_the_spectral_world():
    same = {
        "points": 200,
        "frames": 20,
        "stored": 20,
        "horizon": 1.0,
        "alpha": (1.0, 1.0),
        "beta": (0.2, 0.2),
        "gamma": (0.0, 0.0),
    }
    volumes = Spec("world", "shocks", **same).build().generate(0, range(2)).values["u"]
    points = Spec("world", "transport", **same).build().generate(0, range(2)).values["u"]
    modes = torch.fft.rfft(points)
    k = 2 * math.pi * torch.arange(modes.shape[-1], dtype=F) / 16
    half = 16 / 200 / 2
    moved = torch.fft.irfft(
        modes * torch.polar(torch.sinc(k * half / math.pi), k * half), n=200
    )  # averages around centres
    assert float((volumes - moved).abs().max()) < 2e-4


def test_a_step_that_never_passes_is_named():
    with pytest.raises(
        RunError, match=r"a step of \S+ at t = 0 is still not accurate to 1e-05 \(trajectory 0 of the batch\)"
    ):
        adaptive_step(lambda u, t, which: u * math.nan, torch.ones(1, 8, dtype=F), 0.0, 1.0, 1e-5)


@pytest.mark.parametrize("left", ["dirichlet", "neumann"])
@pytest.mark.parametrize("right", ["dirichlet", "neumann"])
def test_the_wave_solves_its_equation_and_meets_its_walls(left, right):
    world = Spec("world", "wave", grid="even", points=801, frames=9, horizon=30.0, left=left, right=right).build()
    field = world.generate(0, range(2))
    u, x = field.values["u"], field.space[0][0]
    for wall, at in ((left, 0), (right, -1)):
        if wall == "dirichlet":
            assert float(u[:, 2:, at].abs().max()) < 1e-6
        else:
            edge = u[..., :3] if at == 0 else u[..., -3:].flip(-1)
            slope = (-3 * edge[..., 0] + 4 * edge[..., 1] - edge[..., 2]) / 2 / float(x[1] - x[0])
            assert float(slope[:, 2:].abs().max()) < 2e-3
    signs = [1.0 if wall == "neumann" else -1.0 for wall in (left, right)]
    s, h = torch.zeros(1, 1, 1, dtype=F), 1e-2
    way = torch.tensor([[7.3], [21.0], [39.9]], dtype=F)
    inside = x[10:-10]

    def at(dx, dw):
        return running_pulse(inside + dx, way + dw, s, *signs)

    residual = (at(0, h) + at(0, -h) - at(h, 0) - at(-h, 0)) / h**2
    assert float(residual.abs().max()) < 1e-8


def test_chebyshev_points_crowd_at_the_walls_and_the_pulse_comes_back():
    field = Spec("world", "wave", frames=3, horizon=16.0, left="neumann", right="neumann").build().generate(0, range(2))
    u, x = field.values["u"], field.space[0][0]
    assert float(x[0]) == -8 and float(x[-1]) == 8 and float(x[1] - x[0]) < 0.01 < float(x[100] - x[99])
    torch.testing.assert_close(u[:, 2], u[:, 0], rtol=0, atol=1e-6)  # after 32 units of way
