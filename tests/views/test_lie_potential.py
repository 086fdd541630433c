"""The potential Burgers and the heat equation: every flow maps solutions to solutions, is a group, and agrees with Burgers."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.views.lie import BURGERS, POTENTIAL, move_heat, move_potential, superpose
from tacit.views.lie.apply import Points, act
from tacit.views.lie.potential import GENERATORS

A, B, F = 0.7, 0.3, torch.float64
MODES = ((1.0, 0.4, 0.3), (2.0, -0.2, 1.1))


def psi(x, t):
    """A positive heat solution of rate B."""
    waves = [c * torch.exp(-B * k * k * t) * torch.cos(k * x + p) for k, c, p in MODES]
    return 2 + sum(waves[1:], waves[0])


def other(x, t):
    """Another one, a heat kernel."""
    return torch.exp(-x.square() / (4 * B * (t + 0.5))) / (t + 0.5).sqrt()


def w(x, t):
    return B / A * psi(x, t).log()


def grid():
    torch.manual_seed(0)
    return torch.rand(50, dtype=F) * 4 - 2, torch.rand(50, dtype=F) * 0.4 + 0.1


def derivatives(graph, x, t):
    """u_t, u_x, u_xx of the moved graph (T, X, U)(x, t), by the chain rule through its own coordinates."""
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()

    def by(f):
        return torch.autograd.grad(f.sum(), (x, t), create_graph=True, allow_unused=True, materialize_grads=True)

    def total(f, T, X):
        (fx, ft), (Xx, Xt), (Tx, Tt) = by(f), by(X), by(T)
        det = Xx * Tt - Xt * Tx
        return (fx * Tt - ft * Tx) / det, (ft * Xx - fx * Xt) / det

    T, X, U = graph(x, t)
    U_x, U_t = total(U, T, X)
    U_xx, _ = total(U_x, T, X)
    return tuple(f.detach() for f in (U, U_t, U_x, U_xx))


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("g", [0.3, -0.25])
def test_every_flow_maps_solutions_to_solutions(name, g):
    def potential(x, t):
        p = move_potential(Points(t, (x,), {"w": w(x, t)}), name, g, A, B)
        return p.time, p.space[0], p.values["w"]

    _, w_t, w_x, w_xx = derivatives(potential, *grid())
    assert float((w_t - B * w_xx - A * w_x.square()).abs().max()) < 1e-10

    def heat(x, t):
        p = move_heat(Points(t, (x,), {"psi": psi(x, t)}), name, g, B)
        return p.time, p.space[0], p.values["psi"]

    u, u_t, _, u_xx = derivatives(heat, *grid())
    assert float(((u_t - B * u_xx) / u).abs().max()) < 1e-10


@pytest.mark.parametrize("name", GENERATORS)
def test_flows_compose_and_undo_themselves(name):
    x, t = grid()
    start = Points(t, (x,), {"w": w(x, t)})
    twice = move_potential(move_potential(start, name, 0.2, A, B), name, 0.1, A, B)
    once = move_potential(start, name, 0.3, A, B)
    back = move_potential(once, name, -0.3, A, B)
    for found, expected in ((twice, once), (back, start)):
        torch.testing.assert_close(found.time, expected.time)
        torch.testing.assert_close(found.space[0], expected.space[0])
        torch.testing.assert_close(found.values["w"], expected.values["w"])


@pytest.mark.parametrize("share", [0.5, 3.0])
def test_any_heat_solution_may_be_added(share):
    def graph(x, t):
        return t, x, superpose(w(x, t), other(x, t), share, A, B)

    x, t = grid()
    _, w_t, w_x, w_xx = derivatives(graph, x, t)
    assert float((w_t - B * w_xx - A * w_x.square()).abs().max()) < 1e-9
    torch.testing.assert_close(superpose(w(x, t), other(x, t), 0.0, A, B), w(x, t))
    direct = B / A * (psi(x, t) + share * other(x, t)).log()
    torch.testing.assert_close(superpose(w(x, t), other(x, t), share, A, B), direct)


def test_the_projective_flow_with_an_integer_division_is_no_symmetry():
    def printed(x, t):
        p = move_potential(Points(t, (x,), {"w": w(x, t)}), "projective", 0.3, A, B)
        m = 1 - 4 * 0.3 * A * t
        return p.time, p.space[0], p.values["w"] + 0.3 * x.square() / m - 0.3 * torch.floor(x.square() / m).detach()

    _, w_t, w_x, w_xx = derivatives(printed, *grid())
    assert float((w_t - B * w_xx - A * w_x.square()).abs().max()) > 1e-2


def test_what_cannot_be_moved_is_refused():
    x, t = grid()
    start = Points(t, (x,), {"w": w(x, t)})
    with pytest.raises(
        DataError, match=r"the projective flow with g = 5 sends a time of the sample to infinity: keep 4 g a t below 1"
    ):
        move_potential(start, "projective", 5.0, A, B)
    with pytest.raises(UnknownNameError, match=r"no generator named 'galileo'\. Did you mean 'galilei'"):
        move_potential(start, "galileo", 0.1, A, B)
    with pytest.raises(DataError, match="the heat solution must be positive, found -1"):
        move_heat(Points(t, (x,), {"psi": -torch.ones_like(x)}), "time", 0.1, B)
    with pytest.raises(DataError, match="superposition needs a positive heat solution and a share of 0 or more"):
        superpose(w(x, t), psi(x, t), -0.5, A, B)


def element(group, g):
    return group.element(g, {"viscosity": torch.full((1,), B, dtype=F)})


def test_elements_of_the_group_map_solutions_to_solutions_and_their_slopes_are_those_of_burgers():
    g = torch.tensor([[0.2, -0.3, 0.4, 0.5, 0.15, 0.3]], dtype=F)  # time, shift, level, galilei, scale, projective

    def potential(x, t):
        field = Points(t[None, :, None], (x[None, :, None],), {"w": -2 * B * psi(x, t).log()[None, :, None]})
        p = act(field, element(POTENTIAL, g))
        return p.time[0, :, 0], p.space[0][0, :, 0], p.values["w"][0, :, 0]

    x, t = grid()
    _, w_t, w_x, w_xx = derivatives(potential, x, t)
    assert float((w_t + w_x.square() / 2 - B * w_xx).abs().max()) < 1e-10
    x.requires_grad_()
    u = torch.autograd.grad((-2 * B * psi(x, t).log()).sum(), x)[0]
    field = Points(t[None, :, None], (x.detach()[None, :, None],), {"u": u[None, :, None]})
    slope = act(field, BURGERS.element(g[:, [0, 1, 3, 4, 5]])).values["u"][0, :, 0]
    torch.testing.assert_close(w_x, slope)


def test_the_views_show_the_potential_of_a_heat_solution():
    t, x = torch.linspace(0.1, 0.5, 6, dtype=F), torch.linspace(-2, 2, 8, dtype=F)
    data = psi(x, t[:, None]).float()[None, None]
    facts = {"time": t[None], "x": x[None], "viscosity": torch.tensor([B], dtype=F)}
    batch = Batch({"image": View(data)}, torch.tensor([3]), facts=facts)
    spec = Spec("views", "lie-line", equation="burgers-potential", projective=0.1, level=0.5, length=4.0, crop=(4, 6))
    made = spec.build(Facts(channels=1, shape=(6, 8)))
    torch.testing.assert_close(made.plain(batch).views["image"].data[0, 0], -2 * B * data[0, 0, :4, :6].log())
    view = made(batch, 0, 0).views["a"]
    p, q = view.how["start"][0].tolist()
    cut = Points(
        t[None, p : p + 4, None], (x[None, None, q : q + 6],), {"w": -2 * B * data[0, :, p : p + 4, q : q + 6].log()}
    )
    moved = act(cut, element(POTENTIAL, view.how["g"])).full()
    for channel, expected in enumerate((moved.values["w"], moved.space[0], moved.time)):
        torch.testing.assert_close(view.data[:, channel].double(), expected.double(), atol=1e-5, rtol=1e-5)
    wrong = Batch({"image": View(-data)}, torch.tensor([3]), facts=facts)
    with pytest.raises(DataError, match="the potential is -2 nu log psi of a positive heat solution, found -"):
        made(wrong, 0, 0)
