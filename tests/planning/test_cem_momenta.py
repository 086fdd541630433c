"""CEM with V-JEPA 2-AC's settings: momenta of their own for mean and spread, and for each coordinate."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.planning import CEM, Bounds


def planned(**settings):
    target = torch.tensor([0.3, -0.2, 0.1, 0.5])
    planner = CEM(samples=50, elites=5, iterations=1, **settings)
    return planner.plan(lambda a: (a - target).abs().sum((1, 2)), torch.zeros(1, 4), torch.Generator().manual_seed(0))


def test_mean_and_spread_move_by_momenta_of_their_own():
    plain, mixed = planned(), planned(momentum=0.25, spread_momentum=0.9)
    torch.testing.assert_close(mixed.actions, 0.75 * plain.actions)  # it began at 0
    torch.testing.assert_close(mixed.spread, 0.1 * plain.spread + 0.9)  # and with a spread of 1
    same = planned(momentum=0.25)
    torch.testing.assert_close(same.spread, 0.75 * plain.spread + 0.25)


def test_every_coordinate_may_have_its_own():
    plain, mixed = planned(), planned(momentum=(0.25, 0.25, 0.25, 0.15), spread_momentum=(0.95, 0.95, 0.95, 0.15))
    torch.testing.assert_close(mixed.actions, plain.actions * torch.tensor([0.75, 0.75, 0.75, 0.85]))
    kept = torch.tensor([0.95, 0.95, 0.95, 0.15])
    torch.testing.assert_close(mixed.spread, plain.spread * (1 - kept) + kept)
    with pytest.raises(DataError, match="momentum has 3 coordinates, the actions have 4"):
        planned(momentum=(0.1, 0.1, 0.1))


def test_the_published_planner_reaches_a_goal_inside_the_box():
    """f(z, a) = z + W a: the energy |W (a - a*)|_1 falls below 1e-4 with 400 samples and 10 iterations."""
    rng = torch.Generator().manual_seed(1)
    w, goal = torch.randn(6, 4, generator=rng), torch.tensor([0.02, -0.03, 0.01, 0.3])
    bounds = Bounds(low=(-0.05,) * 3 + (-0.75,), high=(0.05,) * 3 + (0.75,))
    planner = CEM(bounds, samples=400, elites=10, iterations=10, momentum=0.15, spread=(0.05, 0.05, 0.05, 1.0))
    found = planner.plan(lambda a: ((a[:, 0] - goal) @ w.T).abs().sum(1), torch.zeros(1, 4), rng)
    assert found.costs < 2e-3 and (found.actions[0] - goal).abs().max() < 1e-3
    more = CEM(bounds, samples=400, elites=10, iterations=20, momentum=0.15, spread=(0.05, 0.05, 0.05, 1.0))
    assert more.plan(lambda a: ((a[:, 0] - goal) @ w.T).abs().sum(1), torch.zeros(1, 4), rng).costs < 1e-4
