"""Randomness is a function, not a history: every draw is a function of a key of integers, never of what was drawn before.

`mix` is the finaliser of SplitMix64 (Steele, Lea & Flood 2014), chained over the key; compiled kernels repeat the same
integer arithmetic, so numpy here and numba there give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["key", "keys", "order", "torch_seed", "torch_seeds", "uniform", "uniforms"]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _mix(x: Any) -> Any:  # an int, or an array of uint64, whose arithmetic wraps as the mask says
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _number(number: int | str) -> int:
    if isinstance(number, str):
        return int.from_bytes(number.encode(), "little") % _MASK
    return number & _MASK


def key(*numbers: int | str, after: int = 0) -> int:
    """A 64-bit key from integers and words, for example key(seed, 'weights') or key(seed, epoch, sample, view).

    after: the key of the numbers that come before these: key(a, b, c) is key(c, after=key(a, b)).
    """
    state = after
    for number in numbers:
        state = _mix(state ^ _number(number))
    return state


def keys(first: NDArray[np.uint64], *then: int | str, after: int = 0) -> NDArray[np.uint64]:
    """key(k, *then, after=after) for every k in `first`: many at a time cost a hundredth of one by one."""
    state = _mix(first ^ after)
    for number in then:
        state = _mix(state ^ _number(number))
    return state  # type: ignore[no-any-return]


def uniform(state: int, draw: int) -> float:
    """Draw number `draw` under key `state`: uniform in [0, 1) with 53 bits."""
    return (_mix((state + draw * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def uniforms(states: NDArray[np.uint64], draws: NDArray[np.uint64]) -> NDArray[np.float64]:
    """uniform(state, draw) for every key [n] and every draw number [k], [n k]."""
    mixed = _mix(states[:, None] + draws * np.uint64(_GOLDEN))
    return (mixed >> 11) * 2.0**-53  # type: ignore[no-any-return]


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The permutation of n samples in this epoch: a function of (seed, epoch), whatever the number of processes."""
    return np.random.Generator(np.random.Philox(key=key(seed, "order", epoch))).permutation(n)


def torch_seed(*numbers: int | str, after: int = 0) -> int:
    """A seed for torch.Generator.manual_seed or torch.manual_seed under the same kind of key."""
    return key(*numbers, after=after) >> 1


def torch_seeds(first: NDArray[np.uint64], *then: int, after: int = 0) -> list[int]:
    """torch_seed(k, *then, after=after) for every k in `first`."""
    return (keys(first, *then, after=after) >> 1).tolist()  # type: ignore[no-any-return]
