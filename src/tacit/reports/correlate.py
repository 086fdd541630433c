"""Rank correlation of two quantities over a few runs, with a bootstrap interval. n runs; s bootstrap samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Correlation", "kendall", "rank_correlation", "spearman"]

Array = NDArray[np.float64]
FEW = 10  # below this many runs a report says that they are few


@dataclass(frozen=True)
class Correlation:
    """A rank correlation in [-1, 1] with its interval over n runs; `low` and `high` are NaN where n is too small for one."""

    name: str
    value: float
    low: float
    high: float
    n: int

    def words(self) -> str:
        """'Spearman 0.86 [0.31, 1.00]'; the caller says n."""
        if not np.isfinite(self.value):
            return f"{self.name} not defined (one side does not vary)"
        bounds = f" [{self.low:.2f}, {self.high:.2f}]" if np.isfinite(self.low) else " (too few runs for an interval)"
        return f"{self.name} {self.value:.2f}{bounds}".replace("-", "−")


def _ranks(x: Array) -> Array:
    """Ranks [s n] of each row, ties share their mean rank."""
    below = (x[:, None, :] < x[:, :, None]).sum(axis=2)
    equal = (x[:, None, :] == x[:, :, None]).sum(axis=2)
    ranks: Array = below + (equal + 1) / 2
    return ranks


def spearman(x: Array, y: Array) -> Array:
    """Spearman's rho of each pair of rows [s n]; NaN where a row is constant. The correlation of mean ranks."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return _ratio((a * b).sum(axis=1), (a * a).sum(axis=1) * (b * b).sum(axis=1))


def kendall(x: Array, y: Array) -> Array:
    """Kendall's tau-b of each pair of rows [s n]: concordant minus discordant pairs, corrected for ties; NaN where constant."""
    a = np.sign(x[:, :, None] - x[:, None, :])
    b = np.sign(y[:, :, None] - y[:, None, :])
    return _ratio((a * b).sum(axis=(1, 2)), (a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))


def _ratio(over: Array, squared: Array) -> Array:
    return np.divide(over, np.sqrt(squared), out=np.full(over.shape, np.nan), where=squared > 0)


def rank_correlation(
    x: Array,
    y: Array,
    name: str,
    statistic: Callable[[Array, Array], Array],
    *,
    samples: int = 2000,
    level: float = 0.95,
) -> Correlation:
    """`statistic` of x and y [n] with the percentile interval of a bootstrap over runs, drawn from a fixed seed.

    Resamples in which one side is constant have no correlation and are left out. Below 4 runs there is no interval.
    """
    n = len(x)
    if n < 2:
        return Correlation(name, float("nan"), float("nan"), float("nan"), n)
    value = float(statistic(x[None], y[None])[0])
    low = high = float("nan")
    if n >= 4 and np.isfinite(value):
        rows = max(1, min(samples, 4_000_000 // n**2))  # keeps the n x n comparisons of a block small
        generator = np.random.default_rng(0)
        drawn = []
        for start in range(0, samples, rows):
            chosen = generator.integers(0, n, (min(rows, samples - start), n))
            drawn.append(statistic(x[chosen], y[chosen]))
        low, high = np.nanquantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Correlation(name, value, min(low, value), max(high, value), n)
