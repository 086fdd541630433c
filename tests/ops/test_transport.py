"""Sinkhorn-Knopp: laws of the balanced assignment."""

import math

import pytest
import torch

from tacit.ops.transport import sinkhorn


def published(scores, temperature, iterations):
    """The alternation as it is written in the papers, on the transposed matrix, without protection."""
    q = torch.exp(scores / temperature).T
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(dim=1, keepdim=True) / len(q)
        q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T


@pytest.fixture
def scores(rng):
    return torch.rand(12, 5, dtype=torch.float64, generator=rng) * 2 - 1


@pytest.mark.parametrize("iterations", [1, 3])
def test_it_is_the_published_alternation(scores, iterations):
    torch.testing.assert_close(sinkhorn(scores, 0.05, iterations), published(scores, 0.05, iterations))


def test_rows_sum_to_one_and_prototypes_are_used_evenly_in_the_limit(scores):
    assert torch.allclose(sinkhorn(scores, 0.05).sum(dim=1), torch.ones(12, dtype=torch.float64), atol=1e-14)
    even = sinkhorn(scores, 0.5, 200)
    assert torch.allclose(even.sum(dim=0), torch.full((5,), 12 / 5, dtype=torch.float64), atol=1e-10)


def test_a_constant_added_to_all_scores_changes_nothing(scores):
    torch.testing.assert_close(sinkhorn(scores + 37.0, 0.05), sinkhorn(scores, 0.05))


def test_equal_scores_are_uniform():
    assert torch.allclose(sinkhorn(torch.full((6, 4), 3.0), 0.05), torch.full((6, 4), 0.25))


def test_the_order_of_samples_and_prototypes_does_not_matter(scores, rng):
    rows, columns = torch.randperm(12, generator=rng), torch.randperm(5, generator=rng)
    moved = sinkhorn(scores[rows][:, columns], 0.05)
    torch.testing.assert_close(moved, sinkhorn(scores, 0.05)[rows][:, columns])


def test_scores_far_apart_neither_overflow_nor_vanish():
    """exp(9000) and exp(-9000): a plain exponential is infinite for one sample and zero for the other."""
    found = sinkhorn(torch.tensor([[450.0, 440.0], [-450.0, -440.0]]), 0.05)
    assert bool(found.isfinite().all()) and torch.allclose(found.sum(dim=1), torch.ones(2))
    assert found[0, 0] > 0.99 and found[1, 1] > 0.99


def test_no_gradient_goes_through(scores):
    assert not sinkhorn(scores.requires_grad_(), 0.05).requires_grad


def test_a_prototype_that_nobody_wants_gets_nothing_and_harms_nothing():
    scores = torch.zeros(4, 3)
    scores[:, 2] = -1e4
    found = sinkhorn(scores, 0.05)
    assert bool(found.isfinite().all()) and math.isclose(float(found[:, 2].sum()), 0.0, abs_tol=1e-6)
