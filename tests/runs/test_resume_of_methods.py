"""Both first methods go on bit for bit after an interruption, with workers and accumulation, on real digits."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tacit import recipes
from tacit.models.store import weights_digest
from tacit.runs.build import build
from tacit.runs.hooks import JudgeHook
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

TINY = (
    "steps=6", "batch=64", "system.encoder.widths=[8, 16]", "checks.log_every=1", "checks.judge_every=2", "machine.trackers=[]",
)  # fmt: skip


class StopAt:
    """A hook that sends this process SIGTERM after a step, as a scheduler would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, step, terms, context) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self, status: str) -> None: ...


def start(recipe, folder: Path, *hooks):
    built = build(recipe)
    ended = fit(recipe, built.system, built.source, built.views, folder, hooks=[JudgeHook(built), *hooks])
    return ended.status, weights_digest(built.system)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "method",
    [
        ("system.projector.widths=[32, 16]",),
        ("system.objective=simclr", "system.projector.widths=[32, 16]"),
        ("system.objective=byol", "system.projector.widths=[32, 16]", "system.teacher=ema", "system.predictor=mlp",
         "system.predictor.widths=[32, 16]"),
    ],
    ids=["vicreg", "simclr", "byol with an averaged teacher"],
)  # fmt: skip
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, method, workers):
    recipe = recipes.load("ssl.vicreg_digits", [*TINY, *method, "accumulate=2", f"machine.workers={workers}"])
    status, whole = start(recipe, tmp_path / "whole")
    assert status == "finished"
    assert start(recipe, tmp_path / "cut", StopAt(3))[0] == "stopped"
    status, pieced = start(recipe, tmp_path / "cut")
    assert (status, pieced) == ("finished", whole)
    expected, found = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "cut")
    assert expected.keys() == found.keys()
    for name, (steps, values) in expected.items():
        np.testing.assert_array_equal(found[name][0], steps)
        np.testing.assert_array_equal(found[name][1], values)
