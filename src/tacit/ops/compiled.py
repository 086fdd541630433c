"""How loops are compiled: cached machine code, without the GIL, the same bits from a fresh and from a cached start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["fast_jit", "jit"]


def jit(function: Callable[..., Any]) -> Any:
    """Compile on first call, without the GIL; the machine code is kept on disk where a folder for it is writable."""
    return _compile(function, fastmath=False)


def fast_jit(function: Callable[..., Any]) -> Any:
    """As `jit`, and the sign of zero is free.

    No more freedom than that: where a compiler may fuse multiply-adds or sum in another order, the machine code made by a
    first start and the code that later ones read from the disk differ in the last bit, and so would the runs.
    """
    return _compile(function, fastmath={"nsz"})


def _compile(function: Callable[..., Any], fastmath: bool | set[str]) -> Any:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # numba found no writable folder, neither beside the file nor in the user's cache
        return numba.njit(function, **options)
