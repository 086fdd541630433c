"""Threads for compiled loops.

They are Python threads around kernels that release the GIL, not numba's `parallel=True`: its default threading
layers abort when two Python threads enter at once or when a process forks after the first use, and both happen in
data loading; compiling is also several times faster without it.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

__all__ = ["Job", "spread", "spread_all"]

Job = tuple[Callable[[int, int], None], int, int]  # work(begin, end), its number of items, and the least items a range


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The helpers of this process: a forked child does not inherit its parent's threads, so it makes its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"tacit-{process}")


def spread(work: Callable[[int, int], None], n: int, threads: int, grain: int) -> None:
    """Call `work(begin, end)` over ranges that cover 0..n, on up to `threads` threads, at least `grain` items a range.

    A range that fails fails the call. Results must not depend on the ranges: `work` treats every item alone.
    The caller works too and every thread takes the next range when it is free, so that waking a thread delays nobody.
    """
    spread_all([(work, n, grain)], threads)


def spread_all(jobs: Sequence[Job], threads: int) -> None:
    """Several works at once: a thread that is through with one begins the next, and nobody waits in between."""
    left: deque[tuple[Callable[[int, int], None], int, int]] = deque()
    most = 0
    for work, n, grain in jobs:
        fits = n // max(grain, 1)
        most += fits
        pieces = max(1, min(8 * threads, fits))  # several a thread, so that one slow item does not hold up the rest
        cuts = [n * i // pieces for i in range(pieces + 1)]
        left.extend((work, begin, end) for begin, end in itertools.pairwise(cuts))
    threads = max(1, min(threads, most))
    if threads == 1:
        for work, n, _ in jobs:
            work(0, n)
        return

    def drain() -> None:
        while left:
            try:
                work, begin, end = left.popleft()
            except IndexError:  # another thread took the last one
                return
            work(begin, end)

    helpers = [_pool(os.getpid(), threads - 1).submit(drain) for _ in range(threads - 1)]
    try:
        drain()
    finally:
        left.clear()  # after a fault: the others finish what they have begun, for it writes into memory of the caller
        late = [helper for helper in helpers if not helper.cancel()]
        wait(late)
    for helper in late:
        helper.result()
