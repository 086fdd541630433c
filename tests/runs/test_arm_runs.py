"""The whole path on the simulated arm, at tiny size: make, train, evaluate, plan with pictures as goals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from tacit import recipes, runs
from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.values import Batch, View
from tacit.runs.action_report import examined
from tacit.runs.build import Built, restore
from tacit.runs.making_arm import make_arm
from tacit.runs.planning import plan
from tacit.systems.action_conditioned import ActionConditioned

pytest.importorskip("mujoco")
TINY = [
    "system.encoder.width=24", "system.encoder.depth=1", "system.predictor.width=16", "system.predictor.depth=1",
    "system.predictor.heads=1", "steps=2", "batch=4", "checks.log_every=1", "machine.device=cpu", "machine.threads=1",
    "machine.trackers=[]",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was trained on two steps of made episodes."""
    root = tmp_path_factory.mktemp("arm")
    for split in ("train", "test"):
        made = make_arm(root / "data", ["steps=5", "side=24"], count=2, split=split)
        assert (made.count, made.transitions, made.kept) == (2, 10, 0)
    data = ["data=trajectories", f"data.path={root / 'data'}", "data.frames=3", "data.stride=1"]
    run = runs.train(recipes.load("robots.arm_small", [*data, *TINY]), root=root / "runs", quiet=True)
    assert run.status == "finished"
    return run.folder


def test_made_episodes_are_kept_and_other_settings_refused(tmp_path):
    settings = ["steps=2", "side=16"]
    make_arm(tmp_path, settings, count=1)
    first = (tmp_path / "train" / "000000.npz").read_bytes()
    again = make_arm(tmp_path, settings, count=2)
    assert again.kept == 1 and (tmp_path / "train" / "000000.npz").read_bytes() == first
    (tmp_path / "train" / "000000.npz").unlink()
    assert make_arm(tmp_path, settings, count=2).kept == 1
    with np.load(tmp_path / "train" / "000000.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"frames", "state", "actions", "cube", "camera"} and arrays["frames"].shape == (
            3,
            16,
            16,
            3,
        )
    with pytest.raises(RecipeError, match="was made with other settings"):
        make_arm(tmp_path, ["steps=3", "side=16"], count=1)
    with pytest.raises(RecipeError, match="'frames=3': a setting of the episodes reads name=value"):
        make_arm(tmp_path, ["frames=3"])


def test_a_run_is_planned_with_and_leaves_its_files(folder, tmp_path):
    settings = ["planner.samples=4", "planner.elites=2", "planner.iterations=1", "horizon=2", "context=2"]
    found = plan(folder, "arm", settings, episodes=2, out=tmp_path / "plans")
    assert set(found.played) == {"learned model", "random", "still", "script"}
    assert found.played["script"].rate.value == 1.0 and found.played["still"].rate.value == 0.0
    assert len(found.played["learned model"].frames[0]) == 11
    told = json.loads((tmp_path / "plans" / "plan.json").read_text())
    assert told["success"]["still"]["high"] < 0.7 and told["settings"]["task"] == "reach"
    assert (tmp_path / "plans" / "filmstrip.png").is_file() and "95 % intervals" in found.text()
    again = plan(folder, "arm", settings, episodes=2, references=False, out=tmp_path / "again")
    np.testing.assert_array_equal(again.played["learned model"].distance, found.played["learned model"].distance)
    with pytest.raises(RecipeError, match=r"setting 'horzon'. Did you mean 'horizon'"):
        plan(folder, "arm", ["horzon=2"], episodes=1)


def test_evaluate_reports_every_measure_and_keeps_its_rows(folder):
    found = runs.evaluate_runs([folder], count=6)
    protocols = {result.protocol for result in found.table.results}
    assert {"open loop, error after 1@1", "open loop, error after 2@1", "action retrieval among 6, hit@1"} <= protocols
    assert (folder / "actions" / "landscape.png").is_file() and "camera: inferred motions" in found.text()
    assert math.isfinite(json.loads((folder / "actions" / "report.json").read_text())["camera"]["turn, degrees"])
    with pytest.raises(RecipeError, match="holds the system it was trained with"):
        runs.evaluate_runs([folder], ["system.rollout=3"], count=4)


class Told(torch.nn.Module):
    """A model that is right, up to a turn of the camera by some angle: a state is where the hand is, spread over two tokens."""

    def __init__(self, degrees=0.0):
        super().__init__()
        angle = math.radians(degrees)
        self.turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        self.predictor = type("P", (), {"sees_camera": False})()

    clips, goal_energy, rollout = ActionConditioned.clips, ActionConditioned.goal_energy, 2

    def encode(self, x):
        return x[:, :2, :, 0, 0].transpose(1, 2).unsqueeze(2).expand(-1, -1, 2, -1)

    def remember(self, seen):
        return None

    def imagine(self, seen, actions, past=None):
        steps = (actions[..., :2] @ self.turn).cumsum(1)  # what it believes motions to be: turned back by the angle
        return seen.z[:, -1].repeat_interleave(len(actions) // len(seen.z), 0).unsqueeze(1) + steps.unsqueeze(2)


class Hands:
    """Clips whose pictures hold the place of a hand that moves in the plane by chance."""

    def __init__(self, n=60, t=4):
        rng = torch.Generator().manual_seed(0)
        self.action = torch.zeros(n, t, 7)
        self.action[..., :2] = 0.05 * torch.randn(n, t, 2, generator=rng).clamp(-2, 2)
        self.place = torch.cat([torch.zeros(n, 1, 2), self.action[:, :-1, :2].cumsum(1)], 1)

    def __len__(self):
        return len(self.action)

    def read(self, ids):
        ids = list(ids)
        x = self.place[ids].transpose(1, 2)[..., None, None].expand(-1, -1, -1, 2, 2)
        state = torch.zeros(len(ids), 4, 7)
        return Batch({"image": View(x)}, torch.tensor(ids), self.action[ids], {"state": state})


class AsIs:
    def plain(self, batch):
        return batch


@pytest.mark.parametrize("degrees", [0.0, 25.0, -40.0])
def test_a_model_that_is_right_has_no_error_and_one_with_a_turned_camera_is_found_out(folder, degrees):
    built = restore(folder)
    found = examined(Built(built.recipe, Hands(), AsIs(), Told(degrees)), 60)
    assert found.turn == pytest.approx(degrees, abs=2.0)
    error = found.numbers["open loop, error by step"]
    if degrees == 0.0:
        assert error["learned model"].max() < 1e-5 < error["persistence"].mean()
        assert found.numbers["action retrieval among 32, hit"]["learned model"].all()
        lands = found.numbers["landscape, cm from the minimum to the true motion"]
        assert lands["learned model"].mean() < 1.0 < lands["no motion"].mean()


def test_what_does_not_belong_together_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match="at least 2 clips are needed, found 1"):
        examined(Built(restore(folder).recipe, Hands(1), AsIs(), Told()), 1)
    with pytest.raises(RecipeError, match="are evaluated one at a time, found 2 run folders"):
        runs.evaluate_runs([folder, folder])


def test_a_value_that_is_no_yaml_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(RecipeError, match=r"^steps: '\[1' cannot be read as a value$"):
        make_arm(tmp_path, ["steps=[1"])
    with pytest.raises(UnknownNameError, match="split"):
        make_arm(tmp_path, split="trian")
    assert not list(tmp_path.iterdir())
