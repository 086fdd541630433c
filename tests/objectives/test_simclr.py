from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.laws import check_objective
from tacit.core.ranks import ALONE
from tacit.objectives.pairs import demand_pairs
from tacit.objectives.simclr import SimCLR
from tacit.ops import contrast
from tacit.ops.similarity import nt_xent


def by_the_book(a, b, temperature):
    """NT-Xent written as in the paper, one row at a time."""
    u = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    s = u @ u.T / temperature
    n, rows = len(a), []
    for i in range(2 * n):
        others = torch.cat([s[i, :i], s[i, i + 1 :]])
        rows.append(-s[i, (i + n) % (2 * n)] + others.logsumexp(0))
    return torch.stack(rows).mean()


def views(rng, n=7, d=5, dtype=torch.float64):
    return torch.randn(2, n, d, dtype=dtype, generator=rng)


@pytest.mark.parametrize("shape", [(8, 6), (2, 2), (4, 20)])
def test_it_obeys_the_laws_of_objectives(shape):
    check_objective(SimCLR, n=shape[0], d=shape[1])


@pytest.mark.compile
def test_it_compiles_without_a_graph_break():
    check_objective(SimCLR, compiles=True)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02, 0.005])
def test_value_and_gradient_are_those_of_the_paper(rng, temperature):
    a, b = (z.requires_grad_() for z in views(rng).unbind())
    expected = torch.autograd.grad(by_the_book(a, b, temperature), (a, b))
    loss = nt_xent(a, b, temperature)
    assert loss.item() == pytest.approx(by_the_book(a, b, temperature).item(), rel=1e-12)
    for found, right in zip(torch.autograd.grad(loss, (a, b)), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_blocks_of_rows_change_nothing(rng, monkeypatch):
    a, b = (z.requires_grad_() for z in views(rng).unbind())
    whole = nt_xent(a, b, 0.2)
    expected = torch.autograd.grad(whole, (a, b))
    monkeypatch.setattr(contrast, "_TILE", 3 * 14)  # three rows at a time: blocks that straddle the two views
    tiled = nt_xent(a, b, 0.2)
    torch.testing.assert_close(tiled, whole, rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.autograd.grad(tiled, (a, b)), expected, rtol=1e-11, atol=1e-14)


def test_collapse_costs_the_logarithm_of_the_choices():
    z = torch.ones(256, 4)
    assert SimCLR()(z, z)["loss"].item() == pytest.approx(math.log(2 * 256 - 1), rel=1e-6)


def test_orthonormal_pairs_have_a_closed_form():
    z = torch.eye(256, dtype=torch.float64)
    loss = SimCLR(temperature=0.5)(z, z)["loss"].item()
    assert loss == pytest.approx(math.log(1 + 510 * math.exp(-2)), rel=1e-12) == pytest.approx(4.248795, abs=1e-6)


def test_rotation_and_length_of_rows_do_not_matter(rng):
    a, b = views(rng)
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=rng))
    lengths = torch.rand(7, 1, dtype=torch.float64, generator=rng) + 0.1
    expected = SimCLR()(a, b)["loss"]
    torch.testing.assert_close(SimCLR()(a @ q, b @ q)["loss"], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(SimCLR()(a * lengths, b / lengths)["loss"], expected, rtol=1e-12, atol=0)


def test_the_gradient_is_orthogonal_to_each_row(rng):
    """The loss does not see lengths, so moving along a row changes nothing."""
    a, b = (z.requires_grad_() for z in views(rng).unbind())
    SimCLR()(a, b)["loss"].backward()
    assert (a.grad * a).sum(1).abs().max() < 1e-14


def test_views_are_interchangeable(rng):
    a, b = views(rng)
    torch.testing.assert_close(SimCLR()(a, b), SimCLR()(b, a), rtol=1e-13, atol=0)


@pytest.mark.parametrize("temperature", [0.03, 0.001])
def test_cold_float32_neither_underflows_nor_overflows(temperature):
    """Opposite views: the positive is at -1/temperature, far below what a fixed shift could hold."""
    z = torch.eye(4)
    loss = SimCLR(temperature=temperature)(z, -z)["loss"].item()
    expected = by_the_book(z.double(), -z.double(), temperature).item()
    assert math.isfinite(loss) and loss == pytest.approx(expected, rel=1e-6)


def test_the_energy_is_one_minus_cosine(rng):
    a, b = views(rng)
    energy = SimCLR().energy(a, b)
    torch.testing.assert_close(energy, 1 - torch.nn.functional.cosine_similarity(a, b))
    assert SimCLR().energy(a, 3 * a).abs().max() < 1e-12


def test_one_sample_is_refused_with_a_remedy():
    one = torch.zeros(1, 4)
    with pytest.raises(RecipeError) as caught:
        SimCLR()(one, one)
    assert (
        str(caught.value) == "objective 'simclr' needs at least 2 samples over all ranks, found 1: raise the batch size"
    )


def test_views_that_do_not_pair_up_are_refused():
    with pytest.raises(RecipeError) as caught:
        demand_pairs("simclr", torch.zeros(4, 3), torch.zeros(4, 2), ALONE)  # forward calls it first
    assert str(caught.value) == (
        "objective 'simclr' compares two views of the same samples, each [n d]; found [4, 3] and [4, 2]: "
        "embed both views with the same projector"
    )


def test_a_second_derivative_is_refused_instead_of_wrong(rng):
    a, b = (z.requires_grad_() for z in views(rng).unbind())
    with pytest.raises(RuntimeError, match=r"^log_sum_exp gives first derivatives only"):
        torch.autograd.grad(SimCLR()(a, b)["loss"], a, create_graph=True)
