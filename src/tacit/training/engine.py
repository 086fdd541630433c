"""Many independent jobs: sweeps, data generation, every model on every benchmark. Safe to kill and to start again.

A job is a name and arguments; its result is the small JSON file `folder/<name>.json`, written beside and renamed into
place by the process that carried it out. A start skips every job whose file holds the key of the same function and
arguments, and repeats the others. Engines: joblib's processes on this machine, or a cluster of Dask or Ray workers that
see the same folder under the same path. One call at a time works in a folder.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tacit.core.errors import RunError, need
from tacit.training.interrupts import interrupts_repeated

__all__ = ["Job", "Outcome", "run_jobs", "summary"]

_ENGINES = "'serial', 'local' (one process a core), 'local:2', 'dask://127.0.0.1:8786' or 'ray'"
_NAME = re.compile(r"\w[\w.=+@-]*")  # a file name on every system; no separators, no leading dot
_Engine = Callable[[list["_Task"]], Iterator["Outcome"]]


@dataclass(frozen=True)
class Job:
    """One shard of work. `name` becomes a file name; `arguments` are what JSON can hold, given to the function by keyword."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `value` if done now or earlier ('kept'), else one sentence in `error`; `seconds` of its work.

    'failed' raised an error, its traceback is in `folder/<name>.log`; 'killed' took its process down (out of memory,
    a crash in compiled code).
    """

    name: str
    state: Literal["done", "kept", "failed", "killed"]
    value: Any = None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Task:
    """All that a worker needs to carry out one job, by whatever engine."""

    function: Callable[..., Any]
    name: str
    arguments: dict[str, Any]
    key: str
    folder: Path

    @property
    def result(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def running(self) -> Path:
        """Exists while a process works on the job, and stays when that process dies."""
        return self.folder / f"{self.name}.running"

    def unshared(self) -> Outcome:
        error = (
            f"job {self.name!r}: the worker does not see the folder {self.folder}: workers need it under the same path, for "
            "example on a shared file system"
        )
        return Outcome(self.name, "failed", error=error)

    def killed(self) -> Outcome:
        self.running.unlink(missing_ok=True)
        error = (
            f"job {self.name!r} took its worker process down (out of memory, or a crash in compiled code): "
            "give it more memory or fewer neighbours, then start again"
        )
        return Outcome(self.name, "killed", error=error)


def run_jobs(
    function: Callable[..., Any],
    jobs: Sequence[Job],
    *,
    engine: str = "local",
    folder: str | Path,
    progress: Callable[[int, int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Call `function(**job.arguments)` for every job that has no result in `folder` yet; outcomes in the order of `jobs`.

    A job that fails or kills its process does not stop the others. `progress(finished, total, outcome)` is called in this
    process after each. KeyboardInterrupt stops the workers and leaves the finished results for the next start.
    """
    carry_out = _engine(engine)
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [_task(function, job, folder) for job in jobs]
    twice = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if twice:
        raise RunError(f"jobs: {twice[0]!r} names more than one job: every job needs a name of its own")
    found: dict[str, Outcome] = {}

    def note(outcome: Outcome) -> None:
        found[outcome.name] = outcome
        if progress is not None:
            progress(len(found), len(tasks), outcome)

    waiting = []
    for task in tasks:
        task.running.unlink(missing_ok=True)
        kept = _kept(task)
        if kept is None:
            waiting.append(task)
        else:
            note(kept)
    for outcome in carry_out(waiting) if waiting else ():
        note(outcome)
    return [found[task.name] for task in tasks]


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many jobs ended how, then one line for each that needs attention."""
    counts = Counter(outcome.state for outcome in outcomes)  # in the order of their first appearance
    head = f"{len(outcomes)} jobs: " + ", ".join(f"{count} {state}" for state, count in counts.items())
    return "\n".join([head, *(outcome.error for outcome in outcomes if outcome.error)])


def _task(function: Callable[..., Any], job: Job, folder: Path) -> _Task:
    if not inspect.isroutine(function):
        raise RunError(
            f"jobs call a function made by def, found {type(function).__name__}: what a partial or an object carries would "
            "not enter the jobs' keys; pass it as arguments"
        )
    if not _NAME.fullmatch(job.name):
        raise RunError(f"job name {job.name!r} cannot be a file name: use letters, digits and _ . = + @ -")
    arguments = dict(job.arguments)
    try:
        text = json.dumps([function.__module__, function.__qualname__, arguments], sort_keys=True)
    except TypeError as error:
        raise RunError(f"job {job.name!r}: arguments must be what JSON can hold; {error}") from error
    return _Task(function, job.name, arguments, hashlib.sha256(text.encode()).hexdigest()[:16], folder)


def _kept(task: _Task) -> Outcome | None:
    """The outcome of an earlier start with the same arguments, if there is one."""
    try:
        saved = json.loads(task.result.read_text(encoding="utf-8"))
        key, value, seconds = saved["key"], saved["value"], saved["seconds"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{task.result} is not the result of a job: move it away or choose another folder") from error
    return Outcome(task.name, "kept", value, seconds=seconds) if key == task.key else None


def _carry_out(task: _Task) -> Outcome:
    """Do one job in this process, write its result or its traceback, and tell how it went."""
    if not task.folder.is_dir():
        return task.unshared()
    kept = _kept(task)
    if kept is not None:  # done a moment ago by a process that died before it could say so
        return replace(kept, state="done")
    task.running.write_text(str(os.getpid()), encoding="utf-8")
    start = time.perf_counter()
    try:
        value = task.function(**task.arguments)
        seconds = round(time.perf_counter() - start, 3)
        saved = {"key": task.key, "arguments": task.arguments, "seconds": seconds, "value": value}
        text = json.dumps(saved, indent=1)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a job raises is its outcome, and the others go on
        task.log.write_text(traceback.format_exc(), encoding="utf-8")
        reason = " ".join(str(error).split()) or "no message"
        sentence = f"job {task.name!r} failed: {type(error).__name__}: {reason} (traceback in {task.log})"
        return Outcome(task.name, "failed", error=sentence, seconds=round(time.perf_counter() - start, 3))
    else:
        beside = task.folder / f".{task.name}.{os.getpid()}.tmp"
        beside.write_text(text, encoding="utf-8")
        beside.replace(task.result)
        task.log.unlink(missing_ok=True)
        return Outcome(task.name, "done", json.loads(text)["value"], seconds=seconds)
    finally:
        task.running.unlink(missing_ok=True)


def _engine(text: str) -> _Engine:
    """The engine that a text names."""
    name, _, rest = text.partition(":")
    if text == "serial":
        return lambda tasks: map(_carry_out, tasks)
    if text == "local" or (name == "local" and rest.isdecimal() and int(rest) > 0):
        return lambda tasks: _local(tasks, int(rest or 0))
    if name == "dask" and re.fullmatch(r"//[^/\s]+:\d+", rest):
        return lambda tasks: _dask(tasks, "tcp:" + rest)
    if text == "ray":
        return _ray
    raise RunError(f"engine {text!r} is none that jobs can run on: write {_ENGINES}")


def _local(tasks: list[_Task], workers: int) -> Iterator[Outcome]:
    """Processes of joblib; the machine's cores are shared out as threads.

    A process that dies takes joblib's whole pool down. The jobs that were under way are then repeated one by one: the one
    that dies alone as well is reported, its neighbours are not lost.
    """
    import joblib

    cores = joblib.cpu_count()
    workers = min(workers or cores, len(tasks))
    threads = max(1, cores // workers)
    waiting = {task.name: task for task in tasks}
    suspects: dict[str, _Task] = {}
    fruitless = 0
    while waiting or suspects:
        source = suspects or waiting
        size = 1 if suspects or workers == 1 else len(waiting)
        batch = list(source.values())[:size]
        processes = max(2, min(workers, size))  # for one, joblib would call the function in this process
        with joblib.parallel_config("loky", n_jobs=processes, inner_max_num_threads=threads):
            pool = joblib.Parallel(batch_size=1, return_as="generator_unordered")
            try:
                with interrupts_repeated():
                    for outcome in pool(joblib.delayed(_carry_out)(task) for task in batch):
                        del source[outcome.name]
                        yield outcome
            except BrokenProcessPool as error:
                begun = [task for task in batch if task.running.exists()]
                fruitless = 0 if begun else fruitless + 1
                if fruitless == 3:
                    raise RunError(f"the worker processes die before they begin a job: {error}") from error
                if begun and size == 1:
                    del source[batch[0].name]
                    yield batch[0].killed()
                else:
                    suspects.update((task.name, waiting.pop(task.name)) for task in begun)


def _dask(tasks: list[_Task], address: str, timeout: float = 10) -> Iterator[Outcome]:
    """A Dask cluster, one future a job; leaving, however that comes about, gives back what has not begun.

    Dask blames a dead worker on all that it held. The blamed jobs are therefore repeated one by one, as in `_local`.
    """
    distributed = need("distributed", "cluster", "the engine 'dask'")
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)
    except OSError as error:
        raise RunError(f"no Dask scheduler answers at {address}: start one with 'dask scheduler'") from error

    def results(batch: list[_Task]) -> Iterator[tuple[_Task, Outcome | None]]:
        futures = {client.submit(_carry_out, task, pure=False): task for task in batch}
        for future in distributed.as_completed(futures, loop=client.loop):
            task = futures[future]
            try:
                outcome = future.result()
            except distributed.KilledWorker:
                yield task, None
            else:
                yield task, outcome if outcome.state != "done" or task.result.exists() else task.unshared()

    with client:
        blamed = []
        for task, outcome in results(tasks):
            if outcome is None:
                blamed.append(task)
            else:
                yield outcome
        for task in blamed:
            for _, outcome in results([task]):
                yield outcome or task.killed()


def _ray(tasks: list[_Task]) -> Iterator[Outcome]:
    """The Ray cluster of RAY_ADDRESS, or one started on this machine; one core a job."""
    ray = need("ray", "ray", "the engine 'ray'")
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False)
    carry_out = ray.remote(max_retries=0)(_carry_out)
    pending = {carry_out.remote(task): task for task in tasks}
    try:
        while pending:
            (reference,), _ = ray.wait(list(pending), num_returns=1)
            task = pending.pop(reference)
            try:
                outcome = ray.get(reference)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                outcome = task.killed()
            yield outcome if outcome.state != "done" or task.result.exists() else task.unshared()
    finally:
        for reference in pending:
            with suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=True)
        if started:
            ray.shutdown()
