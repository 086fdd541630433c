"""Equations on a line against exact solutions, invariants, convergence order, symmetry of the flow, and named failures."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import RecipeError, RunError
from tacit.core.spec import Spec
from tacit.ops import spectral
from tacit.ops.residual import residual
from tacit.worlds.pdes import exact
from tacit.worlds.pdes.invariants import conserved, drift
from tacit.worlds.pdes.line import controlled, march

F = torch.float64


def solve(u, length, horizon, steps, *, kind="kdv", nu=1.0, frames=2, **options):
    """The trajectory from `u` [x] by `steps` steps an interval."""
    period = torch.tensor([length], dtype=F)
    k = spectral.wavenumbers(u.shape[-1], period)
    linear = {"kdv": 1j * k**3, "ks": k**2 - nu * k**4, "burgers": -nu * k**2}[kind]
    interval = torch.tensor([horizon / (frames - 1)], dtype=F)
    return march(u.unsqueeze(0), linear, 1.0, period, interval, frames=frames, substeps=steps, **options)[0]


def grid(points, length, centre=0.0):
    return torch.arange(points, dtype=F) * length / points + centre - length / 2


def test_the_soliton_of_kdv_keeps_its_shape():
    x = grid(256, 60.0)
    u = solve(exact.kdv_soliton(x, 0.0, start=-2.0), 60.0, 4.0, 320)[-1]
    assert float((u - exact.kdv_soliton(x, 4.0, start=-2.0)).abs().max()) < 1e-6


def test_two_solitons_pass_through_each_other_with_the_known_shifts():
    x, k, start = grid(256, 80.0), (1.2, 0.7), (-18.0, -6.0)
    u = solve(exact.kdv_two_solitons(x, 0.0, k, start), 80.0, 24.0, 1600)[-1]
    gap = float((u - exact.kdv_two_solitons(x, 24.0, k, start)).abs().max())
    assert gap < 2e-4
    fast = x[u.argmax()] - (start[0] + k[0] ** 2 * 24.0)
    assert float(fast) == pytest.approx(2 / k[0] * math.log((k[0] + k[1]) / (k[0] - k[1])), abs=0.4)


def test_the_cnoidal_wave_is_an_exact_periodic_travelling_wave():
    pytest.importorskip("scipy")
    _, period = exact.kdv_cnoidal(torch.zeros(1, dtype=F), 0.0, 1.0, 0.9)
    x = torch.arange(64, dtype=F) * period / 64
    u = solve(exact.kdv_cnoidal(x, 0.0, 1.0, 0.9)[0], period, 2.0, 1600)[-1]
    assert float((u - exact.kdv_cnoidal(x, 2.0, 1.0, 0.9)[0]).abs().max()) < 1e-6


@pytest.mark.parametrize("kind", ["kdv", "ks", "burgers"])
def test_convergence_is_of_order_four(kind):
    x = grid(64, 40.0)
    u0 = torch.sin(2 * math.pi * x / 40) + 0.5 * torch.cos(4 * math.pi * x / 40)
    steps = {"kdv": 20, "ks": 128, "burgers": 8}[kind]
    runs = [
        solve(u0, 40.0, 2.0, n, kind=kind, nu={"burgers": 0.3}.get(kind, 1.0))[-1]
        for n in (steps, 2 * steps, 32 * steps)
    ]
    coarse, fine = ((run - runs[2]).norm() for run in runs[:2])
    assert 3.8 < math.log2(float(coarse / fine)) < 5


def test_ks_is_stepped_by_adams_to_the_digits_that_chaos_leaves():
    settings = {"horizon": 30.0, "frames": 150, "stored": 20, "points": 128}
    default, fine = (
        Spec("world", "ks", **settings, **more).build().generate(0, range(2)).values["u"]
        for more in ({}, {"method": "etdrk4", "substeps": 64})
    )
    coarse = Spec("world", "ks", **settings, method="etdrk4", substeps=8).build().generate(0, range(2)).values["u"]
    error, before = (float((u - fine).norm() / fine.norm()) for u in (default, coarse))
    assert error < 1e-8 and before > 100 * error


def test_small_waves_disperse_and_grow_as_the_linear_equation_says():
    """KdV: a mode turns by k^3 t. KS: it grows by exp((k^2 - k^4) t), most at k^2 = 1/2."""
    x = grid(64, 2 * math.pi * math.sqrt(8))
    k = 2 / math.sqrt(8)
    u0 = 1e-8 * torch.cos(k * x)
    length = float(2 * math.pi * math.sqrt(8))
    torch.testing.assert_close(solve(u0, length, 3.0, 10)[-1], 1e-8 * torch.cos(k * x + k**3 * 3), atol=1e-14, rtol=0)
    grown = solve(u0, length, 4.0, 10, kind="ks")[-1]
    torch.testing.assert_close(grown, u0 * math.exp(0.25 * 4), atol=1e-13, rtol=0)


def test_short_domains_of_ks_decay_to_their_mean():
    x = grid(32, 5.0)
    u = solve(0.3 + torch.sin(2 * math.pi * x / 5), 5.0, 40.0, 400, kind="ks")[-1]
    torch.testing.assert_close(u, torch.full_like(u, 0.3), atol=1e-6, rtol=0)


def test_the_front_of_ks_satisfies_the_equation():
    from tacit.ops.fields import Field

    x = torch.linspace(-6, 6, 400, dtype=F)
    t = torch.linspace(0, 1, 30, dtype=F)
    u = exact.ks_front(x, t.unsqueeze(1), speed=0.7).unsqueeze(0)
    front = Field("ks", {"u": u}, t.unsqueeze(0), (x.unsqueeze(0),), (False,))
    assert float(residual(front)) < 1e-6


def test_solving_and_moving_commute():
    """Galilei: a boosted start gives the boosted trajectory; reflection: u -> -u, x -> -x for KS."""
    x = grid(64, 20.0)
    u0 = torch.sin(2 * math.pi * x / 20) + 0.4 * torch.cos(6 * math.pi * x / 20)
    plain, boosted = solve(u0, 20.0, 2.0, 200)[-1], solve(u0 + 0.5, 20.0, 2.0, 200)[-1]
    torch.testing.assert_close(boosted, spectral.shift(plain, 1.0, 20.0) + 0.5, atol=1e-6, rtol=0)
    mirrored = solve(-u0.flip(0), 20.0, 2.0, 50, kind="ks")[-1]
    torch.testing.assert_close(mirrored, -solve(u0, 20.0, 2.0, 50, kind="ks")[-1].flip(0), atol=1e-12, rtol=0)


@pytest.fixture(scope="module")
def kdv():
    return (
        Spec("world", "kdv", length=64.0, horizon=10.0, frames=101, stored=101, tolerance=1e-7)
        .build()
        .generate(3, range(3))
    )


def test_kdv_keeps_its_invariants_and_solves_its_equation(kdv):
    gone = drift(kdv)
    assert float(gone["mass"].max()) < 1e-13
    assert float(gone["momentum"].max()) < 1e-6
    assert float(gone["energy"].max()) < 1e-5
    assert set(conserved(kdv)) == {"mass", "momentum", "energy"}
    assert float(residual(kdv).max()) < 1e-5


def test_ks_keeps_its_mean_and_solves_its_equation():
    field = Spec("world", "ks", horizon=30.0, frames=151, stored=151, substeps=4).build().generate(0, range(2))
    assert float(drift(field)["mass"].max()) < 1e-12
    assert float(residual(field).max()) < 1e-4


def test_a_trajectory_does_not_depend_on_its_neighbours_nor_on_the_batch(kdv):
    alone = (
        Spec("world", "kdv", length=64.0, horizon=10.0, frames=101, stored=101, tolerance=1e-7).build().generate(3, [1])
    )
    torch.testing.assert_close(alone.values["u"][0], kdv.values["u"][1], atol=1e-11, rtol=0)
    assert torch.equal(alone.parameters["amplitude"][0], kdv.parameters["amplitude"][1])
    other = Spec("world", "kdv", horizon=20.0, frames=11, stored=1).build().generate(4, [1])
    assert not torch.equal(other.parameters["amplitude"], alone.parameters["amplitude"])


def test_published_ranges_and_rows():
    field = Spec("world", "kdv", substeps=8).build().generate(0, range(24))
    assert field.values["u"].shape == (24, 140, 256)
    assert field.parameters["amplitude"].abs().max() <= 0.5
    assert set(field.parameters["number"].unique().tolist()) == {1.0, 2.0}
    assert 0.9 * 128 <= float(field.parameters["length"].min()) < float(field.parameters["length"].max()) <= 1.1 * 128
    torch.testing.assert_close(field.time[:, -1], field.parameters["horizon"])
    torch.testing.assert_close(field.time[:, 0], field.parameters["horizon"] * 110 / 249)
    torch.testing.assert_close(field.lengths[0], field.parameters["length"])


def test_the_error_control_reaches_its_tolerance():
    x = grid(128, 30.0)
    u0 = exact.kdv_soliton(x, 0.0)

    def run(which, substeps):
        return solve(u0, 30.0, 2.0, substeps).unsqueeze(0)[which]

    loose, tight = (controlled(run, 1, 4, tol, u0.device)[0, -1] for tol in (1e-4, 1e-8))
    fine = solve(u0, 30.0, 2.0, 2048)[-1]
    size = float(fine.norm())
    assert float((tight - fine).norm()) / size < 1e-8 < float((loose - fine).norm()) / size < 1e-4


def test_unstable_steps_are_named():
    world = Spec("world", "kdv", substeps=1, frames=20, stored=20, dealias=False).build()
    with pytest.raises(RunError, match=r"kdv: trajectory \d+ (blew up|is not resolved).*raise"):
        world.generate(0, range(8))


def test_an_unreachable_tolerance_is_named():
    def run(which, substeps):
        return torch.randn(len(which), 2, 4, generator=torch.Generator().manual_seed(substeps), dtype=F)

    with pytest.raises(RunError, match="trajectory 0 does not reach the tolerance 1e-06 with 4096 substeps a frame"):
        controlled(run, 1, 1024, 1e-6, torch.device("cpu"))


def test_settings_that_contradict_each_other_are_all_named():
    with pytest.raises(RecipeError) as fault:
        Spec("world", "kdv", stored=300, lowest=3).resolve()
    assert "only frames=250 frames are solved, 300 cannot be stored" in str(fault.value)
    assert "the upper bound is excluded, so it must exceed lowest=3, found 3" in str(fault.value)
    with pytest.raises(RecipeError, match="greater than 0"):
        Spec("world", "ks", viscosity=(-1.0, 1.0)).resolve()


def test_float32_follows_float64():
    shared = {"horizon": 10.0, "frames": 26, "stored": 26, "substeps": 8}
    fine = Spec("world", "kdv", **shared).build().generate(0, range(2)).values["u"]
    single = Spec("world", "kdv", precision="float32", **shared).build().generate(0, range(2)).values["u"]
    assert single.dtype == torch.float32
    assert float((single - fine).abs().max() / fine.abs().max()) < 1e-4


def test_forced_transport_solves_its_equation_and_names_what_it_cannot_resolve():
    field = (
        Spec("world", "transport", alpha=(1.0, 2.0), beta=(0.2, 0.4), frames=101, stored=101)
        .build()
        .generate(0, range(2))
    )
    assert float(residual(field).max()) < 1e-5
    world = Spec(
        "world", "transport", alpha=(6.0, 6.0), beta=(0.0, 0.001), gamma=(0.0, 0.0), refine=1, frames=60, stored=60
    )
    with pytest.raises(RunError, match=r"transport: trajectory \d+ (is not resolved at t = .*raise points|blew up)"):
        world.build().generate(0, range(4))
