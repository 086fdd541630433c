"""Which samples a probe learns from: a function of (seed, ids), never of the features, so that every model gets the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.random import key

__all__ = ["as_ids", "folds", "low_shot", "share"]


def as_ids(ids: Any, n: int, name: str = "train") -> NDArray[np.int64]:
    """Stable ids [n] as int64; None counts the samples."""
    if ids is None:
        return np.arange(n)
    found = np.asarray(ids)
    if found.shape != (n,) or not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"{name} ids must be whole numbers [{n}], one per sample, found {found.dtype} {list(found.shape)}"
        )
    if len(np.unique(found)) != n:
        raise DataError(
            f"{name} ids must differ, found {n - len(np.unique(found))} that occur again: give each sample its own"
        )
    return found.astype(np.int64)


def _lots(ids: NDArray[np.int64], state: int) -> NDArray[np.uint64]:
    """A pseudo-random 64-bit number for every id: the finaliser of SplitMix64 over id and key."""
    x = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _places(labels: NDArray[np.int64], ids: NDArray[np.int64], state: int) -> NDArray[np.int64]:
    """Place 0, 1, ... of every sample in the drawn order of its class."""
    order = np.lexsort((ids, _lots(ids, state), labels))
    grouped = labels[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    place = np.empty(len(ids), dtype=np.int64)
    place[order] = np.arange(len(ids)) - np.repeat(starts, np.diff(np.r_[starts, len(ids)]))
    return place


def low_shot(labels: Any, ids: Any, per_class: int, seed: int) -> NDArray[np.int64]:
    """Indices of `per_class` training samples of every class, ascending by id; with more per class the same ones and others."""
    y = np.asarray(labels)
    found = as_ids(ids, len(y))
    counts = np.bincount(y)
    short = [c for c in range(len(counts)) if 0 < counts[c] < per_class]
    if short:
        raise DataError(
            f"{per_class} labels per class were asked for, but {len(short)} classes have fewer, the first is class {short[0]} "
            f"with {counts[short[0]]}: ask for fewer, or leave those classes out"
        )
    chosen = np.flatnonzero(_places(y, found, key(seed, "low-shot")) < per_class)
    return chosen[np.argsort(found[chosen], kind="stable")]


def share(labels: Any, ids: Any, percent: float, seed: int) -> NDArray[np.int64]:
    """Indices of `percent` % of the training samples of every class, rounded, at least one each, ascending by id; more hold fewer.

    The lots are those of `low_shot`. The 1 % and 10 % of ImageNet that papers use are fixed lists of file names (12,811 and 128,116).
    """
    y = np.asarray(labels)
    found = as_ids(ids, len(y))
    if not 0 < percent <= 100:
        raise DataError(
            f"a share of the labels lies above 0 and at most at 100 %, found {percent:g}: 1 and 10 are usual"
        )
    counts = np.bincount(y)
    wanted = np.maximum(np.floor(counts * percent / 100 + 0.5).astype(np.int64), 1)
    chosen = np.flatnonzero(_places(y, found, key(seed, "low-shot")) < wanted[y])
    return chosen[np.argsort(found[chosen], kind="stable")]


def folds(labels: NDArray[np.int64], ids: Any, *, seed: int = 0, rounds: int = 5) -> NDArray[np.int64] | None:
    """The round 0 .. rounds - 1 in which each sample is held out, -1 if never: about a fifth of each class per round.

    A class of fewer than 5 samples is held out in fewer rounds, one sample each, and never as a whole. None if some class
    has a single sample: then nothing can be held out without taking a class away.
    """
    counts = np.bincount(labels)
    if counts[counts > 0].min() < 2:
        return None
    place = _places(labels, as_ids(ids, len(labels)), key(seed, "folds"))
    part = place % 5
    part[part >= rounds] = -1
    return part
