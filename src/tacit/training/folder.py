"""The run folder: what a run writes beside its checkpoints, and who may write to it.

    runs/<name>/<time-id>/  recipe.yaml  machine.json  state.json  log.txt  lock  metrics.parquet  steps/00012000/

state.json: {"status", "step", "steps", "reason"}, status one of running, stopped, finished, failed. A folder that says
running while nobody holds its lock was killed; the next start goes on from its newest checkpoint.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import logging
import os
import platform
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

import tacit
from tacit.core.errors import CheckpointError, RunError
from tacit.core.recipe import Recipe, leaves, to_yaml
from tacit.core.spec import plain
from tacit.training.disk import write_json, write_text

__all__ = ["Folder", "new_folder"]

log = logging.getLogger(__name__)
Status = Literal["running", "stopped", "finished", "failed"]


def new_folder(root: str | Path, name: str) -> Path:
    """The path of a new run `root/name/<time-id>`; made on the disk when the run starts."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(root) / name / f"{now}-{secrets.token_hex(2)}"


class Folder:
    """One run folder, new or opened again. Only the leading process writes to it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextlib.contextmanager
    def held(self, recipe: Recipe) -> Iterator[Folder]:
        """Make the folder or open it again, and keep every other process out until the end."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise RunError(
                f"the run folder {self.path} cannot be written: {error.strerror}. Choose another folder or mend its permissions"
            ) from error
        with lock:
            self._take(lock)
            try:
                self._check_recipe(recipe)
                if not (self.path / "recipe.yaml").exists():
                    write_text(self.path / "recipe.yaml", to_yaml(recipe))
                self._note_machine()
            except OSError as error:
                raise RunError(f"the run folder {self.path} cannot be written: {error.strerror or error}") from error
            yield self

    def _take(self, lock: Any) -> None:
        """The kernel frees this lock when its process ends, however it ends: no stale lock survives a kill."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise RunError(
                f"the run folder {self.path} is in use by {holder}: wait for it, stop it, or give this run a folder of its own"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()

    def _check_recipe(self, recipe: Recipe) -> None:
        """Refuse to go on in the folder of another experiment. `machine` and `checks` may change between starts."""
        path = self.path / "recipe.yaml"
        if not path.exists():
            return
        try:
            earlier = leaves(yaml.safe_load(path.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            raise CheckpointError(f"{path} is not valid YAML: restore it, or start in a new folder") from error
        now = leaves(plain(recipe))
        free = ("machine.", "checks.")
        odd = [p for p in sorted({*earlier, *now}) if earlier.get(p) != now.get(p) and not p.startswith(free)]
        if odd:
            listed = "; ".join(f"{p}: there {earlier.get(p)!r}, now {now.get(p)!r}" for p in odd[:5])
            more = f"; and {len(odd) - 5} more" if len(odd) > 5 else ""
            raise CheckpointError(
                f"the run folder {self.path} belongs to another recipe ({listed}{more}): go on with its own recipe.yaml, or "
                "start in a new folder"
            )

    def _note_machine(self) -> None:
        """Add this start to machine.json: one entry a start."""
        path = self.path / "machine.json"
        starts = json.loads(path.read_text(encoding="utf-8"))["starts"] if path.exists() else []
        write_json(path, {"starts": [*starts, _machine()]})

    def free(self) -> bool:
        """Whether no process holds this folder now."""
        path = self.path / "lock"
        if not path.exists():
            return True
        with path.open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        return True

    def state(self) -> dict[str, Any]:
        """What state.json says, or {} before the first start."""
        path = self.path / "state.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def set_state(self, status: Status, step: int, steps: int, reason: str = "") -> None:
        """Replace state.json. `step` counts the updates made."""
        write_json(self.path / "state.json", {"status": status, "step": step, "steps": steps, "reason": reason})

    def note(self, text: str, level: int = logging.INFO) -> None:
        """Add a line to log.txt, and say it to the logger of this module. A full disk does not stop a note."""
        log.log(level, text)
        stamp = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        with contextlib.suppress(OSError), (self.path / "log.txt").open("a", encoding="utf-8") as out:
            out.write(f"{stamp} {logging.getLevelName(level).lower()}: {text}\n")


def _machine() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "tacit": tacit.__version__,
        "git": _git(Path(tacit.__file__).parent),
    }
    if torch.cuda.is_available():
        facts["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def _git(where: Path) -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout that tacit runs from, or None for an installed package."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", where, *words], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = ask("ls-files", "__init__.py")  # a package installed inside somebody's checkout is not part of it
    commit = ask("rev-parse", "HEAD") if tracked else None
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain", "-uno"))} if commit else None
