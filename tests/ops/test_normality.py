from __future__ import annotations

import math

import pytest
import torch

from tacit.ops import normality
from tacit.ops.normality import directions, epps_pulley, sliced_wasserstein


def by_the_book(y, knots=17, reach=3.0):
    """The published form: every knot of every projection at once."""
    t = torch.linspace(0, reach, knots, dtype=y.dtype)
    weight = torch.full((knots,), 2 * reach / (knots - 1), dtype=y.dtype)
    weight[0] = weight[-1] = reach / (knots - 1)
    normal = torch.exp(-t.square() / 2)
    angle = y[..., None] * t
    gap = (angle.cos().mean(0) - normal).square() + angle.sin().mean(0).square()
    return len(y) * (gap @ (weight * normal)).mean()


def closed_form(y):
    """On the full line, for one column."""
    gaps = y[:, None] - y[None, :]
    pairs = torch.exp(-gaps.square() / 2).mean()
    return math.sqrt(2 * math.pi) * len(y) * (pairs - 2**0.5 * torch.exp(-y.square() / 4).mean() + 3**-0.5)


@pytest.mark.parametrize(("knots", "reach"), [(17, 3.0), (2, 1.0), (6, 5.0)])
def test_value_and_gradient_are_those_of_the_published_form(rng, knots, reach):
    y = torch.randn(9, 4, dtype=torch.float64, generator=rng, requires_grad=True)
    found, expected = epps_pulley(y, knots=knots, reach=reach), by_the_book(y, knots, reach)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    slopes = [torch.autograd.grad(v, y) for v in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-13)


def test_chunks_change_nothing(rng, monkeypatch):
    y = torch.randn(10, 4, dtype=torch.float64, generator=rng, requires_grad=True)
    whole = epps_pulley(y)
    expected = torch.autograd.grad(whole, y)
    monkeypatch.setattr(normality, "_CHUNK", 3 * 4)
    torch.testing.assert_close(epps_pulley(y), whole, rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.autograd.grad(epps_pulley(y), y), expected, rtol=1e-11, atol=1e-14)


def test_float32_holds_the_recurrence_to_a_hundred_thousandth(rng):
    y = torch.randn(512, 8, generator=rng, requires_grad=True)
    exact = y.detach().double().requires_grad_()
    epps_pulley(y).backward()
    by_the_book(exact).backward()
    assert (y.grad.double() - exact.grad).norm() < 2e-5 * exact.grad.norm()


def test_many_knots_over_a_long_reach_give_the_closed_form(rng):
    y = torch.randn(30, 1, dtype=torch.float64, generator=rng)
    assert epps_pulley(y, knots=801, reach=12.0).item() == pytest.approx(closed_form(y[:, 0]).item(), rel=1e-9)


def test_collapse_grows_with_the_batch():
    for n in (10, 1000):
        assert epps_pulley(torch.zeros(n, 3, dtype=torch.float64)).item() == pytest.approx(0.402048 * n, rel=2e-6)


def test_normal_samples_give_the_null_value(rng):
    y = torch.randn(64, 20_000, generator=rng)
    assert epps_pulley(y).item() == pytest.approx(1.0525, abs=0.02)


def test_sign_and_order_do_not_matter_and_the_even_gradient_vanishes(rng):
    y = torch.randn(9, 4, dtype=torch.float64, generator=rng)
    expected = epps_pulley(y)
    torch.testing.assert_close(epps_pulley(-y), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(epps_pulley(y.flip(0)), expected, rtol=1e-12, atol=0)
    z = torch.zeros(5, 2, dtype=torch.float64, requires_grad=True)
    epps_pulley(z).backward()
    assert z.grad.abs().max() < 1e-14


def test_directions_are_unit_and_a_function_of_the_seed():
    like = torch.zeros(1, dtype=torch.float64)
    torch.manual_seed(3)
    first = directions(6, 50, like)
    torch.manual_seed(3)
    torch.testing.assert_close(directions(6, 50, like), first, rtol=0, atol=0)
    assert first.dtype == torch.float64
    torch.testing.assert_close(first.norm(dim=0), torch.ones(50, dtype=torch.float64))
    assert not torch.equal(directions(6, 50, like), first)


def test_the_quantiles_themselves_have_no_distance():
    n = 7
    z = torch.special.ndtri(torch.arange(1, n + 1, dtype=torch.float64) / (n + 1))[:, None]
    axes = torch.ones(1, 1, dtype=torch.float64)
    assert sliced_wasserstein(z.flip(0), axes).item() == pytest.approx(0, abs=1e-28)
    assert sliced_wasserstein(z + 0.5, axes).item() == pytest.approx(0.25, rel=1e-12)  # a shift costs its square
