"""Masked prediction goes on bit for bit after an interruption: encoder, averaged encoder, masks, optimiser."""

import os
import signal

import numpy as np
import pytest

from tacit import recipes
from tacit.models.store import weights_digest
from tacit.runs.build import build
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

TINY = (
    "steps=6", "batch=16", "accumulate=2", "checks.log_every=1", "checks.judge_every=0", "machine.trackers=[]",
    "system.encoder.width=24", "system.encoder.depth=1", "system.encoder.heads=2", "optim.final_weight_decay=0.4",
)  # fmt: skip


class StopAt:
    """A hook that sends this process SIGTERM after a step, as a scheduler would."""

    def __init__(self, step):
        self.step = step

    def __call__(self, step, terms, context):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self, status): ...


@pytest.mark.parametrize("name", ["masked.ijepa_digits", "masked.simmim_digits", "video.vjepa_tiny"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, name):
    recipe = recipes.load(name, [*TINY, *(["data.count=64"] if name.startswith("video") else [])])

    def start(folder, *hooks):
        built = build(recipe)
        ended = fit(recipe, built.system, built.source, built.views, folder, hooks=hooks)
        return ended.status, weights_digest(built.system)

    whole = start(tmp_path / "whole")
    assert start(tmp_path / "cut", StopAt(3))[0] == "stopped"
    assert start(tmp_path / "cut") == whole and whole[0] == "finished"
    expected, found = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "cut")
    for key, (steps, values) in expected.items():
        np.testing.assert_array_equal(found[key][0], steps)
        np.testing.assert_array_equal(found[key][1], values)
