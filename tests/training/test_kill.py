"""A run that is killed twenty times (SIGKILL, at random moments) ends bit for bit as one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tacit.training import checkpoint
from tacit.training.metrics import read_metrics

STEPS = 240
KILLS = 20
FORKER = """
import os, sys, time, warnings
sys.path.insert(0, {here!r})
from standins import Count, Noisy, Pictures, Tiny, recipe
from tacit.training.loop import fit

class Slow:
    def __init__(self, said):
        self.said = said
    def __call__(self, step, terms, context):
        print(step, file=self.said, flush=True)  # the parent watches how far it is
        time.sleep(0.01)
    def close(self, status):
        pass

def run(folder, how, said):
    if how == "pause":  # stand still between writing a checkpoint and renaming it into place
        rename = os.rename
        def waiting(source, target):
            if str(source).endswith(".partial"):
                print("saving", file=said, flush=True)
                time.sleep(600)
            rename(source, target)
        os.rename = waiting
    wanted = recipe(steps={steps}, save_every=2, log_every=3)
    print(fit(wanted, Tiny(), Pictures(40), Noisy(), folder, hooks=[Count(), Slow(said)]).status, file=said, flush=True)

warnings.simplefilter("error")
recipe().optim.build().build(Tiny().groups())  # the first optimiser of a process makes torch import its compiler
for line in sys.stdin:  # each run is a process of its own, forked here to spare it the imports
    folder, how, said = line.split()
    child = os.fork()
    if not child:
        run(folder, how, open(said, "a"))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


class Starter:
    """Starts runs in processes of their own, one at a time."""

    def __init__(self, script):
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, folder, how, said):
        said.touch()
        self.process.stdin.write(f"{folder} {how} {said}\n")
        return int(self.process.stdout.readline())

    def wait(self):
        assert self.process.stdout.readline() == "ended\n"


@pytest.fixture
def starter(tmp_path):
    path = tmp_path / "forker.py"
    path.write_text(FORKER.format(here=str(Path(__file__).parent), steps=STEPS))
    starter = Starter(path)
    yield starter
    starter.process.stdin.close()
    starter.process.wait()
    starter.process.stdout.close()


def reached(said, count, patience=60):
    """Wait until a run has said `count` lines; the last one."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        lines = said.read_text().split()
        if len(lines) >= count:
            return lines[-1]
        time.sleep(0.002)
    raise AssertionError(f"{said} did not reach {count} lines")


def outcome(folder):
    steps = checkpoint.saved_steps(folder)
    rows = {name: (s.tolist(), v.tolist()) for name, (s, v) in read_metrics(folder).items()}
    return steps, rows, {p.name: p.read_bytes() for p in checkpoint.place(folder, steps[0]).iterdir()}


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path, starter):
    dice, folder, log = random.Random(7), tmp_path / "killed", []
    for kill in range(KILLS):
        said, during_save = tmp_path / f"said-{kill}", kill == KILLS // 2
        child = starter.start(folder, "pause" if during_save else "plain", said)
        if during_save:
            while reached(said, 1) != "saving":
                time.sleep(0.002)
            (partial,) = (folder / "steps").glob("*.partial")
            assert (partial / "state.json").exists()  # all is written, nothing is in its place
        else:
            reached(said, dice.randint(1, 12))
            time.sleep(dice.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        starter.wait()
        where = " in the middle of a save" if during_save else ""
        log.append(f"kill {kill + 1}{where}: said {' '.join(said.read_text().split())}")
        assert "finished" not in log[-1]
    starter.start(folder, "plain", tmp_path / "said-last")
    starter.wait()
    log.append(f"last start: said {' '.join((tmp_path / 'said-last').read_text().split())}")
    (tmp_path / "kills.txt").write_text("\n".join(log) + "\n")
    starter.start(tmp_path / "whole", "plain", tmp_path / "said-whole")
    starter.wait()
    assert log[-1].endswith("finished") and (tmp_path / "said-whole").read_text().endswith("finished\n")
    assert outcome(folder) == outcome(tmp_path / "whole"), "\n".join(log)
    assert (folder / "log.txt").read_text().count("starts at step") == KILLS + 1
