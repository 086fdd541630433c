"""Laws of SLURM jobs: a preempted job goes on where it was; ranks are those of torchrun; wrong requests are sentences."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tacit.core.errors import MissingExtraError, RunError, UnknownNameError
from tacit.training.slurm import submit

pytest.importorskip("submitit")

COUNT = """
import os, signal, sys, time
from pathlib import Path
path = Path(sys.argv[1]) / "count"
def save(number, frame):
    (path.parent / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
(path.parent / "pids").write_text(f"{os.getpid()} {os.getppid()}")
start = int(path.read_text()) if path.exists() else 0
with (path.parent / "starts").open("a") as file:
    file.write(f"{start}\\n")
for i in range(start, 1000):
    if i >= 5 and start == 0:
        time.sleep(60)
    path.write_text(str(i + 1))
    if i >= 9:
        break
"""


def make_counter():
    """Made inside a function, so that it travels by value: the job's process cannot import this file."""

    def count(folder):
        import os
        import time
        from pathlib import Path

        path = Path(folder) / "count"
        (Path(folder) / "pids").write_text(str(os.getpid()))
        start = int(path.read_text()) if path.exists() else 0
        with (Path(folder) / "starts").open("a") as file:
            file.write(f"{start}\n")
        for i in range(start, 10):
            if i == 5 and start == 0:
                time.sleep(60)
            path.write_text(str(i + 1))
        return {"from": start, "to": i + 1}

    return count


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["function", "command"])
def test_a_preempted_job_continues_from_its_own_checkpoint(kind, tmp_path):
    (tmp_path / "count.py").write_text(COUNT)
    work = make_counter() if kind == "function" else [sys.executable, str(tmp_path / "count.py")]
    job = submit(work, str(tmp_path), folder=tmp_path / "jobs", minutes=60, cluster="local")
    count = tmp_path / "count"
    wait_for(lambda: count.exists() and count.read_text() == "5")
    # What SLURM does to all processes of the task; submitit's own _interrupt() would signal its local controller instead.
    for pid in (tmp_path / "pids").read_text().split():
        os.kill(int(pid), signal.SIGUSR2)
    result = job.result()
    assert count.read_text() == "10"
    assert (tmp_path / "starts").read_text().split() == ["0", "5"]  # the second start went on, it did not begin again
    if kind == "function":
        assert result == {"from": 5, "to": 10}
    else:
        assert (tmp_path / "saved").exists()  # the command was asked to save before the job left


def test_two_gpus_are_two_ranks_with_torchruns_variables(tmp_path):
    def variables(names):
        import os

        return {name: os.environ.get(name) for name in names}

    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "MASTER_ADDR", "MASTER_PORT"]
    job = submit(variables, names, folder=tmp_path, gpus=2, minutes=60, cluster="local")
    first, second = job.results()
    assert (first["RANK"], second["RANK"]) == ("0", "1") and (first["LOCAL_RANK"], second["LOCAL_RANK"]) == ("0", "1")
    for name, value in {"WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "0,1"}.items():
        assert first[name] == second[name] == value
    assert first["MASTER_ADDR"] and first["MASTER_ADDR"] == second["MASTER_ADDR"]
    assert first["MASTER_PORT"] == second["MASTER_PORT"]


def test_a_command_that_fails_says_so(tmp_path):
    job = submit([sys.executable, "-c", "raise SystemExit(3)"], folder=tmp_path, minutes=60, cluster="local")
    assert "left with exit code 3; its words are in the job's log" in str(job.exception())


def test_the_batch_script_asks_slurm_for_what_was_asked(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("srun", "sbatch"):
        (tools / tool).write_text("#!/bin/sh\necho Submitted batch job 4242\n")
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    job = submit(
        print,
        folder=tmp_path / "jobs",
        nodes=2,
        gpus=4,
        cpus=8,
        minutes=90,
        memory_gb=64,
        partition="long",
        account="lab",
        additional_parameters={"requeue": True},
    )
    assert job.job_id == "4242"
    (script,) = (tmp_path / "jobs").glob("*submission.sh")
    lines = {line for line in script.read_text().splitlines() if line.startswith("#SBATCH")}
    assert lines >= {
        f"#SBATCH --{setting}"
        for setting in (
            "nodes=2",
            "ntasks-per-node=4",
            "gpus-per-node=4",
            "cpus-per-task=8",
            "time=90",
            "mem=64GB",
            "partition=long",
            "account=lab",
            "job-name=tacit",
            "signal=USR2@90",
            "requeue",
        )
    }


def test_wrong_requests_are_sentences(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for settings, sentence in [
        ({"minutes": 0}, "minutes=0: give a whole number of at least 1"),
        ({"minutes": 9, "gpus": 0.5}, "gpus=0.5: give a whole number of at least 0"),
        (
            {"minutes": 9, "cluster": "local", "nodes": 2},
            "cluster='local' is this one machine, 2 nodes were asked for: leave nodes=1",
        ),
        (
            {"minutes": 9},
            "SLURM's command 'srun' is not on this machine: submit from a login node, or with cluster='local'",
        ),
    ]:
        with pytest.raises(RunError) as caught:
            submit(print, folder=tmp_path, **settings)
        assert str(caught.value) == sentence
    with pytest.raises(RunError) as caught:
        submit("tacit train", folder=tmp_path, minutes=9, cluster="local")
    assert str(caught.value) == (
        "a command is given in words, for example ['tacit', 'train', 'recipe.yaml'], found 'tacit train'"
    )
    with pytest.raises(UnknownNameError) as caught_name:
        submit(print, folder=tmp_path, minutes=9, acount="lab")
    assert str(caught_name.value).startswith(
        "no SLURM option named 'acount'. Did you mean 'account'? Known: account, add"
    )
    assert str(caught_name.value).endswith("Any other goes into additional_parameters={'its-name': value}.")


def test_a_missing_submitit_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtraError) as caught:
        submit(print, folder=tmp_path, minutes=1)
    assert str(caught.value) == (
        "a SLURM job needs the package 'submitit', which is not installed: pip install 'tacit[cluster]'"
    )
