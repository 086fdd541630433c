"""Hooks: what happens beside the steps. A hook is called after every update and decides from the step alone what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from tacit.core.protocols import Source, Views
from tacit.core.recipe import Recipe
from tacit.training.runtime import Runtime

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Context", "Hook", "Progress", "ProgressHook", "names_of"]


class Context:
    """What a hook may see of the run. One object for the whole run; `step`, `rate`, `logging` and `values` change.

    step:     updates made, 1 after the first; steps: of the whole run. A hook that fires at step % n == 0 fires the same
              in an interrupted run.
    logging:  whether this is a logging step; then `values` holds the terms as floats, means over the ranks (else it is empty).
    system:   the nn.Module itself, in training mode: a hook that changes the mode puts it back.
    """

    def __init__(
        self, recipe: Recipe, system: nn.Module, source: Source, views: Views, folder: Path, runtime: Runtime,
        log: Callable[[int, str, float], None],
    ) -> None:  # fmt: skip
        self.recipe, self.system, self.source, self.views = recipe, system, source, views
        self.folder, self.runtime, self.steps = folder, runtime, recipe.steps
        self.step, self.rate, self.logging = 0, 0.0, False
        self.values: Mapping[str, float] = {}
        self._log = log

    @property
    def last(self) -> bool:
        """Whether this was the last step of the run."""
        return self.step == self.steps

    def log(self, name: str, value: float) -> None:
        """Add a row (step, name, value) to metrics.parquet; the leading process's value counts."""
        self._log(self.step, name, value)


class Hook(Protocol):
    """Called after every update, in every process. May also have `state_dict` and `load_state_dict`, then it is saved with
    the run under `name` (the class's name if it has none); the state holds what checkpoints can hold: tensors, arrays, scalars,
    text, in lists and dicts."""

    def __call__(self, step: int, terms: Mapping[str, Tensor], context: Context) -> None:
        """`terms`: the loss's terms, detached scalars on the device; reading one waits for the device."""
        ...

    def close(self, status: str) -> None:
        """The run is over: 'finished', 'stopped' or 'failed'."""
        ...


def names_of(hooks: tuple[Hook, ...]) -> dict[str, Hook]:
    """The hooks by the name under which their state is saved; a second one of a name gets '-2' and so on."""
    named: dict[str, Hook] = {}
    for hook in hooks:
        name = str(getattr(hook, "name", type(hook).__name__))
        count = sum(key == name or key.startswith(f"{name}-") for key in named)
        named[f"{name}-{count + 1}" if count else name] = hook
    return named


class Progress:
    """How fast a run goes: updates per second since the last reading, images per second, seconds left."""

    def __init__(self, steps: int, batch: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.batch, self.clock = steps, batch, clock
        self.step, self.rate = 0, float("nan")
        self._at: tuple[int, float] | None = None

    def read(self, step: int) -> None:
        """Take the time at `step`; the first reading starts the clock."""
        now = self.clock()
        if self._at is not None and step > self._at[0]:
            self.rate = (step - self._at[0]) / max(now - self._at[1], 1e-9)
        self.step, self._at = step, (step, now)

    @property
    def images(self) -> float:
        """Images per second, NaN before the second reading."""
        return self.rate * self.batch

    @property
    def left(self) -> float:
        """Seconds to the last step, NaN before the second reading."""
        return (self.steps - self.step) / self.rate

    def line(self, values: Mapping[str, float]) -> str:
        """One line of plain text."""
        parts = [f"step {self.step}/{self.steps}", *(f"{name} {value:.4g}" for name, value in values.items())]
        if self.rate == self.rate:
            parts += [f"{self.rate:.3g} steps/s", f"{self.images:.3g} images/s", f"{_duration(self.left)} left"]
        return "  ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class ProgressHook:
    """Says how far the run is: a live line on a rich console, or a line of text at every logging step through `write`.

    Only the leading process speaks.
    """

    def __init__(self, *, console: Console | None = None, write: Callable[[str], None] = print) -> None:
        self.console, self.write = console, write
        self._progress: Progress | None = None
        self._bar: Any = None

    def __call__(self, step: int, terms: Mapping[str, Tensor], context: Context) -> None:  # noqa: ARG002
        """Measure and speak on logging steps."""
        if not context.runtime.leads:
            return
        if self._progress is None:
            self._progress = Progress(context.steps, context.recipe.batch)
            self._progress.read(step)
        if not context.logging:
            return
        self._progress.read(step)
        line = self._progress.line(context.values)
        if self.console is None:
            self.write(line)
        else:
            self._show(step, context.steps, line)

    def _show(self, step: int, steps: int, line: str) -> None:
        if self._bar is None:
            from rich import progress as rich_progress

            columns = rich_progress.BarColumn(bar_width=20), rich_progress.TextColumn("{task.description}")
            self._bar = rich_progress.Progress(*columns, console=self.console)
            self._bar.start()
            self._task = self._bar.add_task(line, total=steps)
        self._bar.update(self._task, completed=step, description=line)

    def close(self, status: str) -> None:  # noqa: ARG002
        """Leave the console as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
