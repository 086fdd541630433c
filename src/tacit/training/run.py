"""One start of a run: everything the loop holds in its hands, made or loaded, and put back in order at the end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tacit.core.errors import CheckpointError, RunError
from tacit.core.protocols import Source, Views
from tacit.core.recipe import Recipe
from tacit.core.values import Batch
from tacit.training import checkpoint, state
from tacit.training.feed import Feed, Plan
from tacit.training.folder import Folder
from tacit.training.hooks import Context, Hook, names_of
from tacit.training.metrics import Metrics
from tacit.training.runtime import Runtime
from tacit.training.stopping import StopSignals, Watch, last_good

__all__ = ["Run"]


class Run:
    """Entering opens the folder, lays the system over the processes, builds the optimiser and loads the newest checkpoint."""

    def __init__(
        self, recipe: Recipe, system: nn.Module, source: Source, views: Views, folder: Path, hooks: tuple[Hook, ...],
        runtime: Runtime,
    ) -> None:  # fmt: skip
        self.recipe, self.runtime, self.folder = recipe, runtime, Folder(folder)
        self.system: Any = system
        self.hooks, self.step, self.saved = names_of(hooks), 0, -1
        self.values: Mapping[str, float] = {}
        self.context = Context(recipe, system, source, views, folder, runtime, self._log)
        ranks = runtime.ranks
        plan = Plan(
            len(source),
            seed=recipe.seed,
            batch=recipe.batch,
            accumulate=recipe.accumulate,
            rank=ranks.rank,
            size=ranks.size,
        )
        self.feed = Feed(source, views, plan, device=runtime.device, workers=recipe.machine.workers)
        self.signals, self.watch = StopSignals(), Watch(runtime, folder)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Run:
        with contextlib.ExitStack() as stack:

            def hold() -> int:
                stack.enter_context(self.folder.held(self.recipe))
                return 0

            self.runtime.by_leader(hold)
            stack.push(self._close)
            self._build()
            self._resume()
            if self.runtime.leads:
                self.metrics = Metrics(self.folder.path, self.step)
                self.folder.set_state("running", self.step, self.recipe.steps)
                self.folder.note(f"starts at step {self.step} of {self.recipe.steps} on {self._where()}")
            stack.enter_context(self.runtime.generators_kept())
            stack.enter_context(self.signals)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _build(self) -> None:
        self.call = self.runtime.lay_out(self.system)
        self.system.train()
        self.optim = self.recipe.optim.build()
        self.optimizer: torch.optim.Optimizer = self.optim.build(self.system.groups())
        self.learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scaler = self.runtime.scaler()
        self.alone = self.runtime.ranks.size == 1
        self.plain = self.alone and self.recipe.machine.precision == "fp32"  # no context around a forward pass
        clipped = (
            self.recipe.clip is not None and not self.scaler
        )  # a scaler finds its scale by gradients that overflow
        self.watched = ("loss", "gradient_norm") if clipped else ("loss",)

    # the step

    def gradients(self, batches: Sequence[Batch], progress: float) -> dict[str, Tensor]:
        """Forward and backward of every micro-batch; the terms averaged over them, detached, with the gradient's norm if clipped."""
        count = len(batches)
        sums: dict[str, Tensor] = {}
        for i, batch in enumerate(batches):
            if self.plain:
                found = self._pass(batch, progress, count)
            else:
                with self.runtime.accumulating(self.call, last=i == count - 1):
                    found = self._pass(batch, progress, count)
            for name, term in found.items():
                part = term.detach() / count if count > 1 else term.detach()
                sums[name] = sums[name] + part if name in sums else part
        if self.recipe.clip is not None:
            if self.scaler:
                self.scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.learning, self.recipe.clip)
            sums["gradient_norm"] = checkpoint.whole(norm)
        return sums

    def _pass(self, batch: Batch, progress: float, count: int) -> dict[str, Tensor]:
        """Forward and backward of one of `count` micro-batches."""
        if self.plain:
            found = self.call(batch, progress, self.runtime.ranks)
        else:
            with self.runtime.autocast():
                found = self.call(batch, progress, self.runtime.ranks)
        if "loss" not in found:
            raise RunError(
                f"the system's loss returned the terms {', '.join(found) or '(none)'}: 'loss' must be among them"
            )
        loss = found["loss"] / count if count > 1 else found["loss"]
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        return found

    def look(self, terms: Mapping[str, Tensor], batches: Sequence[Batch]) -> None:
        """Stop the run here if this step's loss (or, on CUDA, the last one's) is not finite."""
        self.watch.look(self.step + 1, terms, self.watched, batches, bool(self.signals.reason))

    def update(self) -> None:
        """Move the weights; counts the step."""
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        for p in self.learning:  # as zero_grad does, whose bookkeeping costs a small model three per cent
            p.grad = None
        self.step += 1

    def report(self, terms: Mapping[str, Tensor], rate: float) -> None:
        """On logging steps read the terms and write them down; then call every hook."""
        context, step = self.context, self.step
        context.step, context.rate, context.values = step, rate, {}
        context.logging = step % self.recipe.checks.log_every == 0 or step == 1 or step == self.recipe.steps
        if context.logging:
            self.watch.settle()
            context.values = self.values = self._read(terms)
            for name, value in (*self.values.items(), ("rate", rate)):
                context.log(name, value)
            if self.runtime.leads:
                self._write_metrics(now=False)
        for hook in self.hooks.values():
            hook(step, terms, context)

    def _read(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """The terms as floats, means over the ranks."""
        if self.alone and self.runtime.device.type == "cpu":
            return {name: term.item() for name, term in terms.items()}
        table = torch.stack([term.float() for term in terms.values()])  # one transfer for all
        if self.runtime.ranks.size > 1:
            table = self.runtime.ranks.total(table) / self.runtime.ranks.size
        return dict(zip(terms, table.tolist(), strict=True))

    def _log(self, step: int, name: str, value: float) -> None:
        if self.runtime.leads:
            self.metrics.add(step, name, value)

    def _write_metrics(self, *, now: bool) -> int:
        try:
            self.metrics.write(now=now)
            return 0
        except OSError as error:
            raise RunError(
                f"step {self.step}: {self.metrics.path} could not be written: {error.strerror or error}. {self._way_out()}"
            ) from error

    # saving and going on

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is due after this step."""
        every = self.recipe.checks.save_every
        return (every > 0 and self.step % every == 0) or self.step == self.recipe.steps

    @property
    def stopping(self) -> bool:
        """Whether all processes have agreed to stop here."""
        return bool(self.signals.reason if self.alone else self.watch.stop) and self.step < self.recipe.steps

    def save(self) -> None:
        """Write a checkpoint, metrics first, so that no checkpoint knows of rows that are not on the disk."""
        self.watch.settle()
        state.check_finite(self.system, self.step, last_good(self.folder.path), self.runtime.ranks)
        self.runtime.by_leader(lambda: self._write_metrics(now=True))
        try:
            checkpoint.write(self.folder.path, self.step, self._state(), self.runtime)
        except RunError as error:
            if self.runtime.leads:
                raise RunError(f"{error}. {self._way_out()}") from error
            raise

        def tidy() -> int:
            try:
                checkpoint.prune(self.folder.path, self.recipe.checks.keep)
                self.folder.set_state("running", self.step, self.recipe.steps)
            except OSError as error:
                raise RunError(
                    f"step {self.step}: {self.folder.path} could not be written: {error.strerror or error}. {self._way_out()}"
                ) from error
            return 0

        self.runtime.by_leader(tidy)
        self.saved = self.step

    def _state(self) -> dict[str, Any]:
        hooks = {name: hook.state_dict() for name, hook in self.hooks.items() if hasattr(hook, "state_dict")}
        return {
            "system": self.system.state_dict(),
            "optimizer": state.of_optimizer(self.optimizer, self.system),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "hooks": checkpoint.whole(hooks),
            "run": self._position() if self.runtime.leads else None,
        }

    def _position(self) -> dict[str, int]:
        return {"step": self.step, "samples": self.step * self.recipe.batch, "metrics": len(self.metrics)}

    def _resume(self) -> None:
        """Load the newest checkpoint that can be read; one that cannot is named in a warning and set aside."""
        like = state.layout(self.system) if self.runtime.sharded else None
        faults: list[tuple[Path, CheckpointError]] = []

        def next_newest() -> int:
            steps = checkpoint.saved_steps(self.folder.path)
            return steps[len(faults)] if len(faults) < len(steps) else 0

        while step := self.runtime.by_leader(next_newest):
            path = checkpoint.place(self.folder.path, step)
            try:
                found = checkpoint.read(path, like, self.runtime)
                break
            except CheckpointError as error:
                faults.append((path, error))
        else:
            if faults:
                raise CheckpointError(
                    f"no checkpoint of {self.folder.path} can be read: {'; '.join(str(fault) for _, fault in faults)}. Restore "
                    "one, or start in a new folder"
                )
            return
        self.runtime.by_leader(lambda: self._set_aside(faults, step))
        state.load_system(self.system, found["system"], path)
        state.load_optimizer(self.optimizer, self.system, found["optimizer"], path)
        if self.scaler and found["scaler"]:
            self.scaler.load_state_dict(found["scaler"])
        for name, hook in self.hooks.items():
            if name in found["hooks"] and hasattr(hook, "load_state_dict"):
                hook.load_state_dict(found["hooks"][name])
        self.step = self.saved = step

    def _set_aside(self, faults: Sequence[tuple[Path, CheckpointError]], step: int) -> int:
        for bad, fault in faults:
            aside = checkpoint.set_aside(bad)
            self.folder.note(f"{fault}. It is now {aside.name}; going on from step {step}", logging.WARNING)
        return 0

    # the end

    def finish(self) -> tuple[Literal["finished", "stopped"], int, Path, str, Mapping[str, float]]:
        """Save what is not saved yet and say how the run ended."""
        if self.saved != self.step:
            self.save()
        status: Literal["finished", "stopped"] = "finished" if self.step == self.recipe.steps else "stopped"
        reason = (self.signals.reason or "a signal to another process") if status == "stopped" else ""
        self._name_replaced()
        if self.runtime.leads:
            self._write_metrics(now=True)
            self._say(status, reason)
        return status, self.step, self.folder.path, reason, self.values

    def _name_replaced(self) -> None:
        """Count the samples that could not be read and had others in their place, and name the first of this process."""
        if not getattr(self.context.source, "replacing", False):
            return
        mine = sorted(self.feed.replaced)
        count = int(self.runtime.ranks.total(torch.tensor(float(len(mine)), device=self.runtime.device)))
        if count and self.runtime.leads:
            names = ", ".join(self.context.source.name(i) for i in mine[:5])  # type: ignore[attr-defined]
            self._log(self.step, "unreadable", count)
            self.folder.note(
                f"{count} of {len(self.context.source)} samples could not be read, others stood in for them: {names}"
                + (", ..." if count > 5 else ""),
                logging.WARNING,
            )

    def _say(self, status: Literal["stopped", "finished", "failed"], reason: str) -> None:
        self.folder.note(f"{status} at step {self.step} of {self.recipe.steps}" + (f": {reason}" if reason else ""))
        self.folder.set_state(status, self.step, self.recipe.steps, reason)
        self._said = True

    _said = False

    def _close(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Whatever has happened: hooks are closed, and state.json says how it ended."""
        aborted = isinstance(error, KeyboardInterrupt)
        status = (
            "failed"
            if error is not None and not aborted
            else "finished"
            if self.step == self.recipe.steps
            else "stopped"
        )
        if error is not None and self.runtime.leads:
            reason = "aborted by a further Ctrl-C" if aborted else str(error) or type(error).__name__
            self.step = max(self.saved, 0)  # what a next start goes on from
            with contextlib.suppress(OSError):  # the disk may be what failed; the error goes on to the caller
                self._say("stopped" if aborted else "failed", reason)
        for hook in self.hooks.values():
            hook.close(status)

    def _way_out(self) -> str:
        return f"{last_good(self.folder.path)} Make room and start the run again: it goes on from there"

    def _where(self) -> str:
        size = self.runtime.ranks.size
        return f"{self.runtime.device}" + (f", {size} processes ({self.recipe.machine.sharding})" if size > 1 else "")
