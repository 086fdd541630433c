"""One process a device on this machine, through torch's elastic launcher; several machines through torchrun.

    launch(4, "my.module:train", recipe)                                   # here: four processes, rank 0's result comes back
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m tacit train ...

The second line needs nothing from this file: the runtime reads RANK, WORLD_SIZE and the rest from the environment, and
`launch` finds them set and calls the function in place, once in each process that torchrun (or srun) started.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from tacit.core.errors import RunError, TacitError

__all__ = ["launch"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def launch(
    devices: int | Literal["auto"],
    entry: Callable[..., Any] | str,
    *args: Any,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Any:
    """Call `entry(*args)` in one process a device and return what rank 0 returned.

    `entry` is a function that other processes can import, or its name 'module:function'; `devices='auto'` takes every
    CUDA device, else one process. One device runs in this process. A rank that fails stops the others and is named.
    SIGTERM and SIGINT are handed on to the ranks, which have 30 seconds to save and leave; a rank must stand a second one,
    since a terminal sends SIGINT to everyone.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        started = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
        if devices != "auto" and started and devices != started:
            raise RunError(
                f"{devices} devices were asked for, but torchrun started {started} processes here: leave it 'auto'"
            )
        return _resolve(entry)(*args)
    count = _count(devices, device)
    if count == 1:
        return _resolve(entry)(*args)
    if callable(entry) and "<" in getattr(entry, "__qualname__", "<"):
        raise RunError(f"{entry!r} cannot be called in other processes: give a function defined at the top of a module")
    with tempfile.TemporaryDirectory(prefix="tacit-launch-") as folder:
        return _elastic(count, entry, args, Path(folder))


def _elastic(count: int, entry: Callable[..., Any] | str, args: tuple[Any, ...], folder: Path) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",  # port 0: the system picks a free one
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    try:
        with _handlers_kept(), _traces_hidden():
            results = elastic_launch(config, _rank)(entry, args, str(folder))
    except ChildFailedError as error:
        raise RunError(_reason(error, count, folder)) from error
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from error
        raise RunError(f"stopped by {error.sigval.name}, which was handed on to the {count} ranks") from error
    return results[0]


@contextlib.contextmanager
def _traces_hidden() -> Iterator[None]:
    """Quiet the two loggers of torch that show the trace of what is said in a sentence."""
    loggers = [
        logging.getLogger(f"torch.{name}")
        for name in ("multiprocessing.spawn", "distributed.elastic.multiprocessing.api")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _rank(entry: Callable[..., Any] | str, args: tuple[Any, ...], folder: str) -> Any:
    """What each process does; torch's `record` is around it already."""
    rank = int(os.environ["RANK"])
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"])))
    with _received() as received:
        try:
            result = _resolve(entry)(*args)
        except (Exception, SystemExit) as error:
            if not received():
                if isinstance(error, SystemExit):
                    reason = f"left with exit code {error.code} before it returned"
                else:
                    reason = f"failed: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
                if not isinstance(error, TacitError | OSError | SystemExit):  # nothing that was foreseen
                    traceback.print_exc()
                note = json.dumps({"time": time.time(), "rank": rank, "reason": reason})
                Path(folder, f"error-{rank}.json").write_text(note, encoding="utf-8")
                time.sleep(1.0)  # if this is the echo of a rank that was killed, let the launcher see that one first
            raise
        stopped = received()
    if stopped:  # it saved and came back: the launcher waits for the process to end, not for a result
        sys.exit(128 + stopped)
    return result if rank == 0 else None


def _reason(error: Any, count: int, folder: Path) -> str:
    """The sentence of the rank that failed first: the others fail soon after, because they miss it."""
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        return f"rank {rank} of {count} was killed by {failure.signal_name()}" + (
            " (out of memory?)" if failure.signal_name() == "SIGKILL" else ""
        )
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("error-*.json")]
    if not notes:  # os._exit, or a crash before the function was called
        return f"rank {rank} of {count} left with exit code {failure.exitcode} before it returned"
    first = min(notes, key=lambda note: note["time"])
    return f"rank {first['rank']} of {count} {first['reason']}"


def _count(devices: int | str, device: str) -> int:
    """How many processes to start."""
    found = torch.cuda.device_count() if device != "cpu" else 0
    if devices == "auto":
        devices = max(1, found)
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise RunError(f"devices={devices!r}: give a number of at least 1, or 'auto'")
    if devices > found and (device == "cuda" or found > 0):
        raise RunError(
            f"{devices} CUDA devices were asked for, this machine has {found}: "
            + (f"ask for at most {found}, or for device='cpu'" if found else "ask for device='cpu'")
        )
    return devices


def _resolve(entry: Callable[..., Any] | str) -> Callable[..., Any]:
    if callable(entry):
        return entry
    module, colon, name = entry.partition(":")
    if not (module and colon and name):
        raise RunError(f"entry {entry!r} must read module:function, for example 'my.module:train'")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise RunError(f"entry {entry!r}: no module {error.name!r} can be imported here") from error
    except AttributeError as error:
        raise RunError(f"entry {entry!r}: {error}") from error
    return found  # type: ignore[no-any-return]


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back the signal handlers and the variable that the launcher changes and leaves."""
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    variable = os.environ.get("TORCHELASTIC_SIGNALS_TO_HANDLE")
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if variable is None:
            os.environ.pop("TORCHELASTIC_SIGNALS_TO_HANDLE", None)


@contextlib.contextmanager
def _received() -> Iterator[Callable[[], int]]:
    """Watch which signals arrive, whoever handles them: gives a function that tells the last stop signal, or 0."""
    ours, theirs = socket.socketpair()
    seen = [0]

    def last() -> int:
        with contextlib.suppress(BlockingIOError):
            seen.extend(number for number in ours.recv(4096) if number in _SIGNALS)
        return seen[-1]

    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield last
        finally:
            signal.set_wakeup_fd(before)
