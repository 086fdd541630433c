"""The loop: the whole order of events of a run on one screen.

Steps are numbered by the updates made: step k is the k-th update, its progress is (k - 1) / steps, and after it the checkpoint
is steps/<k>, the metrics' rows say k, and hooks are called with k.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from tacit.core.protocols import Source, Views
from tacit.core.random import key, torch_seeds
from tacit.core.recipe import Recipe
from tacit.training.hooks import Hook
from tacit.training.optimizers import rate_at, set_decay, set_rate
from tacit.training.run import Run
from tacit.training.runtime import Runtime, enter_runtime

__all__ = ["Result", "fit"]

_SEEDS = 1024  # made at a time


@dataclass(frozen=True)
class Result:
    """How a run ended: 'finished', or 'stopped' by `reason` with everything saved, so that the next start goes on.

    step: updates made. values: the terms of the last logging step of this start.
    """

    status: Literal["finished", "stopped"]
    step: int
    folder: Path
    reason: str = ""
    values: Mapping[str, float] | None = None


def fit(
    recipe: Recipe,
    system: nn.Module,
    source: Source,
    views: Views,
    folder: str | Path,
    *,
    hooks: Sequence[Hook] = (),
    runtime: Runtime | None = None,
) -> Result:
    """Train `system` as the (resolved) recipe says, in the run folder `folder`; go on from its newest checkpoint if it has one.

    On one device and in float32 on the CPU, an interrupted run ends bit for bit as an uninterrupted one: weights, optimiser,
    averages, metrics. With `accumulate`, the losses and batch statistics are those of each micro-batch, and gradients are
    averaged. Raises RunError where the run cannot go on, CheckpointError where the folder cannot be used. The first Ctrl-C or
    SIGTERM finishes the running step, saves and returns 'stopped'; a further Ctrl-C aborts at once.
    """
    with contextlib.ExitStack() as stack:
        runtime = runtime or stack.enter_context(enter_runtime(recipe.machine))
        run = stack.enter_context(Run(recipe, system, source, views, Path(folder), tuple(hooks), runtime))
        batches_of = stack.enter_context(run.feed.steps(run.step, recipe.steps))
        seeds = _seeds(run.step, recipe.steps, runtime.ranks.rank, recipe.seed)
        for (step, batches), seed in zip(batches_of, seeds, strict=True):
            progress = step / recipe.steps
            rate = rate_at(run.optim, progress)
            set_rate(run.optimizer, rate)  # before the first update, also at step 0
            set_decay(run.optimizer, progress)
            runtime.seed(seed)  # dropout, masks: functions of (seed, step, rank)
            terms = run.gradients(batches, progress)  # named terms; forward and backward of every micro-batch; clipped
            run.look(terms, batches)  # a loss that is not finite ends the run here
            run.update()
            run.system.after_step(progress)  # averages and the like
            run.report(terms, rate)  # log, then hooks: each decides from the step alone
            stop = run.stopping
            if stop or run.saving:
                run.save()
            if stop:
                break
        return Result(*run.finish())


def _seeds(start: int, stop: int, rank: int, seed: int) -> Iterator[int]:
    """The seeds of the steps, many at a time: one by one in the loop they cost a small model half a per cent."""
    root = key(seed, "step")
    for first in range(start, stop, _SEEDS):
        steps = np.arange(first, min(first + _SEEDS, stop), dtype=np.uint64)
        yield from torch_seeds(steps, rank, after=root)
