"""When a run must stop before its last step: on a signal, or because its loss is no number any more."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import RunError
from tacit.core.values import Batch
from tacit.training.checkpoint import place, saved_steps
from tacit.training.runtime import Runtime

__all__ = ["StopSignals", "Watch"]

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class StopSignals:
    """While entered, the first SIGINT (Ctrl-C) or SIGTERM asks to stop after the running step; a further Ctrl-C aborts at once.

    `reason` names the signal, '' before. Handlers belong to the main thread: elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on) for number in _NAMES}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason:
            raise KeyboardInterrupt
        self.reason = self.reason or _NAMES[signal.Signals(number)]


class Watch:
    """Looks at every step's loss, and lets several processes agree on stopping: `stop` is the same in all after each step.

    On the CPU it looks at once, before the weights move. On CUDA the answer of a step is fetched while the next one runs, so
    that the host never waits; other accelerators are asked on logging steps. `settle` asks now: nothing is saved before it.
    """

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self.runtime, self.folder, self.stop = runtime, folder, False
        self._at_once = runtime.device.type == "cpu" and runtime.ranks.size == 1
        self._open: tuple[int, Mapping[str, Tensor], Sequence[Batch], Tensor, torch.cuda.Event | None] | None = None

    def look(
        self, step: int, terms: Mapping[str, Tensor], watched: Sequence[str], batches: Sequence[Batch], stop: bool
    ) -> None:
        """Take in a step: raise RunError if one of the `watched` terms of it (or of the step before) is not finite."""
        if self._at_once:
            for name in watched:
                if not math.isfinite(terms[name].item()):
                    self._fail(step, terms, batches)
            return
        device = self.runtime.device.type
        before, event = self._open, None
        none = torch.zeros((), dtype=torch.int64, device=terms["loss"].device)
        bad = sum((~torch.isfinite(terms[name]) for name in watched), none)
        flags = torch.stack([bad, torch.full_like(bad, int(stop))])
        flags = self.runtime.ranks.total(flags)
        if device == "cuda":
            flags = torch.empty(2, dtype=torch.int64, pin_memory=True).copy_(flags, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._open = step, terms, batches, flags, event
        if device == "cpu":
            self.settle()
        elif device == "cuda" and before is not None:
            self._answer(before)

    def settle(self) -> None:
        """Wait for the answer of the last step taken in."""
        last, self._open = self._open, None
        if last is not None:
            self._answer(last)

    def _answer(
        self, taken: tuple[int, Mapping[str, Tensor], Sequence[Batch], Tensor, torch.cuda.Event | None]
    ) -> None:
        step, terms, batches, flags, event = taken
        if event is not None:
            event.synchronize()
        bad, stop = flags.tolist()
        self.stop = self.stop or stop > 0
        if bad:
            self._fail(step, terms, batches)

    def _fail(self, step: int, terms: Mapping[str, Tensor], batches: Sequence[Batch]) -> None:
        """Say which terms on which rank, which samples, and what is left; all processes get here together."""
        ranks, device = self.runtime.ranks, self.runtime.device
        table = ranks.gather(torch.stack([x.float() for x in terms.values()])[None]).tolist()
        ids = ranks.gather(torch.cat([batch.ids.to(device) for batch in batches])).tolist()
        odd = []
        for rank, row in enumerate(table):
            where = f" on rank {rank}" if ranks.size > 1 else ""
            odd += [f"{name} = {x}{where}" for name, x in zip(terms, row, strict=True) if not math.isfinite(x)]
        shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
        raise RunError(
            f"step {step}: not finite: {', '.join(odd)}. The batch held {len(ids)} samples with the ids {shown}. "
            f"{last_good(self.folder)} Lower optim.lr, bound the gradient with clip=1.0, or look at these samples"
        )


def last_good(folder: Path) -> str:
    """The sentence that names the newest checkpoint of a run folder."""
    steps = saved_steps(folder)
    if not steps:
        return "No checkpoint had been written."
    return f"The last good checkpoint is {place(folder, steps[0])}."
