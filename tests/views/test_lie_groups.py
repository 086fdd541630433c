"""Lie groups as matrices: exponentials against ODE integration, group laws, brackets, product formulas and their orders."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.ops.fields import Field
from tacit.views.lie import BOUSSINESQ, BURGERS, GROUPS, KDV, KS, NAVIER_STOKES, POTENTIAL, FieldGroup, transform

F = torch.float64
ZERO = {"buoyancy": torch.full((3,), 0.4, dtype=F), "viscosity": torch.full((3,), 0.3, dtype=F)}


def parameters(group, n=3, seed=0, size=0.2):
    rng = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(n, len(group.generators), dtype=F, generator=rng) - 1) * size


def sample(group, n=3) -> Field:
    """Arbitrary smooth data with every component of the group."""
    rng = torch.Generator().manual_seed(1)
    plane = "y" in group.variables
    lone = "w" if "level" in group.variables else "u"
    names = [lone] if not plane else [v for v in group.variables if v in ("vx", "vy", "p", "px", "py", "s")]
    shape = (n, 3, 4, 5) if plane else (n, 3, 4)
    values = {name: torch.randn(*shape, dtype=F, generator=rng) for name in names}
    axes = [torch.rand(n, s, dtype=F, generator=rng).sort(1).values for s in shape[1:]]
    return Field(group.equation, values, axes[0], tuple(axes[1:]), (True,) * (len(shape) - 2))


def as_field(points, like: Field):
    """Transformed points as a flat cloud: [n m] for every quantity."""
    full = points.full()
    return [full.time, *full.space, *(full.values[name] for name in like.values)]


def one(z):
    return torch.ones_like(z["t"])


LINE = {
    "time": lambda z: {"t": one(z)},
    "shift": lambda z: {"x": one(z)},
    "galilei": lambda z: {"x": z["t"], "u": one(z)},
}
VECTOR_FIELDS = {
    "kdv": {**LINE, "scale": lambda z: {"x": z["x"], "t": 3 * z["t"], "u": -2 * z["u"]}},
    "ks": LINE,
    "burgers": {
        **LINE,
        "scale": lambda z: {"x": z["x"], "t": 2 * z["t"], "u": -z["u"]},
        "projective": lambda z: {"x": z["x"] * z["t"], "t": z["t"] ** 2, "u": z["x"] - z["t"] * z["u"]},
    },
}
VECTOR_FIELDS["burgers-potential"] = {
    "time": LINE["time"],
    "shift": LINE["shift"],
    "level": lambda z: {"w": one(z)},
    "galilei": lambda z: {"x": z["t"], "w": z["x"]},
    "scale": lambda z: {"x": z["x"], "t": 2 * z["t"]},
    "projective": lambda z: {"x": z["x"] * z["t"], "t": z["t"] ** 2, "w": z["x"] ** 2 / 2 + 0.3 * z["t"]},
}
PLANE = {
    "time": lambda z: {"t": one(z)},
    "shift_x": lambda z: {"x": one(z)},
    "shift_y": lambda z: {"y": one(z)},
    "scale": lambda z: {
        "t": 2 * z["t"],
        "x": z["x"],
        "y": z["y"],
        "vx": -z["vx"],
        "vy": -z["vy"],
        "p": -2 * z["p"],
        "px": -3 * z["px"],
        "py": -3 * z["py"],
    },
    "rotation": lambda z: {
        "x": -z["y"],
        "y": z["x"],
        "vx": -z["vy"],
        "vy": z["vx"],
        "px": -z["py"],
        "py": z["px"],
    },
    "linear_x": lambda z: {"x": z["t"], "vx": one(z)},
    "linear_y": lambda z: {"y": z["t"], "vy": one(z)},
    "quadratic_x": lambda z: {"x": z["t"] ** 2, "vx": 2 * z["t"], "p": -2 * z["x"], "px": -2 * one(z)},
    "quadratic_y": lambda z: {"y": z["t"] ** 2, "vy": 2 * z["t"], "p": -2 * z["y"], "py": -2 * one(z)},
}
VECTOR_FIELDS["navier-stokes"] = PLANE
VECTOR_FIELDS["boussinesq"] = {
    **{name: v for name, v in PLANE.items() if name != "rotation"},
    "scale": lambda z: {**PLANE["scale"](z), "s": -3 * z["s"]},
    "smoke": lambda z: {"s": one(z), "p": 0.4 * z["y"], "py": 0.4 * one(z)},
}


@pytest.mark.parametrize("equation", sorted(GROUPS))
def test_the_exponential_is_the_flow_of_the_vector_fields(equation):
    group = GROUPS[equation]
    field, g = sample(group), parameters(group)
    flow = FieldGroup(equation, {name: VECTOR_FIELDS[equation][name] for name in group.generators})
    exact = transform(field, group.element(g, ZERO))
    for ours, integrated in zip(as_field(exact, field), as_field(flow.transform(field, g), field), strict=True):
        torch.testing.assert_close(ours, integrated, atol=1e-10, rtol=0)


@pytest.mark.parametrize("equation", sorted(GROUPS))
def test_identity_inverse_and_composition(equation):
    group, field = GROUPS[equation], sample(GROUPS[equation])
    original = as_field(transform(field, group.identity(3)), field)
    for got, kept in zip(original[1 + len(field.space) :], field.values.values(), strict=True):
        torch.testing.assert_close(got, kept)
    g, h = parameters(group), parameters(group, seed=5)
    there, other = group.element(g, ZERO), group.element(h, ZERO)
    for got, kept in zip(as_field(transform(field, there.inverse() @ there), field), original, strict=True):
        torch.testing.assert_close(got, kept)
    torch.testing.assert_close(there.inverse().matrix, group.element(-g, ZERO).matrix)
    if group.action == "projective":
        return  # its points are moved one time after another below
    cloud = transform(field, there).full()
    from tacit.views.lie.apply import act

    for got, both in zip(
        as_field(act(cloud, other), field), as_field(transform(field, other @ there), field), strict=True
    ):
        torch.testing.assert_close(got, both)


@pytest.mark.parametrize("group", [BURGERS, POTENTIAL], ids=lambda g: g.equation)
def test_the_projective_action_composes(group):
    from tacit.views.lie.apply import act

    field = sample(group)
    first, second = group.element(parameters(group), ZERO), group.element(parameters(group, seed=5), ZERO)
    twice = act(transform(field, first), second)
    for got, both in zip(as_field(twice, field), as_field(transform(field, second @ first), field), strict=True):
        torch.testing.assert_close(got, both)
    block = first.matrix[:, 1:3, 1:3]
    torch.testing.assert_close(torch.linalg.det(block), torch.ones(3, dtype=F))


BRACKETS = {
    ("kdv", "time", "galilei"): {"shift": 1.0},
    ("kdv", "time", "scale"): {"time": 3.0},
    ("kdv", "shift", "scale"): {"shift": 1.0},
    ("kdv", "galilei", "scale"): {"galilei": -2.0},
    ("ks", "time", "galilei"): {"shift": 1.0},
    ("burgers", "time", "galilei"): {"shift": 1.0},
    ("burgers", "time", "scale"): {"time": 2.0},
    ("burgers", "time", "projective"): {"scale": 1.0},
    ("burgers", "shift", "scale"): {"shift": 1.0},
    ("burgers", "shift", "projective"): {"galilei": 1.0},
    ("burgers", "galilei", "scale"): {"galilei": -1.0},
    ("burgers", "scale", "projective"): {"projective": 2.0},
}


@pytest.mark.parametrize("group", [KDV, KS, BURGERS], ids=lambda g: g.equation)
def test_the_table_of_brackets(group):
    """[X, Y] of vector fields acting on points is minus the commutator of their matrices."""
    basis = dict(zip(group.generators, group.basis, strict=True))
    for a, b in itertools.combinations(group.generators, 2):
        expected = sum(
            (c * basis[name] for name, c in BRACKETS.get((group.equation, a, b), {}).items()),
            torch.zeros_like(group.basis[0]),
        )
        torch.testing.assert_close(basis[b] @ basis[a] - basis[a] @ basis[b], expected)


def test_the_square_of_time_stays_the_square_of_time():
    field, element = sample(NAVIER_STOKES), NAVIER_STOKES.element(parameters(NAVIER_STOKES))
    t = field.time
    z = torch.stack([t**2, t, torch.ones_like(t)])
    rows = [NAVIER_STOKES.variables.index(name) for name in ("tt", "t", "1")]
    small = element.matrix[:, rows][:, :, rows]
    moved = torch.einsum("nij,jnt->int", small, z)
    torch.testing.assert_close(moved[0], moved[1] ** 2)


def slope(order, compat="correct", group=NAVIER_STOKES):
    g = parameters(group, n=4, size=0.8)
    exact = torch.matrix_exp(group.algebra(g, ZERO, compat).sum(1))
    gaps = [
        float((group.element(g, method="product", order=order, steps=s, compat=compat).matrix - exact).norm())
        for s in (4, 8)
    ]
    return math.log2(gaps[0] / gaps[1])


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_product_formulas_have_their_order(order):
    assert slope(order) == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize("order", [4, 6])
def test_the_released_constant_gives_order_two(order):
    assert slope(order, "official") == pytest.approx(2, abs=0.15)


def test_the_released_transformation_written_out():
    """One sweep of order 2: nine flows backwards then forwards, each with half the strength, in plain formulas."""
    field = sample(NAVIER_STOKES)
    field = field.replace(values={name: field.values[name] for name in ("vx", "vy")})
    g = parameters(NAVIER_STOKES)
    start = transform(field, NAVIER_STOKES.identity(3)).full()
    t, (x, y), u, v = start.time, start.space, start.values["vx"], start.values["vy"]
    for i in (*range(8, -1, -1), *range(9)):
        e = g[:, i].reshape(-1, 1, 1, 1) / 2
        if i == 0:
            t = t + e
        elif i == 1:
            x = x + e
        elif i == 2:
            y = y + e
        elif i == 3:
            t, x, y, u, v = t * (2 * e).exp(), x * e.exp(), y * e.exp(), u * (-e).exp(), v * (-e).exp()
        elif i == 4:
            c, s = e.cos(), e.sin()
            x, y, u, v = c * x - s * y, s * x + c * y, c * u - s * v, s * u + c * v
        elif i in (5, 7):
            x, u = x + e * t, u + e
        elif i == 6:
            y, v = y + e * t, v + e
        else:
            y, v = y + e * t**2, v + e
    element = NAVIER_STOKES.element(g, method="product", order=2, steps=1, compat="official")
    for ours, loops in zip(as_field(transform(field, element), field), (t, x, y, u, v), strict=True):
        torch.testing.assert_close(ours, loops)


def test_released_pressure_gradients_are_treated_as_released():
    names = NAVIER_STOKES.generators
    scale = NAVIER_STOKES.element(
        NAVIER_STOKES.parameters(1, scale=0.3), method="product", compat="official", pressure=True
    )
    assert float(scale.entry("px", "px")) == pytest.approx(math.exp(-0.6))
    exact = NAVIER_STOKES.element(NAVIER_STOKES.parameters(1, scale=0.3, time=0.0))
    assert float(exact.entry("px", "px")) == pytest.approx(math.exp(-0.9))
    x = NAVIER_STOKES.element(
        NAVIER_STOKES.parameters(1, quadratic_x=0.3), method="product", compat="official", pressure=True
    )
    assert [float(x.entry(*e)) for e in (("x", "tt"), ("vx", "t"), ("px", "1"))] == pytest.approx([0.3, 0.6, -0.3])
    assert names[:5] == ("time", "shift_x", "shift_y", "scale", "rotation")


def test_gradients_pass_through_an_element():
    g = parameters(KDV).requires_grad_()
    transform(sample(KDV), KDV.element(g)).values["u"].sum().backward()
    assert g.grad is not None
    assert float(g.grad.abs().sum()) > 0


def test_wrong_parameters_are_refused():
    with pytest.raises(
        DataError, match=r"kdv: needs parameters \[n 4\] for time, shift, galilei, scale, found shape \(1, 3\)"
    ):
        KDV.element(torch.zeros(1, 3))
    with pytest.raises(UnknownNameError, match=r"no generator of ks named 'galilee'. Did you mean 'galilei'"):
        KS.parameters(galilee=1.0)
    with pytest.raises(DataError, match="boussinesq: its symmetries depend on 'buoyancy'"):
        BOUSSINESQ.element(BOUSSINESQ.parameters(1, smoke=1.0))
    with pytest.raises(DataError, match="product formulas have order 1 or an even one, found 3"):
        KDV.element(KDV.parameters(1), method="product", order=3)
    with pytest.raises(DataError, match="kdv: no released code differs here, use compat='correct'"):
        KDV.element(KDV.parameters(1), compat="official")
    with pytest.raises(DataError, match="elements of 'kdv' and 'burgers' do not compose"):
        KDV.identity() @ BURGERS.identity()
    field = sample(BURGERS).replace(time=torch.tensor([[0.0, 1.0, 2.0]] * 3, dtype=F))
    with pytest.raises(
        DataError, match=r"projective element 0 sends a time of the sample to infinity .* lower the strength"
    ):
        transform(field, BURGERS.element(BURGERS.parameters(3, projective=0.6)))
