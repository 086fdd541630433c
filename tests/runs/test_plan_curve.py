"""Success against training: which checkpoints, whose seconds, and what is refused."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta

import pytest

from tacit import recipes
from tacit.core.errors import CheckpointError, RecipeError
from tacit.core.recipe import Checks, Machine
from tacit.runs import planning, train
from tacit.runs.build import restore
from tacit.runs.plan_curve import plan_curve, training_seconds
from tacit.training import checkpoint

QUICK = ["steps=4", "horizon=2", "execute=2", "planner.samples=8", "planner.elites=3", "planner.iterations=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    small = [
        "system.encoder.hidden=[16]",
        "system.encoder.width=8",
        "views.shrink=4",
        "data.count=64",
        "data.frames=5",
        "system.steps=3",
    ]
    recipe = recipes.load("worlds.two_rooms_small", small).change(
        steps=4, batch=16, checks=Checks(log_every=1, judge_every=0, save_every=1, keep=4),
        machine=Machine(device="cpu", threads=1, trackers=()),
    )  # fmt: skip
    return train(recipe, root=tmp_path_factory.mktemp("runs"), name="rooms", quiet=True).folder


def test_each_point_is_the_plan_of_its_checkpoint_on_the_same_episodes(run, tmp_path):
    curve = plan_curve(run, "rooms", QUICK, at=[4, 2], episodes=3, seed=1, out=tmp_path / "curve", quiet=True)
    assert [p.step for p in curve.points] == [2, 4]
    for p in curve.points:
        alone = planning.plan(
            run, "rooms", QUICK, episodes=3, seed=1, references=False, out=tmp_path / f"alone{p.step}", step=p.step, pictures=False
        )  # fmt: skip
        assert {c: tuple(r) for c, r in alone.rates["learned model"].items()} == p.success
        told = json.loads((tmp_path / f"alone{p.step}" / "plan.json").read_text())
        beside = json.loads((tmp_path / "curve" / f"step{p.step}" / "plan.json").read_text())
        assert told["success"]["learned model"] == beside["success"]["learned model"]
        assert not (tmp_path / f"alone{p.step}" / "landscape.png").exists()
    assert set(curve.beside) >= {"still", "random", "straight", "oracle", "true dynamics, path length"}
    assert curve.plot.stat().st_size > 2000
    assert len(json.loads((tmp_path / "curve" / "curve.json").read_text())["points"]) == 2
    assert "learned model, step 2" in curve.text() and "straight" in curve.text()


def test_the_weights_are_those_of_the_step(run):
    first, last = (restore(run, step).system.state_dict() for step in (1, None))
    assert any(not (first[name] == last[name]).all() for name in first)
    saved = checkpoint.read(checkpoint.place(run, 1))["system"]
    assert all((first[name] == saved[name]).all() for name in first)


def test_seconds_leave_out_the_pause_and_what_was_lost_before_it(tmp_path):
    begun = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    again = begun + timedelta(seconds=1000)
    (tmp_path / "machine.json").write_text(json.dumps({"starts": [{"time": t.isoformat()} for t in (begun, again)]}))
    for step, at in ((10, begun + timedelta(seconds=40)), (20, again + timedelta(seconds=30))):
        place = tmp_path / "steps" / f"{step:08d}"
        place.mkdir(parents=True)
        (place / "state.json").write_text("")
        os.utime(place / "state.json", (at.timestamp(),) * 2)
    assert training_seconds(tmp_path, 10) == 40
    assert training_seconds(tmp_path, 20) == 70


def test_checkpoints_that_are_not_there_are_named(run, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        plan_curve(run, "rooms", QUICK, at=[2, 7], out=tmp_path)
    assert (
        str(caught.value) == f"{run} holds no checkpoint of step 7: it has 1, 2, 3, 4; a run keeps checks.keep of them"
    )
    with pytest.raises(CheckpointError, match=r"holds no checkpoint of step 7: it has 1, 2, 3, 4"):
        restore(run, 7)
    with pytest.raises(RecipeError, match=r"--at: world 'arm' plans with the newest checkpoint of a run alone"):
        plan_curve(run, "arm")
