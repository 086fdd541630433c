"""A moved solution still solves its equation: every generator of every group, by residual; resampling and its refusals."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.spec import Spec
from tacit.ops import spectral
from tacit.ops.fields import Field
from tacit.ops.residual import residual
from tacit.views.lie import BOUSSINESQ, BURGERS, KDV, KS, NAVIER_STOKES, linear_group, resample

F = torch.float64
LINE = {
    "kdv": {"length": 40.0, "horizon": 4.0, "frames": 41, "stored": 31, "points": 128, "waves": 3},
    "ks": {"length": 40.0, "horizon": 20.0, "frames": 121, "stored": 31, "points": 128, "substeps": 4},
    "burgers": {
        "start": "velocity",
        "viscosity": (0.1, 0.2),
        "horizon": 1.0,
        "frames": 61,
        "stored": 31,
        "points": 128,
        "highest": 3,
        "waves": 4,
    },
}


@pytest.fixture(scope="module")
def solutions() -> dict[str, Field]:
    return {kind: Spec("world", kind, **settings).build().generate(0, range(2)) for kind, settings in LINE.items()}


@pytest.fixture(scope="module")
def flow() -> Field:
    settings = {"points": 32, "frames": 21, "horizon": 0.5, "highest": 2, "viscosity": (0.1, 0.1)}
    return Spec("world", "vortex", **settings).build().generate(0, [0])


@pytest.fixture(scope="module")
def rising() -> Field:
    settings = {"points": 32, "frames": 21, "horizon": 0.5, "highest": 2, "buoyancy": (0.3, 0.5)}
    return Spec("world", "vortex", viscosity=(0.1, 0.1), diffusivity=(0.1, 0.1), **settings).build().generate(0, [0])


def patch(points=20) -> tuple[torch.Tensor, torch.Tensor]:
    """A small square inside the plane: moved flows are read there, periodic or not."""
    x = torch.linspace(1.0, 2.2, points, dtype=F).unsqueeze(0)
    return x, x + 0.3


ON_A_LINE = [(g, name) for g in (KDV, KS, BURGERS) for name in g.generators]


@pytest.mark.parametrize(("group", "name"), ON_A_LINE, ids=lambda v: v if isinstance(v, str) else v.equation)
def test_every_generator_on_a_line_maps_solutions_to_solutions(solutions, group, name):
    field = solutions[group.equation]
    before = residual(field)
    assert float(before.max()) < 1e-5
    for strength in (0.1, 0.3):
        moved = resample(field, group.element(group.parameters(2, **{name: strength})))
        assert float((moved.values["u"] - field.values["u"]).abs().max()) > 1e-4 or name == "time"
        assert bool((residual(moved) < 3 * before + 1e-6).all())
        assert moved.periodic == (name != "projective",)


@pytest.mark.parametrize("group", [KDV, KS, BURGERS], ids=lambda g: g.equation)
def test_all_generators_together_and_back_again(solutions, group):
    field = solutions[group.equation]
    g = torch.full((2, len(group.generators)), 0.15, dtype=F)
    there = group.element(g)
    moved = resample(field, there)
    assert float(residual(moved).max()) < 1e-5
    if group is not BURGERS:
        back = resample(moved, there.inverse())
        torch.testing.assert_close(back.values["u"], field.values["u"], atol=1e-7, rtol=0)
        torch.testing.assert_close(back.time, field.time)
        torch.testing.assert_close(back.space[0], field.space[0])


@pytest.mark.parametrize("name", NAVIER_STOKES.generators)
def test_every_generator_of_navier_stokes(flow, name):
    element = NAVIER_STOKES.element(NAVIER_STOKES.parameters(1, **{name: 0.3}))
    assert float(residual(resample(flow, element, space=patch()))) < 1e-5


@pytest.mark.parametrize("name", BOUSSINESQ.generators)
def test_every_generator_of_the_boussinesq_equations(rising, name):
    element = BOUSSINESQ.element(BOUSSINESQ.parameters(1, **{name: 0.3}), rising.parameters)
    assert float(residual(resample(rising, element, space=patch()))) < 1e-4


def test_the_pressure_gradient_moves_with_the_pressure(flow):
    """p_x carried as a field equals the x-derivative of the carried pressure, for all generators at once."""
    px, py = (
        spectral.derivative(flow.values["p"].movedim(axis, -1), flow.lengths[0]).movedim(-1, axis) for axis in (2, 3)
    )
    with_gradient = flow.replace(values={**flow.values, "px": px, "py": py})
    g = torch.full((1, len(NAVIER_STOKES.generators)), 0.2, dtype=F)
    moved = resample(with_gradient, NAVIER_STOKES.element(g), space=patch())
    from tacit.ops.residual import Calculus

    c = Calculus(moved)
    torch.testing.assert_close(c.d("p", 1), c["px"], atol=1e-6, rtol=0)
    torch.testing.assert_close(c.d("p", 2), c["py"], atol=1e-6, rtol=0)


def test_what_the_released_code_applies_is_no_symmetry(flow):
    for name, broken in (("linear_x", False), ("quadratic_y", True)):
        element = NAVIER_STOKES.element(NAVIER_STOKES.parameters(1, **{name: 0.3}), compat="official")
        assert (float(residual(resample(flow, element, space=patch()))) > 1e-2) is broken


def test_near_misses_show_at_once(solutions, rising):
    """Galilei without the boost of u, scaling with time weight 2, scaling for KS, rotation under gravity."""
    field = solutions["kdv"]
    half = linear_group(
        "kdv",
        KDV.variables,
        {"galilei": {("x", "t"): 1.0}, "scale": {("x", "x"): 1.0, ("t", "t"): 2.0, ("u", "u"): -2.0}},
    )
    for name in half.generators:
        moved = resample(field, half.element(half.parameters(2, **{name: 0.1})))
        assert float(residual(moved).min()) > 5e-3
    scaled = resample(solutions["ks"].replace(equation="ks"), KDV.element(KDV.parameters(2, scale=0.1)))
    assert float(residual(scaled).min()) > 1e-2
    turned = {"s": rising.values["s"], **{name: rising.values[name] for name in ("vx", "vy", "p")}}
    group = linear_group(
        "boussinesq",
        ("x", "y", "t", "vx", "vy", "p", "s", "1"),
        {"rotation": {("x", "y"): -1.0, ("y", "x"): 1.0, ("vx", "vy"): -1.0, ("vy", "vx"): 1.0}},
    )
    with_identity = rising.replace(values=turned)
    moved = resample(with_identity, group.element(group.parameters(1, rotation=0.3)), space=patch())
    assert float(residual(moved)) > 1e-2


def test_an_equation_of_ones_own():
    """Linear advection u_t + 2 u_x = 0 with its generator u -> e^g u, and one that is none."""
    x = (torch.arange(64, dtype=F) / 64 * spectral.TAU).unsqueeze(0)
    t = torch.linspace(0, 1, 40, dtype=F).unsqueeze(0)
    u = torch.sin(x - 2 * t.T).unsqueeze(0)
    field = Field("advection", {"u": u}, t, (x,), (True,))

    def terms(c):
        return [[c.d("u", 0), 2 * c.d("u", 1)]]

    own = linear_group("advection", ("x", "t", "u", "1"), {"size": {("u", "u"): 1.0}, "drift": {("x", "t"): 1.0}})
    good, bad = (resample(field, own.element(own.parameters(1, **{name: 0.3}))) for name in ("size", "drift"))
    assert float(residual(good, terms)) < 1e-9 < 1e-2 < float(residual(bad, terms))
    with pytest.raises(UnknownNameError, match=r"no equation named 'advection'.*pass terms=function"):
        residual(field)
    with pytest.raises(UnknownNameError, match="no variable named 'w'"):
        linear_group("advection", ("x", "t", "u", "1"), {"odd": {("w", "t"): 1.0}})


def test_kinds_of_resampling_and_their_accuracy(solutions):
    field = solutions["kdv"]
    element = KDV.element(KDV.parameters(2, shift=0.37))
    exact, finer, cubic = (
        resample(field, element, kind).values["u"] for kind in ("trigonometric", "upsampled", "cubic")
    )
    torch.testing.assert_close(exact, spectral.shift(field.values["u"], 0.37, field.lengths[0]), atol=1e-9, rtol=0)
    step = float(field.steps[0][0])
    grid = field.space[0] + step / 3
    exact, finer, cubic = (
        resample(field, element, kind, (grid,)).values["u"] for kind in ("trigonometric", "upsampled", "cubic")
    )
    size = exact.abs().max()
    assert float((finer - exact).abs().max() / size) < 1e-4
    assert 1e-5 < float((cubic - exact).abs().max() / size) < 1e-2


def test_resampling_refuses_what_it_cannot_do(solutions, flow):
    part = solutions["kdv"].crop((0, 10), (31, 60))
    element = KDV.element(KDV.parameters(2, galilei=0.1))
    with pytest.raises(
        DataError, match="needs data that repeat along the axis, and this axis is not periodic: use resample"
    ):
        resample(part, element)
    ramp = torch.linspace(0, 30, solutions["kdv"].values["u"].shape[-1], dtype=F)
    tilted = solutions["kdv"].replace(values={"u": solutions["kdv"].values["u"] + ramp})
    with pytest.raises(
        DataError, match=r"'u' of trajectory 0 does not close along x: it jumps by .* resample it by kind='cubic'"
    ):
        resample(tilted, element)
    with pytest.raises(DataError, match="choose a target grid inside the covered region"):
        resample(part, element, "cubic")
    inside = part.space[0][:, 15:40]
    moved = resample(part, element, "cubic", (inside,))
    assert moved.periodic == (False,)
    whole = resample(solutions["kdv"], element, "trigonometric", (inside,))
    torch.testing.assert_close(moved.values["u"], whole.values["u"], atol=2e-2, rtol=0)
    with pytest.raises(DataError, match="the group of 'kdv' does not say how 'vx' transforms: drop it"):
        resample(flow, linear_group("kdv", ("x", "y", "t", "1"), {"time": {("t", "1"): 1.0}}).identity(), space=patch())
    still = flow.replace(values={"vx": flow.values["vx"]})
    with pytest.raises(DataError, match="this element changes 'vx' by 'vy', which the field lacks"):
        resample(still, NAVIER_STOKES.element(NAVIER_STOKES.parameters(1, rotation=0.1)), space=patch())


def test_resampling_the_plane_in_its_three_kinds(flow):
    element = NAVIER_STOKES.element(NAVIER_STOKES.parameters(1, rotation=0.4, linear_x=0.3))
    short = flow.crop((0, 0, 0), (2, 32, 32))
    exact, finer, cubic = (
        resample(short, element, kind, patch(7)).values["vx"] for kind in ("trigonometric", "upsampled", "cubic")
    )
    assert float((finer - exact).abs().max()) < 1e-4
    assert float((cubic - exact).abs().max()) < 5e-3
