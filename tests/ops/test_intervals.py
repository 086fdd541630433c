"""Intervals against closed forms and their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tacit.core.errors import DataError
from tacit.ops.intervals import bootstrap, paired_bootstrap, paired_interval, t_interval, wilson


def test_wilson_solves_its_quadratic():
    """The ends are the two p with (k/n - p)^2 = z^2 p (1 - p) / n."""
    z = 1.959963984540054
    found = wilson(37, 120)
    for p in (found.low, found.high):
        assert (37 / 120 - p) ** 2 == pytest.approx(z * z * p * (1 - p) / 120, rel=1e-9)
    assert found.low < found.value < found.high


def test_wilson_at_the_ends_is_one_sided():
    z2 = 1.959963984540054**2
    assert wilson(0, 10) == pytest.approx((0, 0, z2 / (10 + z2)))
    assert wilson(10, 10) == pytest.approx((1, 10 / (10 + z2), 1))


def test_t_interval_of_two_values_has_the_cauchy_quantile():
    """One degree of freedom: t = tan(pi (level / 2)), half width = t |a - b| / 2."""
    found = t_interval([1.0, 3.0], level=0.9)
    assert found.value == 2
    assert found.high - 2 == pytest.approx(math.tan(math.pi * 0.45))
    assert 2 - found.low == pytest.approx(found.high - 2)


def test_one_value_has_no_spread():
    found = t_interval([0.7])
    assert found.value == 0.7
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_shared_shift_cancels_in_pairs():
    noise = np.random.default_rng(0).normal(size=30)
    assert paired_interval(noise + 0.5, noise) == pytest.approx((0.5, 0.5, 0.5))
    assert paired_bootstrap(noise + 0.5, noise) == pytest.approx((0.5, 0.5, 0.5))


def test_bootstrap_is_a_function_of_its_seed_and_close_to_normal():
    x = np.random.default_rng(1).normal(size=400)
    once = bootstrap(x, seed=3)
    assert once == bootstrap(x, seed=3)
    assert once != bootstrap(x, seed=4)
    half = 1.96 * x.std() / 20
    assert once.high - once.low == pytest.approx(2 * half, rel=0.1)


def test_counts_and_values_draw_the_same_law():
    right = np.random.default_rng(2).random(500) < 0.3
    quick = bootstrap(right.astype(float), resamples=4000)
    slow = bootstrap(right + np.random.default_rng(3).normal(size=500) * 1e-9, resamples=4000)
    assert quick == pytest.approx(slow, abs=0.006)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: wilson(3, 2), "a share needs 0 <= k <= n and n > 0, found k=3, n=2"),
        (lambda: wilson(0, 0), "a share needs 0 <= k <= n and n > 0, found k=0, n=0"),
        (lambda: wilson(1, 2, level=95), "a confidence level lies between 0 and 1, found 95: 0.95 is usual"),
        (lambda: t_interval([]), "an interval needs at least one value, found none"),
        (lambda: t_interval([1.0, math.nan]), "an interval needs finite values, found 1 that are not"),
        (
            lambda: paired_interval([1.0, 2.0], [1.0]),
            "a paired difference needs as many values on both sides, found 2 and 1",
        ),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == sentence
