"""The laws of planners, on costs whose optimum is known."""

import pytest
import torch

from tacit.core.errors import DataError, RecipeError, RunError
from tacit.core.parts import kinds
from tacit.core.spec import Spec
from tacit.planning import CEM, ICEM, MPPI, Bounds, Gradient, PathIntegral, Shooting, shift
from tacit.planning.cem import coloured

SMALL = {
    "cem": {"samples": 64, "elites": 8, "iterations": 4},
    "icem": {"samples": 64, "elites": 8, "iterations": 4},
    "mppi": {"samples": 64, "elites": 8, "iterations": 4, "sharpness": 1.0},
    "path-integral": {"samples": 64, "iterations": 2, "spread": 1.0, "temperature": 0.5},
    "gradient": {"iterations": 20, "lr": 0.1, "starts": 3},
    "shooting": {"samples": 64},
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def quadratic(target):
    """Sum of (a - target)^2 of p problems [p h a]: the optimum is the target, its cost 0."""

    def cost(actions):
        goals = target.repeat_interleave(len(actions) // len(target), 0)
        return (actions - goals).square().sum((1, 2))

    return cost


@pytest.fixture
def target():
    return 0.8 * torch.randn(3, 4, 2, generator=generator(7), dtype=torch.float64)


def test_every_planner_of_the_role_is_tested_here():
    assert set(kinds("planner")) == {*SMALL, "hierarchical"}  # which asks more of a cost: test_hierarchy


@pytest.mark.parametrize("kind", SMALL)
def test_same_generator_same_plan_and_batched_equals_one_by_one(kind, target):
    planner = Spec("planner", kind, **SMALL[kind]).build(Bounds(norm=2.0))
    start = torch.zeros_like(target)
    together = planner.plan(quadratic(target), start, [generator(k) for k in range(3)])
    again = planner.plan(quadratic(target), start, [generator(k) for k in range(3)])
    assert torch.equal(together.actions, again.actions)
    for k in range(3):
        alone = planner.plan(quadratic(target[k : k + 1]), start[k], generator(k))
        torch.testing.assert_close(alone.actions, together.actions[k], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone.costs, together.costs[k], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone.trace, together.trace[:, k], rtol=0, atol=1e-12)
    torch.testing.assert_close(together.costs, quadratic(target)(together.actions))
    one = planner.plan(quadratic(target), start, generator(0))
    assert torch.equal(one.actions, planner.plan(quadratic(target), start, generator(0)).actions)
    assert not torch.equal(one.actions, planner.plan(quadratic(target), start, generator(1)).actions)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("bounds", [Bounds(norm=0.3), Bounds(-0.2, 0.1), Bounds((-0.1, -0.5), (0.4, 0.0), norm=0.45)])
def test_bounds_hold_for_the_plan_and_for_all_that_the_cost_sees(kind, bounds, target):
    def inside(actions):
        for low, high in [(bounds.low, bounds.high)] if bounds.low is not None else []:
            assert (actions >= actions.new_tensor(low) - 1e-12).all()
            assert (actions <= actions.new_tensor(high) + 1e-12).all()
        if bounds.norm is not None:
            assert (actions.norm(dim=-1) <= bounds.norm + 1e-12).all()

    def watched(actions):
        inside(actions.detach())
        return quadratic(target)(actions)

    inside(Spec("planner", kind, **SMALL[kind]).build(bounds).plan(watched, 5 + target, generator(0)).actions)


@pytest.mark.parametrize("planner", [CEM(), ICEM(beta=0), MPPI(samples=300, elites=60, iterations=40, sharpness=0.5, answer="mean"),
                                     Gradient(iterations=60, lr=0.2, noise=0), Gradient(rule="adam", iterations=300, lr=0.05, noise=0)],
                         ids=lambda p: type(p).__name__)  # fmt: skip
def test_a_quadratic_is_solved(planner, target):
    plan = planner.plan(quadratic(target), torch.zeros_like(target), generator(0))
    assert plan.costs.max() < 0.01 * quadratic(target)(torch.zeros_like(target)).min()


def test_path_integral_settles_where_cost_and_control_balance(target):
    """The law it samples is exp(-cost / T) N(0, spread^2): for |a - g|^2 a Gaussian of mean g / (1 + T / (2 spread^2))."""
    planner = PathIntegral(samples=4000, iterations=40, spread=0.5, temperature=0.4)
    plan = planner.plan(quadratic(target), torch.zeros_like(target), generator(0))
    torch.testing.assert_close(plan.actions, target / (1 + 0.4 / 0.5), rtol=0, atol=0.06)


def additive(position, goal):
    """z' = z + a, cost the sum over t >= 1 of |z_t - g|^2."""
    return lambda actions: ((position + actions.cumsum(1)) - goal).square().sum((1, 2))


def test_moving_point_free_and_with_bounded_speed():
    """Without bounds the first action does it all; with |a| <= r the best is the straight line at speed r until it arrives."""
    position, goal = torch.zeros(2, dtype=torch.float64), torch.tensor([3.0, 4.0], dtype=torch.float64)
    start = torch.zeros(6, 2, dtype=torch.float64)
    plan = Gradient(iterations=3000, lr=0.02, noise=0).plan(additive(position, goal), start, generator(0))
    exact = torch.zeros_like(start)
    exact[0] = goal
    torch.testing.assert_close(plan.actions, exact, rtol=0, atol=1e-6)
    line = torch.zeros_like(start)
    line[:3] = torch.stack([goal * 0.4, goal * 0.4, goal * 0.2])
    least = additive(position, goal)(line.unsqueeze(0)).item()
    for planner, near in (
        (CEM(norm=2.0, samples=500, elites=50, iterations=60), 0.1),
        (Gradient(iterations=2000, lr=0.02, noise=0, norm=2.0), 1e-6),
    ):
        plan = planner.plan(additive(position, goal), start, generator(0))
        torch.testing.assert_close(plan.actions, line, rtol=0, atol=near)
        assert plan.costs.item() == pytest.approx(least, rel=near / 5)


def riccati(a, b, q, r, horizon, x0):
    """The optimal actions of x' = A x + B u with cost sum x'Qx + u'Ru, by the backward recursion."""
    value, gains = q, []
    for _ in range(horizon):
        gain = torch.linalg.solve(r + b.T @ value @ b, b.T @ value @ a)
        value = q + a.T @ value @ (a - b @ gain)
        gains.append(gain)
    actions, x = [], x0
    for gain in reversed(gains):
        actions.append(-gain @ x)
        x = a @ x + b @ actions[-1]
    return torch.stack(actions), x0 @ (value - q) @ x0


@pytest.mark.parametrize("planner", [CEM(samples=400, elites=40, iterations=60), ICEM(samples=400, elites=40, iterations=60, beta=0.5),
                                     Gradient(iterations=1500, lr=0.03, noise=0), Gradient(rule="adam", iterations=1500, lr=0.02, noise=0)],
                         ids=["cem", "icem", "sgd", "adam"])  # fmt: skip
def test_linear_quadratic_system_against_the_riccati_solution(planner):
    a = torch.tensor([[1.0, 0.3], [0.0, 0.9]], dtype=torch.float64)
    b = torch.tensor([[0.0], [0.5]], dtype=torch.float64)
    q, r = torch.diag(torch.tensor([1.0, 0.1], dtype=torch.float64)), torch.tensor([[0.2]], dtype=torch.float64)
    x0 = torch.tensor([1.0, -0.5], dtype=torch.float64)
    exact, least = riccati(a, b, q, r, 8, x0)

    def cost(actions):
        x, total = x0.expand(len(actions), 2), 0.0
        for u in actions.unbind(1):
            x = x @ a.T + u @ b.T
            total = total + (x @ q * x).sum(1) + (u @ r * u).sum(1)
        return total

    torch.testing.assert_close(cost(exact.unsqueeze(0))[0], least)
    plan = planner.plan(cost, torch.zeros(8, 1, dtype=torch.float64), generator(0))
    assert plan.costs >= least - 1e-12
    assert plan.costs.item() == pytest.approx(least.item(), rel=2e-3)
    torch.testing.assert_close(plan.actions, exact, rtol=0, atol=0.06)


def test_scale_of_the_cost(target):
    """CEM does not see it; MPPI needs sharpness / c, the path integral temperature * c."""
    start, big = torch.zeros_like(target), lambda x: 7.0 * quadratic(target)(x)
    for one, two in [
        (CEM(iterations=3), CEM(iterations=3)),
        (MPPI(iterations=3, sharpness=0.7), MPPI(iterations=3, sharpness=0.1)),
    ]:
        p, q = one.plan(quadratic(target), start, generator(0)), two.plan(big, start, generator(0))
        torch.testing.assert_close(p.actions, q.actions)
    p = PathIntegral(samples=50, temperature=1.0).plan(quadratic(target), start, generator(0))
    q = PathIntegral(samples=50, temperature=7.0).plan(big, start, generator(0))
    torch.testing.assert_close(p.actions, q.actions)  # from zero, where the control term vanishes


def test_mppi_between_its_limits(target):
    """Sharpness 0 is CEM's mean; a large one, or a cold path integral, follows the best sample alone."""
    start, setting = torch.zeros_like(target), {"samples": 50, "elites": 10, "iterations": 1}
    flat = MPPI(**setting, sharpness=0.0, spread=1.0, answer="mean").plan(quadratic(target), start, generator(0))
    cem = CEM(**setting).plan(quadratic(target), start, generator(0))
    torch.testing.assert_close(flat.actions, cem.actions)
    torch.testing.assert_close(flat.spread * (10 / 9) ** 0.5, cem.spread)  # biased against unbiased
    best = ICEM(**setting, beta=0).plan(quadratic(target), start, generator(0))
    for answer in ("mean", "sample"):
        sharp = MPPI(**setting, sharpness=1e6, spread=1.0, answer=answer).plan(quadratic(target), start, generator(0))
        torch.testing.assert_close(sharp.costs, sharp.trace[-1])
    cold = PathIntegral(samples=50, temperature=1e-6, spread=1.0).plan(quadratic(target), start, generator(0))
    torch.testing.assert_close(cold.costs, cold.trace[-1])
    hot = PathIntegral(samples=50, temperature=1e9, spread=1.0).plan(quadratic(target), start, generator(0))
    noise = torch.randn(3, 50, 4, 2, generator=generator(0), dtype=torch.float64)
    torch.testing.assert_close(hot.actions, noise.mean(1), rtol=0, atol=1e-6)
    assert (best.costs <= best.trace[-1] + 1e-12).all()


def test_mppi_draws_its_elite_with_the_weights():
    """One number, three elites: over many problems the chosen costs follow exp(-c) among them."""
    p = 4000
    planner = MPPI(samples=3, elites=3, iterations=1, sharpness=1.0, spread=1.0)
    seen = {}

    def cost(actions):
        seen["costs"] = actions[:, 0, 0].view(p, 3).square()
        return actions[:, 0, 0].square()

    plan = planner.plan(cost, torch.zeros(p, 1, 1, dtype=torch.float64), generator(0))
    ordered = seen["costs"].sort(1).values
    weight = torch.softmax(-ordered, 1)
    for k in range(3):
        share = torch.isclose(plan.costs, ordered[:, k]).double().mean()
        assert share.item() == pytest.approx(weight[:, k].mean().item(), abs=0.03)


def test_spread_of_cem_shrinks_unless_the_cost_is_degenerate():
    """Last-state cost of z' = z + a: any sequence with the right sum is optimal, and the spread does not vanish."""
    start = torch.zeros(4, 1, dtype=torch.float64)
    planner = CEM(samples=400, elites=40, iterations=15)
    sharp = planner.plan(lambda a: (a - 1).square().sum((1, 2)), start, generator(0))
    loose = planner.plan(lambda a: (a.sum((1, 2)) - 1).square(), start, generator(0))
    assert sharp.spread.max() < 1e-3
    assert loose.spread.min() > 0.1
    assert loose.costs < 1e-3
    assert (sharp.trace[1:] <= sharp.trace[:-1] + 0.5).all()
    assert sharp.trace[-1] < 1e-3 * sharp.trace[0]


def test_coloured_noise_has_unit_variance_and_its_spectrum():
    white = torch.randn(4000, 30, 2, generator=generator(0), dtype=torch.float64)
    red = coloured(white, 2.0)
    assert red.var(0).mean().item() == pytest.approx(1, abs=0.03)
    power = torch.fft.rfft(red, dim=1).abs().square().mean((0, 2))
    ratio = power[1:15] * torch.arange(1, 15) ** 2
    torch.testing.assert_close(ratio / ratio[0], torch.ones(14, dtype=torch.float64), rtol=0.1, atol=0)
    assert torch.equal(coloured(white, 0.0), white)
    assert torch.equal(coloured(white[:, :1], 2.0), white[:, :1])


def test_order_of_problems_does_not_matter_and_warm_start_helps(target):
    planner = CEM(samples=100, elites=10, iterations=3, include_mean=True)
    flipped = planner.plan(quadratic(target.flip(0)), torch.zeros_like(target), [generator(k) for k in (2, 1, 0)])
    straight = planner.plan(quadratic(target), torch.zeros_like(target), [generator(k) for k in range(3)])
    torch.testing.assert_close(flipped.actions.flip(0), straight.actions)
    warm = planner.plan(quadratic(target), target, generator(0))
    assert (warm.trace[0] == 0).all()  # the mean itself was judged
    kept = Shooting(samples=5).plan(quadratic(target), target, generator(0))
    assert (kept.costs == 0).all()


def test_shift_drops_pads_and_cuts():
    a = torch.arange(10.0).view(5, 2)
    assert torch.equal(shift(a, 2), torch.cat([a[2:], torch.zeros(2, 2)]))
    assert torch.equal(shift(a, 1, 3), a[1:4])
    assert torch.equal(shift(a, 5, 2), torch.zeros(2, 2))


def test_costs_that_are_not_numbers_are_never_chosen(target):
    def broken(actions):
        costs = quadratic(target)(actions)
        return torch.where(actions[:, 0, 0] > 0, torch.nan, costs)

    for planner in (CEM(samples=64, elites=8, iterations=3), Shooting(samples=64, spread=2.0)):
        start = torch.zeros_like(target)
        start[:, 0, 0] = -1
        assert (planner.plan(broken, start, generator(0)).actions[:, 0, 0] <= 0).all()
    with pytest.raises(
        RunError, match=r"planning found no finite cost for 3 of 3 problems: look at the energy for NaN"
    ):
        CEM(samples=8, elites=2).plan(lambda a: a.sum((1, 2)) * torch.nan, torch.zeros_like(target), generator(0))


def test_unknown_options_and_bad_requests_are_refused(target):
    with pytest.raises(RecipeError, match=r"planner.var_scale: planner 'cem' has no setting 'var_scale'"):
        Spec("planner", "cem", var_scale=1.5).build()
    with pytest.raises(RecipeError, match=r"elites: 9 of samples=8 cannot be kept: lower elites or draw more samples"):
        Spec("planner", "mppi", samples=8, elites=9).build()
    with pytest.raises(RecipeError, match=r"elites: 9 of samples=8 cannot be kept"):
        CEM(samples=8, elites=9)
    with pytest.raises(RecipeError, match=r"planner.momentum: input should be less than 1, found 1.0"):
        Spec("planner", "cem", momentum=1.0).build()
    assert Spec("planner", "cem", spread=[0.05, 1.0]).build().spread == (0.05, 1.0)
    planner, start = CEM(samples=8, elites=2, iterations=1), torch.zeros(2, 3, 2)
    with pytest.raises(DataError, match=r"the cost of 16 action sequences must have the shape \[16\], found \[16, 3\]"):
        planner.plan(lambda a: a.sum(2), start, generator(0))
    with pytest.raises(DataError, match=r"a start is a float tensor \[h a\] or \[p h a\], found torch.float32 \[2\]"):
        planner.plan(lambda a: a.sum((1, 2)), torch.zeros(2), generator(0))
    with pytest.raises(DataError, match=r"2 problems need one generator or 2, found 3"):
        planner.plan(lambda a: a.sum((1, 2)), start, [generator(k) for k in range(3)])
    with pytest.raises(DataError, match=r"spread has 3 coordinates, the actions have 2"):
        CEM(spread=(1.0, 1.0, 1.0)).plan(lambda a: a.sum((1, 2)), start, generator(0))
    with pytest.raises(DataError, match=r"low bounds 3 coordinates, the actions have 2"):
        CEM(Bounds((-1.0, -1.0, -1.0))).plan(lambda a: a.sum((1, 2)), start, generator(0))
    with pytest.raises(DataError, match=r"bounds need low <= high, found low=1.0 and high=0.0"):
        Bounds(1.0, 0.0)
    with pytest.raises(DataError, match=r"a bound on the norm is positive and needs low <= 0 <= high"):
        Bounds(0.5, 1.0, norm=1.0)
    with pytest.raises(DataError, match=r"law='uniform' draws between the bounds and needs both low and high"):
        Shooting(law="uniform")
    with pytest.raises(DataError, match=r"planning by gradient needs a cost that is differentiable in the actions"):
        Gradient(iterations=1).plan(lambda a: a.detach().sum((1, 2)), start, generator(0))
