"""Two steps of a recipe before a long run: does it run, how large is it, how long will it take."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit import recipes
from tacit.core.recipe import Checks, Machine, Recipe, digest
from tacit.runs.build import build
from tacit.training.hooks import Context
from tacit.training.loop import fit

__all__ = ["Check", "check"]

_STEPS = 3  # the first compiles kernels and fills caches; the others are timed


@dataclass(frozen=True)
class Check:
    """What two steps have shown. memory in bytes: of the device on CUDA, else the peak of the process. seconds: of one step."""

    digest: str
    device: str
    samples: int
    parameters: Mapping[str, int]
    epochs: float
    memory: int
    seconds: float
    estimate: float
    terms: Mapping[str, float]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        hours, rest = divmod(round(self.estimate), 3600)
        counted = ", ".join(f"{name} {number:,}" for name, number in self.parameters.items())
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        return "\n".join(
            (
                f"recipe      {self.digest}, {self.samples:,} samples, {self.epochs:.3g} epochs",
                f"parameters  {counted}",
                f"device      {self.device}, peak memory {self.memory / 2**30:.2f} GiB",
                f"a step      {self.seconds:.3g} s, the whole run about {hours} h {rest // 60} min {rest % 60} s",
                f"first terms {terms}",
            )
        )


class _Clock:
    """The time at the end of each step, and the terms of the first."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.terms: Mapping[str, float] = {}

    def __call__(self, step: int, terms: Mapping[str, Tensor], context: Context) -> None:
        if context.runtime.device.type == "cuda":
            torch.cuda.synchronize(context.runtime.device)
        if step == 1:
            self.terms = {name: float(term) for name, term in terms.items()}
        self.times.append(time.perf_counter())

    def close(self, status: str) -> None:
        """Nothing is held."""


def check(recipe: Recipe | str | Path, overrides: Iterable[str] = ()) -> Check:
    """Run a few steps of a recipe on its own data in a folder that is thrown away."""
    resolved = recipes.load(recipe, overrides)
    built = build(resolved)
    clock = _Clock()
    quick = resolved.change(
        steps=_STEPS,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(**{**vars(resolved.machine), "trackers": ()}),
    )
    with tempfile.TemporaryDirectory(prefix="tacit-check-") as folder:
        fit(quick, built.system, built.source, built.views, folder, hooks=[clock])
    seconds = (clock.times[-1] - clock.times[0]) / (len(clock.times) - 1)
    device = next(built.system.parameters()).device
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Check(
        digest=digest(resolved),
        device=str(device),
        samples=len(built.source),
        parameters={name: sum(p.numel() for p in child.parameters()) for name, child in built.system.named_children()},
        epochs=resolved.steps * resolved.batch / len(built.source),
        memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak,
        seconds=seconds,
        estimate=seconds * resolved.steps,
        terms=clock.terms,
    )
