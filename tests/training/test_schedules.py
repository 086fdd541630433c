import pytest

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.training.ema import momentum_at
from tacit.training.schedules import Constant, Cosine, Linear, Trapezoid


@pytest.mark.parametrize(("step", "rate"), [(0, 0.0), (500, 0.3), (1000, 0.6), (5000, 0.352342), (9999, 0.00060002)])
def test_the_rates_of_vicregs_code(step, rate):
    """Base 0.3 at batch 512 (peak 0.6), 10 of 100 epochs of 100 steps warm-up, end 0.001 of the peak."""
    assert 0.6 * Cosine(warmup=0.1, final=0.001)(step / 10_000) == pytest.approx(rate, rel=5e-6, abs=1e-12)


@pytest.mark.parametrize("schedule", [Cosine, Linear])
@pytest.mark.parametrize("warmup", [0.0, 0.3])
def test_the_ends_are_start_peak_and_final(schedule, warmup):
    factor = schedule(warmup=warmup, start=0.2, final=0.05)
    assert factor(0.0) == pytest.approx(0.2 if warmup else 1.0)
    assert factor(warmup) == pytest.approx(1.0)
    assert factor(1.0) == pytest.approx(0.05)


@pytest.mark.parametrize("schedule", [Cosine, Linear])
def test_half_way_down_is_half_way_between_peak_and_final(schedule):
    assert schedule(warmup=0.2, final=0.1)(0.6) == pytest.approx((1 + 0.1) / 2)


def test_constant_stays_at_the_peak_after_its_warm_up():
    factor = Constant(warmup=0.5, start=0.0)
    assert [factor(p) for p in (0.0, 0.25, 0.5, 0.9)] == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("step", "rate"), [(2250, 2.5e-4), (4500, 4.25e-4), (90_000, 4.25e-4), (92_250, 2.125e-4), (94_500, 0.0)]
)
def test_the_rates_of_v_jepa_2_with_actions(step, rate):
    factor = Trapezoid(warmup=4500 / 94_500, start=7.5 / 42.5, decay=4500 / 94_500)
    assert 4.25e-4 * factor(step / 94_500) == pytest.approx(rate, abs=1e-12)


def test_slopes_longer_than_the_run_are_refused():
    with pytest.raises(RecipeError, match=r"warmup=0.6 and decay=0.5 are more than the run: lower one of them"):
        Spec("schedule", "trapezoid", warmup=0.6, decay=0.5).resolve()


def test_a_run_of_warm_up_alone_is_refused():
    with pytest.raises(RecipeError, match=r"schedule.warmup: input should be less than 1, found 1.0"):
        Spec("schedule", "cosine", warmup=1.0).resolve()


@pytest.mark.parametrize(("k", "m"), [(0, 0.996), (1, 0.99600099), (50, 0.998), (100, 1.0)])
def test_momentum_of_a_teacher(k, m):
    assert momentum_at(k / 100, 0.996) == pytest.approx(m, abs=5e-9)
