"""Cross entropy with prototypes, and the spread of a batch by nearest neighbours."""

import math

import pytest
import torch

from tacit.ops import prototypes
from tacit.ops.prototypes import koleo, prototype_cross_entropy


@pytest.mark.parametrize("tile", [1 << 26, 10])
def test_it_is_the_cross_entropy_and_its_gradient(monkeypatch, rng, tile):
    monkeypatch.setattr(prototypes, "_TILE", tile)  # 10 entries: two rows of five at a time
    scores = torch.randn(7, 5, dtype=torch.float64, generator=rng).requires_grad_()
    targets = torch.softmax(torch.randn(7, 5, dtype=torch.float64, generator=rng), dim=1)
    found = prototype_cross_entropy(scores, targets, 0.1)
    expected = -(targets * torch.log_softmax(scores / 0.1, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(x, scores)[0] for x in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_it_does_not_overflow():
    scores = torch.tensor([[1e4, -1e4]])
    assert float(prototype_cross_entropy(scores, torch.tensor([[1.0, 0.0]]), 0.1)) == 0.0


def test_second_derivatives_are_refused(rng):
    scores = torch.randn(3, 4, generator=rng).requires_grad_()
    loss = prototype_cross_entropy(scores, torch.full((3, 4), 0.25), 1.0)
    with pytest.raises(RuntimeError, match=r"^prototype_cross_entropy gives first derivatives only"):
        torch.autograd.grad(loss, scores, create_graph=True)


def test_koleo_of_a_cross_is_the_log_of_its_edges():
    """The nearest of e1 is one of +-e2 at distance sqrt 2."""
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    assert koleo(5 * cross).item() == pytest.approx(-math.log(math.sqrt(2) + 1e-8), abs=1e-12)


def test_koleo_of_equal_rows_is_bounded_with_a_finite_gradient():
    z = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    loss = koleo(z)
    assert loss.item() == pytest.approx(-math.log(1e-8))
    assert bool(torch.autograd.grad(loss, z)[0].isfinite().all())


def test_koleo_is_lower_for_a_spread_batch_and_its_gradient_spreads(rng):
    close = torch.randn(1, 8, dtype=torch.float64, generator=rng) + 0.1 * torch.randn(
        16, 8, dtype=torch.float64, generator=rng
    )
    z = close.clone().requires_grad_()
    (slope,) = torch.autograd.grad(koleo(z), z)
    assert koleo(close - 1e-3 * slope) < koleo(close)
    assert koleo(torch.randn(16, 8, dtype=torch.float64, generator=rng)) < koleo(close)
    assert (slope * z).sum(dim=1).abs().max() < 1e-10  # a length means nothing
