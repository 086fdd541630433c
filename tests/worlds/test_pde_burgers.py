"""Burgers and heat: exact solutions down to the smallest published viscosity, Cole-Hopf identities, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import DataError, RecipeError, RunError
from tacit.core.spec import Spec
from tacit.ops import spectral
from tacit.ops.residual import residual
from tacit.worlds.pdes import exact, hopf
from tacit.worlds.pdes.invariants import drift
from tacit.worlds.pdes.making import trajectories

F = torch.float64


def one(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=F)


def sine(points: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.arange(points, dtype=F) * 2 / points - 1
    return x, -torch.sin(math.pi * x).unsqueeze(0)


def test_hopf_agrees_with_the_bessel_series_where_that_has_its_digits():
    pytest.importorskip("scipy")
    x, u0 = sine(64)
    t = one(0.05, 0.3, 1.0, 2.0)
    u = hopf.hopf(u0, t.unsqueeze(0), one(2.0), one(0.1))[0]
    torch.testing.assert_close(u, exact.burgers_sine(x.unsqueeze(0), t.unsqueeze(1), 0.1), atol=1e-13, rtol=0)


@pytest.mark.parametrize("nu", [0.001, 0.004, 0.01])
def test_hopf_is_exact_at_small_viscosity(nu):
    """Against Hopf's integral in 40 digits."""
    mp = pytest.importorskip("mpmath").mp
    x, u0 = sine(32)
    t, at = 0.6, 13
    u = float(hopf.hopf(u0, one(t).unsqueeze(0), one(2.0), one(nu))[0, 0, at])
    with mp.workdps(40):
        pi, where = mp.pi, mp.mpf(float(x[at]))

        def exponent(y):
            return ((where - y) ** 2 / (2 * mp.mpf(t)) + (mp.cos(pi * y) - 1) / pi) / (2 * mp.mpf(nu))

        nodes = [where + mp.mpf(j) / 2000 for j in range(-4400, 4401)]
        low = min(exponent(y) for y in nodes)
        weights = [mp.e ** (low - exponent(y)) for y in nodes]
        truth = sum(w * (where - y) / mp.mpf(t) for w, y in zip(weights, nodes, strict=True)) / sum(weights)
    assert u == pytest.approx(float(truth), abs=1e-12)


def test_the_heat_route_agrees_where_it_can_and_refuses_where_it_cannot():
    _, u0 = sine(256)
    t = one(0.2, 1.0).unsqueeze(0)
    wide = hopf.heat_route(u0, t, one(2.0), one(0.05))
    torch.testing.assert_close(wide, hopf.hopf(u0, t, one(2.0), one(0.05)), atol=1e-11, rtol=0)
    with pytest.raises(
        DataError, match=r"the heat route loses all digits here: psi ranges over e\^80 .*use hopf instead"
    ):
        hopf.heat_route(u0, t, one(2.0), one(0.004))


def test_stepping_agrees_with_hopf():
    settings = {"start": "velocity", "viscosity": (0.05, 0.1), "horizon": 2.0, "frames": 61, "stored": 61, "highest": 3}
    exactly = Spec("world", "burgers", **settings).build().generate(1, range(2))
    stepped = (
        Spec("world", "burgers", route="spectral", tolerance=1e-7, substeps=4, **settings).build().generate(1, range(2))
    )
    torch.testing.assert_close(stepped.values["u"], exactly.values["u"], atol=1e-5, rtol=0)
    assert float(drift(exactly)["mass"].max()) < 1e-12
    assert float(residual(exactly).max()) < 1e-4


def test_single_precision_steps_in_single_precision():
    world = Spec("world", "burgers", points=64, horizon=1.0, frames=9, stored=9, viscosity=(0.1, 0.1), start="velocity", waves=3,
                 route="spectral")  # fmt: skip
    double = world.build().generate(0, range(2)).values["u"]
    single = world.change(precision="float32").build().generate(0, range(2)).values["u"]
    gap = (single.double() - double).abs().max() / double.abs().max()
    assert single.dtype == torch.float32 and 1e-8 < float(gap) < 1e-5
    assert not torch.equal(single, double.float())  # it was not merely rounded in the end


def test_a_shock_too_thin_for_the_grid_is_named():
    world = Spec("world", "burgers", route="spectral", start="velocity", viscosity=(0.001, 0.001), substeps=16).build()
    with pytest.raises(RunError, match=r"burgers: trajectory \d+ (is not resolved|blew up)"):
        world.generate(0, range(2))


