"""A Ctrl-C that cannot get lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["interrupts_repeated"]


@contextlib.contextmanager
def interrupts_repeated(after: float = 5.0) -> Iterator[None]:
    """While entered, a Ctrl-C is raised anew every `after` seconds until it has left: Python drops one that falls into a finaliser.

    Without it a dropped interrupt would leave the process waiting for its workers to their end. In a thread it does nothing.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(_: int, __: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, after)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGALRM, signal.SIGINT)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
