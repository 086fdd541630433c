"""Digits found in imagined video: a head on maps that show the digits finds them; the wiring of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Checks, Machine
from tacit.runs import detecting, imagining, train


def test_maps_are_the_grid_of_the_tokens():
    states = torch.arange(2 * 3 * 16 * 2).view(2, 3, 16, 2).float()
    maps = detecting._maps(states)
    assert maps.shape == (6, 2, 4, 4) and torch.equal(maps[4, :, 2, 1], states[1, 1, 9])


def test_a_perfect_head_has_precision_one_and_a_constant_one_the_share_of_digits():
    target = torch.zeros(2, 3, 8, 8, dtype=torch.bool)
    target[:, :, 2, 5] = True
    states = target.float().flatten(2).unsqueeze(-1)

    class Reads(torch.nn.Module):
        def forward(self, maps):
            return maps[:, 0]

    assert detecting._precision(Reads(), states, target) == 1
    assert detecting._precision(Reads(), torch.ones_like(states), target) == pytest.approx(1 / 64)


def test_a_run_is_judged_by_horizon(tmp_path, monkeypatch):
    monkeypatch.setattr(detecting, "_FIT", 16)
    monkeypatch.setattr(detecting, "_PASSES", 1)
    recipe = recipes.load(
        "worlds.moving_digits",
        ["data.count=16", "data.frames=5", "system.steps=1", "system.encoder.hidden=4", "system.encoder.width=4",
         "system.predictor.hidden=4", "system.projector.widths=[4,4]"],
    )  # fmt: skip
    recipe = recipe.change(
        steps=1,
        batch=4,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(device="cpu", threads=1, trackers=()),
    )
    run = train(recipe, root=tmp_path, name="digits", quiet=True).folder
    found = imagining.evaluate_world_models([run], count=16)
    protocols = {r.protocol for r in found.table.results}
    assert {"digits found, mAP@1", "open loop, error after 3@1"} <= protocols
    assert set(found.curves) == {"learned model", "persistence"} and all(
        np.isfinite(c[0]).all() for c in found.curves.values()
    )
