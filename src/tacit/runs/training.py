"""Train a recipe: find or make its run folder, train in one or several processes, export, judge, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tacit import recipes
from tacit.core import parts
from tacit.core.errors import RecipeError, RunError
from tacit.core.recipe import Recipe, digest, from_yaml, to_yaml
from tacit.core.spec import plain
from tacit.runs.build import build, embeds, export, restore
from tacit.runs.hooks import ExportHook, JudgeHook, TrackerHook
from tacit.runs.judging import judge_run
from tacit.runs.online import OnlineProbe
from tacit.runs.reporting import report
from tacit.training import checkpoint
from tacit.training.feed import check_split
from tacit.training.folder import Folder, new_folder
from tacit.training.hooks import ProgressHook
from tacit.training.launch import launch
from tacit.training.loop import fit
from tacit.training.runtime import enter_runtime
from tacit.training.trackers import open_trackers

__all__ = ["Run", "train"]


@dataclass(frozen=True)
class Run:
    """How a run ended and where its things lie. status: 'finished', or 'stopped' with everything saved."""

    folder: Path
    status: str
    step: int
    steps: int
    reason: str = ""
    report: Path | None = None

    @property
    def encoder(self) -> Path | None:
        """The exported encoder of a finished run that has one."""
        path = self.folder / "export" / "encoder"
        return path if self.status == "finished" and path.is_dir() else None

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "status": self.status,
            "step": self.step,
            "steps": self.steps,
            "reason": self.reason,
            "report": str(self.report) if self.report else None,
            "encoder": str(self.encoder) if self.encoder else None,
        }

    def text(self) -> str:
        """For people."""
        if self.status != "finished":
            return (
                f"stopped at step {self.step} of {self.steps} ({self.reason}), everything is saved in {self.folder}\n"
                f"go on with: tacit train {self.folder}"
            )
        first = f'encoder: tacit.load("{self.encoder}")' if self.encoder else f"run:     {self.folder}"
        return f"{first}\nreport:  {self.report}"


def train(
    recipe: Recipe | str | Path,
    overrides: Iterable[str] = (),
    *,
    name: str | None = None,
    root: str | Path = "runs",
    new: bool = False,
    devices: int | str = 1,
    modules: Sequence[str] = (),
    quiet: bool = False,
) -> Run:
    """Train `recipe` (a value, a shipped name, a YAML file or a run folder to continue) and leave a complete run folder.

    An unfinished run of the same experiment under `root/name` is continued unless `new`. `devices`: processes on this
    machine, each with an equal share of the batch, or 'auto'. `modules` are imported in every process: they declare parts.
    """
    folder, resolved = _place(recipe, overrides, name, Path(root), new)
    count: Any = devices if devices == "auto" else _whole(devices)
    if count != "auto":
        check_split(resolved.batch, resolved.accumulate, count)  # before processes are started
    kind: Any = resolved.machine.device.partition(":")[0]
    try:
        ended = launch(count, _train_here, to_yaml(resolved), str(folder), tuple(modules), quiet, device=kind)
    except (RunError, KeyboardInterrupt):  # how the launcher reports a signal, also when all ranks have saved and left
        ended = Folder(folder).state()
        if ended.get("status") != "stopped":
            raise
    if ended["status"] != "finished":
        return Run(folder, ended["status"], ended["step"], resolved.steps, ended["reason"])
    built = restore(folder)
    export(built, folder)
    if embeds(built.system):
        if not quiet:
            print("trained and saved; judging without labels, then the report", file=sys.stderr, flush=True)
        judge_run(folder)
    return Run(folder, "finished", ended["step"], resolved.steps, report=report(folder))


def _whole(devices: int | str) -> int:
    try:
        number = int(devices)
    except ValueError:
        number = 0
    if number < 1:
        raise RecipeError(f"--devices {devices}: needs a whole number from 1, or auto")
    return number


def _place(
    recipe: Recipe | str | Path, overrides: Iterable[str], name: str | None, root: Path, new: bool
) -> tuple[Path, Recipe]:
    """The folder to train in and the resolved recipe."""
    if isinstance(recipe, str | Path) and (Path(recipe) / "recipe.yaml").is_file():
        return Path(recipe), recipes.load(recipe, overrides)
    resolved = recipes.load(recipe, overrides)
    name = name or ("run" if isinstance(recipe, Recipe) else str(recipe).removesuffix(".yaml").rpartition("/")[2])
    if not new:
        for folder in sorted((root / name).glob("*/recipe.yaml"), reverse=True):
            if _unfinished(folder.parent, resolved):
                return folder.parent, resolved
    return new_folder(root, name), resolved


def _unfinished(folder: Path, recipe: Recipe) -> bool:
    """Whether this folder holds a stopped or killed run of the same experiment that no process works on."""
    place = Folder(folder)
    try:
        same = digest(from_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"))) == digest(recipe)
    except RecipeError:
        return False  # of another version of tacit: leave it alone
    return same and place.state().get("status") != "finished" and place.free()


def _train_here(text: str, folder: str, modules: Sequence[str], quiet: bool) -> dict[str, Any]:
    """What each process does: the recipe as text, so that every process builds the same objects."""
    for module in modules:
        parts.use_module(module)
    recipe = from_yaml(text)
    with enter_runtime(recipe.machine) as runtime:
        built = build(recipe)
        judged = [JudgeHook(built)] if embeds(built.system) else []
        online = [OnlineProbe(built)] if recipe.checks.probe else []
        hooks: list[Any] = [*judged, *online, ExportHook(built)]
        if runtime.leads:
            done = max(checkpoint.saved_steps(Path(folder)), default=0)
            if not quiet:
                hooks.append(ProgressHook(console=_console()))
            hooks.append(TrackerHook(open_trackers(recipe.machine.trackers, folder, plain(recipe), step=done)))
        ended = fit(recipe, built.system, built.source, built.views, folder, hooks=hooks, runtime=runtime)
    return json.loads(json.dumps({"status": ended.status, "step": ended.step, "reason": ended.reason}))  # type: ignore[no-any-return]


def _console() -> Any:
    """A live line on a terminal; None where lines of text are better (a file, a scheduler's log)."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal else None
