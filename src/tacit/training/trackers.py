"""Trackers: where a run's numbers go beside its own metrics file. TensorBoard by default; wandb and trackio as extras.

A tracker is opened on rank 0 alone. A run that resumes goes on in the same curve: the ids that the services know it by
stay in `folder/trackers.json`. Nothing here needs a network or asks a question: wandb keeps its files in the run folder
(`wandb sync` uploads them later) unless WANDB_MODE or WANDB_API_KEY says otherwise, trackio writes to its local store.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tacit.core.errors import RunError, UnknownNameError, need, unknown

__all__ = ["TensorBoard", "Tracker", "Trackio", "Wandb", "open_trackers"]

_PROJECT = "tacit"


class Tracker(Protocol):
    """A sink of metrics."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the named values of one step; every number is a plain float, already on the host."""
        ...

    def close(self, status: str) -> None:
        """Write what is left; `status` is 'done', or how else the run ended. Nothing is logged afterwards."""
        ...


class TensorBoard:
    """Event files in `folder/tensorboard`. A resume at `step` hides what an earlier start had logged from there on."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any], name: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        if step == 0:
            text = "\n".join("    " + line for line in json.dumps(recipe, indent=2, default=str).splitlines())
            self._writer.add_text(f"recipe of {name}", text, 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the named values of one step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: str) -> None:
        """Write what is left and how the run ended."""
        self._writer.add_text("status", status)
        self._writer.close()


class Wandb:
    """A Weights & Biases run. The x-axis is the value 'step', because wandb's own counter cannot step back to a checkpoint."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any], name: str, step: int) -> None:
        wandb = need("wandb", "trackers", "the tracker 'wandb'")
        keyed = bool(os.environ.get("WANDB_API_KEY"))
        mode = os.environ.get("WANDB_MODE") or ("online" if keyed else "offline")
        if mode in ("online", "run", "shared") and not keyed and not wandb.login(prompt=False, verify=False):
            raise RunError(
                f"WANDB_MODE is {mode!r} but no wandb key is set: run 'wandb login', set WANDB_API_KEY, or WANDB_MODE=offline"
            )
        (folder / "wandb").mkdir(parents=True, exist_ok=True)  # else wandb moves to the temporary folder
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=name,
            id=_remembered(folder, "wandb", step, lambda: secrets.token_hex(4)),
            dir=str(folder),
            config=dict(recipe),
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the named values of one step."""
        self._run.log({**values, "step": step})

    def close(self, status: str) -> None:
        """Write what is left and mark the run as finished or failed."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "done" else 1)


class Trackio:
    """A trackio run in the local store (TRACKIO_DIR, else the Hugging Face cache); `trackio show` opens it.

    It appends only: the steps between a checkpoint and the end of a killed run are there twice.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], name: str, step: int) -> None:
        trackio = need("trackio", "trackers", "the tracker 'trackio'")
        with contextlib.redirect_stdout(sys.stderr):  # it prints; standard output belongs to the caller's results
            self._finish = trackio.finish
            self._run = trackio.init(
                project=_PROJECT,
                name=_remembered(folder, "trackio", step, lambda: f"{name}-{secrets.token_hex(2)}"),
                config=dict(recipe),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the named values of one step."""
        self._run.log(dict(values), step=step)

    def close(self, status: str) -> None:
        """Write what is left; trackio has no place for `status` but a value."""
        self._run.log({"finished": float(status == "done")})
        with contextlib.redirect_stdout(sys.stderr):
            self._finish()  # the module's, not the run's: that one would print again when the process ends


_KINDS: dict[str, Callable[[Path, Mapping[str, Any], str, int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


def open_trackers(
    names: Sequence[str], folder: str | Path, recipe: Mapping[str, Any], *, step: int = 0
) -> list[Tracker]:
    """Open the named trackers for the run in `folder`, whose plain recipe is shown with it; `step` > 0 resumes there.

    A tracker whose package is missing, or whose name is unknown, is refused before any is opened.
    """
    folder = Path(folder)
    for name in names:
        if name not in _KINDS:
            raise UnknownNameError(unknown("tracker", name, _KINDS))
        if name != "tensorboard":
            need(name, "trackers", f"the tracker {name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    title = "/".join(folder.resolve().parts[-2:]).lstrip("/")
    return [_KINDS[name](folder, recipe, title, step) for name in names]


def _remembered(folder: Path, tracker: str, step: int, make: Callable[[], str]) -> str:
    """The id under which a tracker knows the run: made once, kept in trackers.json, and made anew by a run that starts over."""
    path = folder / "trackers.json"
    ids: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if tracker not in ids or step == 0:
        ids[tracker] = make()
        beside = path.with_name(".trackers.json.tmp")
        beside.write_text(json.dumps(ids, indent=1), encoding="utf-8")
        beside.replace(path)
    return ids[tracker]
