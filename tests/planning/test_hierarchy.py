"""Two levels of planning, and the price of disagreement."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.spec import Spec
from tacit.planning import CEM, Bounds, Hierarchical, disagreement, goal_energy


def add(state, actions):
    """z' = z + a."""
    return state.unsqueeze(1) + actions.cumsum(1)


def rng():
    return torch.Generator().manual_seed(0)


def test_a_long_way_is_found_with_few_samples_where_single_actions_do_not():
    """60 steps at speed 1 to a goal 50 away: the flat search with as many samples gets less far."""
    state, goal = torch.zeros(3, 2), torch.tensor([[50.0, 0.0], [0.0, -40.0], [30.0, 30.0]])
    cost = goal_energy(add, state, goal)
    start, bounds = torch.zeros(3, 60, 2), Bounds(norm=1.0)
    small = {"samples": 60, "elites": 8, "iterations": 4}
    two = Spec(
        "planner", "hierarchical", hold=10, high=Spec("planner", "cem", **small), low=Spec("planner", "cem", **small)
    )
    plan = two.build(bounds).plan(cost, start, rng())
    flat = CEM(bounds, **{**small, "samples": 120}).plan(cost, start, rng())
    assert (plan.costs < 0.5 * flat.costs).all()
    assert plan.actions.shape == (3, 60, 2) and plan.actions.norm(dim=2).max() <= 1 + 1e-5
    torch.testing.assert_close(plan.costs, cost(plan.actions))


def test_the_low_level_reaches_the_first_state_of_the_high_level():
    state, goal = torch.zeros(1, 2), torch.tensor([[6.0, 0.0]])
    cost = goal_energy(add, state, goal)
    seen = []

    class Watched:
        ahead = staticmethod(lambda actions: seen.append(cost.ahead(actions)) or seen[-1])
        toward = staticmethod(cost.toward)

        def __call__(self, actions):
            return cost(actions)

    plan = Hierarchical(Bounds(norm=1.0), hold=4).plan(Watched(), torch.zeros(1, 12, 2), rng())
    reached = plan.actions[:, :4].sum(1)
    assert (reached - seen[0]).norm() < 0.15
    single = Hierarchical(Bounds(norm=1.0), hold=4).plan(cost, torch.zeros(12, 2), rng())
    assert single.actions.shape == (12, 2) and single.costs.ndim == 0


def test_batched_equals_one_by_one():
    state, goal = torch.zeros(3, 2), torch.tensor([[4.0, 0.0], [0.0, -3.0], [1.0, 2.0]])
    planner, start = Hierarchical(Bounds(norm=1.0), hold=2), torch.zeros(3, 6, 2)
    each = [torch.Generator().manual_seed(k) for k in range(3)]
    together = planner.plan(goal_energy(add, state, goal), start, each)
    for k in range(3):
        one = goal_energy(add, state[k : k + 1], goal[k : k + 1])
        alone = planner.plan(one, start[k], torch.Generator().manual_seed(k))
        torch.testing.assert_close(alone.actions, together.actions[k])


def test_a_cost_that_tells_nothing_is_refused():
    with pytest.raises(DataError) as caught:
        Hierarchical().plan(lambda actions: actions.square().sum((1, 2)), torch.zeros(6, 2), rng())
    assert str(caught.value) == (
        "planner 'hierarchical' needs a cost that tells what is imagined: make it with goal_energy, or take cem or icem"
    )


def test_disagreement_keeps_plans_where_models_agree():
    """Two models that part beyond x = 1: with their disagreement as price the plan stays before it."""
    state, goal = torch.zeros(1, 1), torch.tensor([[2.0]])

    def other(z, actions):
        path = add(z, actions)
        return path + 10 * (path - 1).clamp_min(0)

    planner, start = CEM(samples=200, elites=20, iterations=10), torch.zeros(1, 4, 1)
    energy, price = goal_energy(add, state, goal), disagreement([add, other], state)
    free = planner.plan(energy, start, rng()).actions.sum()
    wary = planner.plan(lambda a: energy(a) + price(a), start, rng()).actions.sum()
    assert abs(free - 2) < 0.1 and 0.8 < wary < 1.15
