"""What all rooms' tests share. torch is imported only where a test asks for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch is imported: tests are small, threads only get in each other's way


def pytest_collection_modifyitems(items):
    """Tests marked gpu need a CUDA device and are skipped without one."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches the network: sockets connect to this machine alone."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if host not in ("", "localhost", "::1") and not str(host).startswith("127."):
            raise RuntimeError(f"a test tried to connect to {host}: the suite needs no network")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def seeded():
    """Weights that no test seeds are the same in every run: a process of torch begins at a seed of its own."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def rng():
    """A torch generator with a fixed seed."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory):
    """What two gloo processes found, by case: one launch for all tests of a run. See two_process.py for the cases."""
    folder = tmp_path_factory.mktemp("two_processes")
    script = Path(__file__).with_name("two_process.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [worker.communicate(timeout=120)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert all(worker.returncode == 0 for worker in workers), "\n".join(said)
    return json.loads((folder / "found.json").read_text())
