"""Confidence intervals. Pure and deterministic: resampling takes its seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from tacit.core.errors import DataError
from tacit.core.random import key

__all__ = ["Interval", "bootstrap", "paired_bootstrap", "paired_interval", "t_interval", "wilson"]


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"a confidence level lies between 0 and 1, found {level}: 0.95 is usual")


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for k successes of n (1927): stays inside [0, 1] and is right at k = 0 and k = n."""
    _check_level(level)
    if not 0 <= k <= n or n == 0:
        raise DataError(f"a share needs 0 <= k <= n and n > 0, found k={k}, n={n}")
    z = float(ndtri(0.5 + level / 2))
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Interval(p, low, high)


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    if not len(array):
        raise DataError("an interval needs at least one value, found none")
    if not np.isfinite(array).all():
        raise DataError(f"an interval needs finite values, found {int((~np.isfinite(array)).sum())} that are not")
    return array


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of the mean, n - 1 degrees of freedom; a single value tells nothing of its spread: nan ends."""
    _check_level(level)
    x = _values(values)
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stdtrit(len(x) - 1, 0.5 + level / 2)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Interval(mean, mean - half, mean + half)


def _pairs(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    x, y = _values(a), _values(b)
    if len(x) != len(y):
        raise DataError(f"a paired difference needs as many values on both sides, found {len(x)} and {len(y)}")
    return x - y


def paired_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of mean(a - b), item by item: the noise that both share cancels."""
    return t_interval(_pairs(a, b), level)


def bootstrap(values: ArrayLike, level: float = 0.95, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean; a function of (values, level, resamples, seed)."""
    _check_level(level)
    x = _values(values)
    random = np.random.Generator(np.random.Philox(key=key(seed, "bootstrap")))
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) <= 64:  # right or wrong answers: drawing the counts is the same law and costs nothing
        means = random.multinomial(len(x), counts / len(x), size=resamples) @ distinct / len(x)
    else:
        means = np.array([x[random.integers(0, len(x), len(x))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(x.mean()), float(low), float(high))


def paired_bootstrap(
    a: Sequence[float] | ArrayLike,
    b: Sequence[float] | ArrayLike,
    level: float = 0.95,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of mean(a - b) over items."""
    return bootstrap(_pairs(a, b), level, resamples=resamples, seed=seed)