def test_time_zero_returns_the_start_and_the_past_is_refused():
    _, u0 = sine(32)
    u = hopf.hopf(u0, one(0.0, 1e-3).unsqueeze(0), one(2.0), one(0.01))
    assert torch.equal(u[0, 0], u0[0])
    with pytest.raises(DataError, match="the heat equation has no past: time must be 0 or more, found -1"):
        hopf.hopf(u0, one(-1.0).unsqueeze(0), one(2.0), one(0.01))
    with pytest.raises(DataError, match=r"viscosity must be positive, found -0.1"):
        hopf.hopf(u0, one(1.0).unsqueeze(0), one(2.0), one(-0.1))
    with pytest.raises(DataError, match="needs u of mean zero, found 1: remove the mean with a Galilei boost"):
        hopf.hopf(u0 + 1, one(1.0).unsqueeze(0), one(2.0), one(0.1))


def test_cole_hopf_goes_there_and_back():
    _, u0 = sine(128)
    length, nu = one(2.0), one(0.05)
    torch.testing.assert_close(hopf.velocity(hopf.potential(u0, length, nu), length, nu), u0, atol=1e-11, rtol=0)
    with pytest.raises(DataError, match="needs a positive heat solution"):
        hopf.velocity(-torch.ones(1, 8, dtype=F), length, nu)


def test_mixing_two_solutions_is_a_solution():
    x, a = sine(128)
    b = 0.7 * torch.cos(2 * math.pi * x).unsqueeze(0)
    length, nu = one(2.0), one(0.02)
    torch.testing.assert_close(hopf.mix(a, b, one(0.0), length, nu), a)
    torch.testing.assert_close(hopf.mix(a, b, one(1.0), length, nu), b)
    t = one(0.3).unsqueeze(0)
    mixed = hopf.hopf(hopf.mix(a, b, one(0.4), length, nu), t, length, nu)
    psi = [hopf.heat(hopf.potential(u, length, nu), t, length, nu) for u in (a, b)]
    torch.testing.assert_close(mixed, hopf.velocity(0.6 * psi[0] + 0.4 * psi[1], length, nu), atol=1e-8, rtol=0)
    with pytest.raises(DataError, match=r"mixing needs alpha in \[0, 1\], found 1.5 to 1.5"):
        hopf.mix(a, b, one(1.5), length, nu)


def test_each_mode_of_the_heat_equation_decays_at_its_rate():
    x = torch.arange(32, dtype=F) * spectral.TAU / 32
    psi = 2 + torch.cos(3 * x).unsqueeze(0)
    later = hopf.heat(psi, one(1.5).unsqueeze(0), one(spectral.TAU), one(0.1))[0, 0]
    torch.testing.assert_close(later, 2 + math.exp(-0.1 * 9 * 1.5) * torch.cos(3 * x))


def test_the_published_burgers_data_come_from_the_published_heat_data():
    heat = Spec("world", "heat").build().generate(5, range(2))
    burgers = Spec("world", "burgers").build().generate(5, range(2))
    assert heat.values["psi"].shape == (2, 140, 256)
    assert float(heat.time[0, -1]) == pytest.approx(18.0)
    from_heat = hopf.velocity(heat.values["psi"], heat.lengths[0], heat.parameters["viscosity"])
    torch.testing.assert_close(from_heat, burgers.values["u"], atol=1e-8, rtol=0)
    assert float(residual(heat).max()) < 1e-9


def test_viscosities_are_drawn_in_their_range_and_refused_outside():
    world = Spec("world", "burgers", viscosity=(0.001, 0.007), points=32, frames=3, stored=1, highest=3).build()
    nu = world.generate(0, range(40)).parameters["viscosity"]
    assert 0.001 <= float(nu.min()) < 0.002
    assert 0.006 < float(nu.max()) <= 0.007
    with pytest.raises(RecipeError, match="greater than 0"):
        Spec("world", "burgers", viscosity=(-0.01, 0.01)).resolve()
    with pytest.raises(RecipeError, match="only route='spectral' has steps to control, found route='hopf'"):
        Spec("world", "burgers", tolerance=1e-6).resolve()


@pytest.mark.parametrize(
    ("start", "viscosity", "finer", "sparser"), [("heat", 0.01, True, False), ("velocity", 2.0, False, True)]
)
def test_products_and_exponents_weigh_alike(monkeypatch, start, viscosity, finer, sparser):
    """Where the Gaussian is narrow there are nodes between the points, where it is wide points are left out."""
    nu = (viscosity, 1.5 * viscosity)
    world = Spec("world", "burgers", points=48, frames=40, stored=40, viscosity=nu, start=start)
    seen, quick = [], hopf._weighed_by_products
    monkeypatch.setattr(hopf, "_weighed_by_products", lambda *given: seen.append(given[3:5]) or quick(*given))
    one_way = trajectories(world, 1, range(2)).values["u"]
    assert any(factor > 1 for _, factor in seen) == finer
    assert any(int(node[1] - node[0]) > 1 for node, _ in seen) == sparser
    monkeypatch.setattr(hopf, "_weighed_by_products", hopf._weighed)
    torch.testing.assert_close(one_way, trajectories(world, 1, range(2)).values["u"], atol=1e-14, rtol=0)
