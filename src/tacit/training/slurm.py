"""A run as a SLURM job, through submitit: preempted or out of time, it is queued again and goes on from its checkpoints.

One task a GPU. Each finds in its environment what torchrun would have set (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
MASTER_PORT), so that a function, or a command such as `tacit train`, runs on any number of nodes as it does under torchrun.
`cluster='local'` carries the same job out in processes of this machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from tacit.core.errors import RunError, UnknownNameError, need, unknown

__all__ = ["Resumable", "submit"]

_OPTIONS = frozenset(
    [
        "account",
        "additional_parameters",
        "comment",
        "constraint",
        "dependency",
        "exclude",
        "exclusive",
        "gres",
        "mail_type",
        "mail_user",
        "mem_per_cpu",
        "mem_per_gpu",
        "nodelist",
        "qos",
        "setup",
        "signal_delay_s",
        "srun_args",
        "stderr_to_stdout",
        "teardown",
        "use_srun",
        "wckey",
    ]
)
_GRACE = (
    60.0  # seconds that a command has to save; SLURM warns 90 s before the end unless signal_delay_s says otherwise
)


class Resumable:
    """Work that may be stopped at any moment and called again with the same arguments.

    It carries no state of its own: the work finds its run folder among its arguments and resumes from what is there.
    """

    def __init__(self, work: Callable[..., Any] | tuple[str, ...]) -> None:
        self.work = work
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, *args: Any) -> Any:
        """Do the work in this task; a command gives None, and a RunError if its exit code is not 0."""
        helpers = need("submitit", "cluster", "a SLURM job").helpers
        task = helpers.TorchDistributedEnvironment()
        if task.world_size > 1:
            task.export(set_cuda_visible_devices=False, overwrite=True)
        if callable(self.work):
            return self.work(*args)
        command = [*self.work, *map(str, args)]
        self._process = subprocess.Popen(command, preexec_fn=_deaf)
        code = self._process.wait()
        if code:
            raise RunError(
                f"the command {shlex.join(command)!r} left with exit code {code}; its words are in the job's log"
            )
        return None

    def checkpoint(self, *args: Any) -> Any:
        """What submitit queues when the job is preempted: the same call. A command is told to save and leave (SIGTERM)."""
        if self._process is not None:
            self._process.terminate()
            end = time.monotonic() + _GRACE
            # This runs inside the signal handler, where Popen.wait may hold its lock: look, but leave the reaping to it.
            while not os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if time.monotonic() > end:
                    self._process.kill()
                time.sleep(0.05)
        return need("submitit", "cluster", "a SLURM job").helpers.DelayedSubmission(Resumable(self.work), *args)


def submit(
    work: Callable[..., Any] | Sequence[str],
    *args: Any,
    folder: str | Path,
    nodes: int = 1,
    gpus: int = 0,
    cpus: int = 1,
    minutes: int,
    memory_gb: float | None = None,
    partition: str | None = None,
    name: str = "tacit",
    restarts: int = 10,
    cluster: Literal["slurm", "local"] = "slurm",
    **options: Any,
) -> Any:
    """Queue `work(*args)`, a function or a command in words, and return submitit's job (`job_id`, `state`, `result()`).

    `folder` is seen by all machines and takes submitit's scripts, logs and pickles. `gpus`, `memory_gb`: per node; `cpus`: per
    task; a node has a task a GPU, or one. A job that runs out of `minutes` is queued again `restarts` times, a preempted one
    always; in a job of up to 10 minutes the two cannot be told apart. `options` are sbatch's, for example account='lab'.
    """
    submitit = need("submitit", "cluster", "a SLURM job")
    for option in options:
        if option not in _OPTIONS:
            remedy = "Any other goes into additional_parameters={'its-name': value}."
            raise UnknownNameError(unknown("SLURM option", option, _OPTIONS, remedy))
    for setting, value, least in (("nodes", nodes, 1), ("gpus", gpus, 0), ("cpus", cpus, 1), ("minutes", minutes, 1)):
        if not isinstance(value, int) or value < least:
            raise RunError(f"{setting}={value!r}: give a whole number of at least {least}")
    if cluster == "local" and nodes > 1:
        raise RunError(f"cluster='local' is this one machine, {nodes} nodes were asked for: leave nodes=1")
    if cluster == "slurm" and shutil.which("srun") is None:
        raise RunError(
            "SLURM's command 'srun' is not on this machine: submit from a login node, or with cluster='local'"
        )
    if not callable(work):
        if isinstance(work, str) or not work:
            raise RunError(
                f"a command is given in words, for example ['tacit', 'train', 'recipe.yaml'], found {work!r}"
            )
        work = tuple(work)
    executor = submitit.AutoExecutor(
        folder=Path(folder).resolve(), cluster=cluster, **{f"{cluster}_max_num_timeout": restarts}
    )
    executor.update_parameters(
        name=name,
        nodes=nodes,
        tasks_per_node=max(1, gpus),
        gpus_per_node=gpus or None,
        cpus_per_task=cpus,
        mem_gb=memory_gb,
        timeout_min=minutes,
        slurm_partition=partition,
        **{f"slurm_{option}": value for option, value in options.items()},
    )
    return executor.submit(Resumable(work), *args)


def _deaf() -> None:
    """SLURM sends its warning to every process of a task; only submitit's is to act on it."""
    signal.signal(getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")), signal.SIG_IGN)
