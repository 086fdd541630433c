"""Laws of the launcher: ranks see each other, the first fault is told in one sentence, signals reach the ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tacit.core.errors import RunError
from tacit.training.launch import launch

RANKS = '''
import os, signal, sys, time
from pathlib import Path
import torch
import torch.distributed as dist


def total(base):
    """Every rank adds base ** rank."""
    dist.init_process_group("gloo")
    x = torch.tensor(float(base) ** dist.get_rank(), dtype=torch.float64)
    dist.all_reduce(x)
    dist.destroy_process_group()
    return {"rank": int(os.environ["RANK"]), "total": x.item(), "threads": torch.get_num_threads()}


def fault(kind):
    dist.init_process_group("gloo")
    if os.environ["RANK"] == "1":
        if kind == "raise":
            raise ValueError("the labels\\nare gone")
        if kind == "exit":
            sys.exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def wait(folder):
    """Run until SIGTERM, then save and return, as a training loop does."""
    stop = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    rank = os.environ["RANK"]
    Path(folder, "ready" + rank).touch()
    while not stop:
        time.sleep(0.02)
    Path(folder, "saved" + rank).touch()
    return "saved"
'''


@pytest.fixture
def ranks(tmp_path, monkeypatch):
    """A module that other processes can import."""
    (tmp_path / "ranks_of_test.py").write_text(RANKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    yield "ranks_of_test"
    sys.modules.pop("ranks_of_test", None)


@pytest.mark.slow
def test_two_ranks_meet_and_rank_zero_answers(ranks):
    import ranks_of_test

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    result = launch(2, ranks_of_test.total, 10, device="cpu")
    assert result == {"rank": 0, "total": 11.0, "threads": max(1, os.cpu_count() // 2)}
    assert {number: signal.getsignal(number) for number in before} == before
    assert "TORCHELASTIC_SIGNALS_TO_HANDLE" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("raise", "rank 1 of 2 failed: ValueError: the labels are gone"),
        ("exit", "rank 1 of 2 left with exit code 3 before it returned"),
        ("kill", "rank 1 of 2 was killed by SIGKILL (out of memory?)"),
    ],
)
def test_the_rank_that_fails_is_named(ranks, kind, sentence):
    with pytest.raises(RunError) as caught:
        launch(2, f"{ranks}:fault", kind, device="cpu")
    assert str(caught.value) == sentence


@pytest.mark.slow
def test_sigterm_reaches_the_ranks_and_they_save(ranks, tmp_path):
    script = (
        "from tacit.training.launch import launch\n"
        "if __name__ == '__main__':\n"
        f"    launch(2, '{ranks}:wait', {str(tmp_path)!r}, device='cpu')\n"
    )
    (tmp_path / "start.py").write_text(script)
    with subprocess.Popen([sys.executable, str(tmp_path / "start.py")], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 40
        while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert sorted(path.name for path in tmp_path.glob("saved*")) == ["saved0", "saved1"], errors
    assert process.returncode == 1
    assert "RunError: stopped by SIGTERM, which was handed on to the 2 ranks" in errors
    assert time.monotonic() - start < 20  # a rank that returned does not wait to be killed


def test_one_device_runs_here():
    assert launch(1, os.getpid) == os.getpid()


def test_inside_torchrun_the_function_runs_in_place(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert launch("auto", os.getpid) == os.getpid()
    assert launch(2, "os:getpid") == os.getpid()
    with pytest.raises(RunError) as caught:
        launch(8, os.getpid)
    assert str(caught.value) == "8 devices were asked for, but torchrun started 2 processes here: leave it 'auto'"


def test_requests_that_cannot_be_met_are_sentences(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for call, sentence in [
        (
            lambda: launch(4, os.getpid),
            "4 CUDA devices were asked for, this machine has 2: ask for at most 2, or for device='cpu'",
        ),
        (lambda: launch(0, os.getpid), "devices=0: give a number of at least 1, or 'auto'"),
        (lambda: launch("all", os.getpid), "devices='all': give a number of at least 1, or 'auto'"),
        (lambda: launch(1, "os"), "entry 'os' must read module:function, for example 'my.module:train'"),
        (lambda: launch(1, "os:fly"), "entry 'os:fly': module 'os' has no attribute 'fly'"),
        (lambda: launch(1, "osos:fly"), "entry 'osos:fly': no module 'osos' can be imported here"),
    ]:
        with pytest.raises(RunError) as caught:
            call()
        assert str(caught.value) == sentence
    with pytest.raises(
        RunError, match="cannot be called in other processes: give a function defined at the top of a module"
    ):
        launch(2, lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RunError) as caught:
        launch(2, os.getpid, device="cuda")
    assert str(caught.value) == "2 CUDA devices were asked for, this machine has 0: ask for device='cpu'"
