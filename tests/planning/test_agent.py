"""The receding horizon and the energies of goals."""

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError
from tacit.planning import CEM, MPPI, Agent, Gradient, disagreement, episode, goal_energy, squared


def add(state, actions):
    """z' = z + a, one coordinate for each."""
    return state.unsqueeze(1) + actions.cumsum(1)


class Line:
    """A point in the plane with gymnasium's methods: moves by its action, ends within 0.1 of the goal or after 20 steps."""

    def __init__(self, goal):
        self.goal = np.asarray(goal, dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        self.at, self.steps = np.zeros(2, dtype=np.float32), 0
        return self.at.copy(), {"goal": self.goal}

    def step(self, action):
        self.at, self.steps = self.at + action, self.steps + 1
        near = bool(np.linalg.norm(self.at - self.goal) < 0.1)
        return self.at.copy(), float(near), near, self.steps >= 20, {"goal": self.goal}


def make(planner, calls, **settings):
    goals = {}

    def see(observation):
        calls.append(observation)
        state = torch.from_numpy(observation).unsqueeze(0)
        return goal_energy(add, state, goals["now"], over="sum")

    agent = Agent(planner, see, width=2, **settings)
    return agent, lambda _, info: goals.update(now=torch.from_numpy(info["goal"]).unsqueeze(0))


def test_reaches_the_goal_and_encodes_once_a_plan():
    calls = []
    agent, begin = make(CEM(samples=100, elites=10, iterations=8, norm=1.0), calls, horizon=5, execute=2)
    result = episode(Line([2.0, -1.5]), agent, begin=begin)
    assert result.terminated
    assert not result.truncated
    assert result.rewards[-1] == 1.0
    assert len(calls) == (len(result.actions) + 1) // 2
    assert (np.linalg.norm(result.actions, axis=1) <= 1 + 1e-6).all()
    again = episode(Line([2.0, -1.5]), agent, begin=begin)
    np.testing.assert_array_equal(again.actions, result.actions)


def test_horizon_never_looks_beyond_the_end():
    seen = []

    def see(observation):
        def cost(actions):
            seen.append(actions.shape[1])
            return actions.square().sum((1, 2))

        return cost

    agent = Agent(CEM(samples=8, elites=2, iterations=1), see, width=2, horizon=4)
    episode(Line([9.0, 9.0]), agent, steps=6)
    assert seen[::2] == [4, 4, 4, 3, 2, 1]  # each plan asks twice: samples, then the mean


def test_warm_start_begins_from_the_shifted_plan():
    starts = []

    class Watch(CEM):
        def plan(self, cost, start, generator):
            starts.append(start)
            return super().plan(cost, start, generator)

    for warm in (True, False):
        starts.clear()
        agent, begin = make(Watch(samples=30, elites=5, iterations=2), [], horizon=4, warm=warm)
        env = Line([3.0, 0.0])
        observation, info = env.reset()
        begin(observation, info)
        agent.act(observation)
        first = agent.last.actions
        agent.act(observation)
        assert torch.equal(starts[1][:, :3], first[:, 1:] if warm else torch.zeros(1, 3, 2))


def test_many_episodes_at_once_equal_each_alone():
    goals = torch.tensor([[1.0, 0.0], [0.0, -2.0], [3.0, 1.0]])
    planner = Gradient(iterations=50, lr=0.05, noise=0)  # no noise: nothing depends on the place in the batch
    together = Agent(planner, lambda x: goal_energy(add, x, goals), width=2, horizon=3, problems=3)
    actions = together.act(torch.zeros(3, 2))
    for k in range(3):
        alone = Agent(planner, lambda x, k=k: goal_energy(add, x, goals[k : k + 1]), width=2, horizon=3)
        torch.testing.assert_close(alone.act(torch.zeros(1, 2))[0], actions[k])


def test_goal_energy_shares_one_state_among_the_samples_of_its_problem():
    state, goal = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    seen = []

    def imagine(rows, actions):
        seen.append(rows)
        return rows.unsqueeze(1) + actions[:, :, :1, None].expand(-1, -1, 5, 3)

    actions = torch.randn(6, 4, 1)
    last = goal_energy(imagine, state, goal)(actions)
    total = goal_energy(imagine, state, goal, over="sum")(actions)
    for row in range(6):
        states = state[row // 3] + actions[row, :, :, None]
        each = (states - goal[row // 3]).square().mean((1, 2))
        torch.testing.assert_close(last[row], each[-1])
        torch.testing.assert_close(total[row], each.sum())
    one = goal_energy(imagine, state[:1], goal[:1])
    one(actions)
    assert seen[-1].untyped_storage().data_ptr() == state.untyped_storage().data_ptr()  # no copies of the encoded state
    assert squared(torch.ones(2, 3, 4), torch.zeros(2, 1, 4)).tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("numbers", [1, 7, 9, 20, 1000])  # two problems of 6 samples
def test_energies_of_many_rows_in_parts_are_those_in_one(monkeypatch, numbers):
    state, goal, actions = torch.randn(2, 1), torch.randn(2, 1), torch.randn(12, 4, 1)
    sizes = []

    def imagine(rows, given):
        sizes.append(len(rows))
        return rows.unsqueeze(1) + given.cumsum(1)

    energies = [goal_energy(imagine, state, goal, over=over) for over in ("last", "sum")]
    price = disagreement([imagine, lambda rows, given: 2 * imagine(rows, given)], state)
    costs = [f for e in energies for f in (e, e.ahead, e.toward(goal + 1))]
    whole = [f(actions) for f in (*costs, price)]
    assert sizes == [12] * 8
    sizes.clear()
    monkeypatch.setattr("tacit.planning.energies._ON_A_PROCESSOR", numbers)
    parts = [f(actions) for f in costs]
    assert max(sizes) <= numbers and sum(sizes) == 72
    sizes.clear()
    parts.append(price(actions))
    assert max(sizes) <= max(1, numbers // 2) and sum(sizes) == 24  # two models at once
    for one, other in zip(parts, whole, strict=True):
        assert torch.equal(one, other)


def test_disagreement_is_zero_for_equal_models_and_the_variance_otherwise():
    state, actions = torch.zeros(1, 2), torch.randn(5, 3, 2)
    torch.testing.assert_close(disagreement([add, add], state)(actions), torch.zeros(5))
    shifted = [lambda s, a, c=c: add(s, a) + c for c in (0.0, 1.0, 2.0)]
    value = disagreement(shifted, state, weight=2.0, discount=0.5)(actions)
    torch.testing.assert_close(value, torch.full((5,), 2.0 * 2 * (1 + 0.5 + 0.25)))  # two coordinates of variance 1


def test_bad_requests_are_refused():
    with pytest.raises(DataError, match=r"execute=4: of a plan of 3 actions between 1 and 3 can be executed"):
        Agent(CEM(), lambda x: None, width=2, horizon=3, execute=4)
    with pytest.raises(DataError, match=r"state \[1, 2\] and goal \[2, 2\] must have one shape"):
        goal_energy(add, torch.zeros(1, 2), torch.zeros(2, 2))
    with pytest.raises(DataError, match=r"5 action sequences do not split over 2 states"):
        goal_energy(add, torch.zeros(2, 2), torch.zeros(2, 2))(torch.zeros(5, 3, 2))
    with pytest.raises(DataError, match=r"disagreement needs at least 2 models, found 1"):
        disagreement([add], torch.zeros(1, 2))
    planner = MPPI(samples=4, elites=2, iterations=1)
    agent = Agent(planner, lambda x: lambda a: a.square().sum((1, 2)), width=2, horizon=2, problems=2)
    with pytest.raises(DataError, match=r"one environment takes one action, this agent plans for 2 problems"):
        episode(Line([1.0, 0.0]), agent)
