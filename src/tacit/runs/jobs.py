"""A verb as a cluster job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tacit.core.errors import RecipeError
from tacit.training import slurm as scheduler

__all__ = ["launch"]


def launch(
    command: Sequence[str],
    *,
    slurm: bool,
    local: bool,
    nodes: int,
    gpus: int,
    cpus: int,
    minutes: int,
    partition: str | None,
    folder: str | Path,
) -> dict[str, Any]:
    """Queue `tacit <command>`; a preempted job is queued again and continues its run. Returns the job's id and log."""
    if slurm == local:
        raise RecipeError("tacit launch: choose one of --slurm (the cluster) and --local (a process of this machine)")
    job = scheduler.submit(
        [sys.executable, "-m", "tacit", *command],
        folder=folder,
        nodes=nodes,
        gpus=0 if local else gpus,
        cpus=cpus,
        minutes=minutes,
        partition=None if local else partition,
        cluster="local" if local else "slurm",
    )
    return {"job": job.job_id, "log": str(job.paths.stdout)}
