"""Planning in any gymnasium environment: a toy of our own, Two Rooms and the camera by their ids, and every way it can be refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tacit import recipes
from tacit.core.errors import DataError, MissingExtraError, RecipeError, UnknownNameError
from tacit.core.recipe import Checks, Machine
from tacit.probing import read_records
from tacit.runs import planning, train
from tacit.systems.world_model import WorldModel
from tacit.worlds import field

gymnasium = pytest.importorskip("gymnasium")

QUICK = ["planner.samples=16", "planner.elites=4", "planner.iterations=2"]


class Line(gymnasium.Env):
    """A point on the plane, seen as its two coordinates; ends within 0.3 of the goal."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict(
        {n: gymnasium.spaces.Box(-9, 9, (2,), np.float32) for n in ("observation", "desired_goal")}
    )
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode=None, width=2, same=False, dies=99):
        self.render_mode, self.same, self.dies = render_mode, same, dies
        self.action_space = gymnasium.spaces.Box(-1, 1, (width,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.count = self.np_random.uniform(-1, 1, 2).astype(np.float32), 0
        self.goal = self.at if self.same else self.at + np.float32(1.5)
        return self._seen(), {}

    def _seen(self):
        return {"observation": self.at.copy(), "desired_goal": self.goal.copy()}

    def step(self, action):
        self.at, self.count = self.at + action[:2], self.count + 1
        near = bool(np.linalg.norm(self.at - self.goal) < 0.3)
        return self._seen(), float(near), near, self.count >= self.dies, {"is_success": near}


if "tacit-test/Line-v0" not in gymnasium.registry:
    gymnasium.register("tacit-test/Line-v0", entry_point=Line, max_episode_steps=6)


def small(recipe):
    return recipe.change(
        steps=2, batch=8, checks=Checks(log_every=1, judge_every=0, save_every=0), machine=Machine(device="cpu", threads=1, trackers=())
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Walks of a point in OGBench's layout."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("walks")
    actions = rng.uniform(-1, 1, (30, 8, 2)).astype(np.float32)
    start = rng.uniform(-1, 1, (30, 1, 2)).astype(np.float32)
    states = np.concatenate([start, start + actions[:, :-1].cumsum(1)], 1)
    ends = np.tile(np.arange(8) == 7, 30)
    np.savez(root / "walks.npz", observations=states.reshape(-1, 2), actions=actions.reshape(-1, 2), terminals=ends)
    return root / "walks.npz"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A world model of state vectors: what is tested is the wiring, so its dynamics are made perfect by hand below."""
    recipe = recipes.load(
        "latents.known_rooms",
        ["data=ogbench", f"data.path={data}", "data.stride=1", "views=trajectories", "system.encoder.blur=0", "system.predictor=mlp",
         "system.predictor.hidden=[64]"],
    ).change(steps=300, batch=64)  # fmt: skip
    recipe = recipe.change(
        checks=Checks(log_every=100, judge_every=0, save_every=0), machine=Machine(device="cpu", threads=1, trackers=())
    )
    return train(recipe, root=tmp_path_factory.mktemp("runs"), name="line", quiet=True).folder


def test_a_model_of_states_learned_offline_reaches_goals_in_an_environment(run, tmp_path):
    settings = ["planner.samples=64", "planner.elites=8", "planner.iterations=4", "horizon=3"]
    acted = planning.plan(run, "tacit-test/Line-v0", settings, episodes=12, out=tmp_path)
    assert list(acted.played) == ["learned model", "still", "random"]
    assert acted.played["learned model"].rate.value > 0.8 > acted.played["random"].rate.high
    assert acted.played["still"].rate.value == 0
    for file in ("filmstrip.png", "episodes.gif", "plan.json"):
        assert (tmp_path / file).stat().st_size > 200
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["criterion"] == "info['is_success'] at any step" and told["settings"]["steps"] == 6
    records = [r for r in read_records(tmp_path) if r.model == "learned model"]
    assert sum(r.correct for r in records) / 12 == acted.played["learned model"].rate.value
    text = acted.text()
    assert "12 episodes of at most 6 steps" in text and "success: info['is_success'] at any step" in text
    again = planning.plan(run, "tacit-test/Line-v0", settings, episodes=12, out=tmp_path / "again", references=False)
    np.testing.assert_array_equal(again.played["learned model"].reward, acted.played["learned model"].reward)


def test_goals_after_a_walk_and_an_environment_that_cuts_short(run, tmp_path):
    settings = [*QUICK, "goal=walk:4", "success=near:observation:0.3", "env={dies: 2}", "steps=5"]
    acted = planning.plan(run, "tacit-test/Line-v0", settings, episodes=3, references=False, out=tmp_path)
    assert acted.played["learned model"].truncated == 3 and (acted.played["learned model"].steps == 2).all()
    assert "The environment itself cut 3 of the model's 3 episodes short of 5 steps." in acted.text()
    assert acted.criterion == "observation within 0.3 of the goal's at any step"
    told = [*QUICK, "planner.samples=64", "horizon=3", "goal=walk:2", "success=near:observation:0.5"]
    reached = planning.plan(run, "tacit-test/Line-v0", told, episodes=8, references=False, out=tmp_path / "near")
    assert reached.played["learned model"].rate.value > 0.7


def test_bf16_reaches_an_environment_s_goals_as_well(run, tmp_path, monkeypatch):
    imagine, narrow = WorldModel.imagine, []

    def watched(self, z0, actions):
        narrow.append(torch.is_autocast_enabled("cpu"))
        return imagine(self, z0, actions)

    monkeypatch.setattr(WorldModel, "imagine", watched)
    for precision in ("fp32", "bf16"):
        narrow.clear()
        settings = [
            "planner.samples=64",
            "planner.elites=8",
            "planner.iterations=4",
            "horizon=3",
            f"precision={precision}",
        ]
        acted = planning.plan(
            run, "tacit-test/Line-v0", settings, episodes=12, references=False, out=tmp_path / precision
        )
        assert acted.played["learned model"].rate.value > 0.8 and set(narrow) == {precision == "bf16"}


def test_the_camera_is_planned_in_beside_its_oracle_and_the_twin(tmp_path):
    runs = [
        train(small(recipes.load(f"latents.{n}", ["data.count=48"])), root=tmp_path, name=n, quiet=True).folder
        for n in ("camera", "known_camera")
    ]
    acted = planning.plan(runs[1], "camera", QUICK, episodes=3, beside=runs[1], out=tmp_path / "plan")
    assert list(acted.played) == ["learned model", "beside: known_camera", "still", "random", "oracle"]
    assert acted.played["oracle"].rate.value == 1
    assert "oracle" in acted.text() and (tmp_path / "plan" / "filmstrip.png").is_file()


@pytest.mark.parametrize(
    ("world", "settings", "error", "sentence"),
    [
        ("tacit-test/Lime-v0", [], UnknownNameError, "no environment named 'tacit-test/Lime-v0'. Did you mean 'tacit-test/Line-v0'?"),
        ("tacit-test/Line-v0", ["env={wdth: 3}"], RecipeError,
         "the environment 'tacit-test/Line-v0' does not take these settings (wdth): "),
        ("tacit-test/Line-v0", ["env={width: 3}"], DataError,
         "environment 'tacit-test/Line-v0' takes actions of 3 numbers, this model was trained on actions of 2"),
        ("tacit-test/Line-v0", ["env={same: true}"], DataError,
         "episode 0 of 'tacit-test/Line-v0': the goal equals the start, there is nothing to plan: take another --seed or goal=walk:N with "
         "more actions"),
        ("tacit-test/Line-v0", ["goal=gaol"], DataError,
         "environment 'tacit-test/Line-v0' shows no goal 'gaol'; it has desired_goal, observation: set goal=walk:N, or goal to one "
         "of these"),
        ("tacit-test/Line-v0", ["observation=x"], DataError,
         "environment 'tacit-test/Line-v0' shows nothing named 'x'; it has desired_goal, observation: set observation to one of these "
         "or to render"),
        ("CartPole-v1", [], DataError, "environment 'CartPole-v1' takes actions of Discrete(2): planning here needs a box of numbers"),
        ("Pendulum-v1", [], DataError, "environment 'Pendulum-v1' shows [3], the model was trained on 2 channels of (1, 1) pixels: set "),
        ("rooms", ["planner=cme"], RecipeError, "planner.kind: no planner named 'cme'. Did you mean 'cem'?"),
        ("camera", ["goal=walk:5"], RecipeError,
         "success: 'auto' with goal=walk:5: the environment judges by its own goal, one that a walk gave needs success=near:KEY:DISTANCE, "
         "for example near:observation:0.5, and only that can have it"),
        ("camera", ["goal=walk:x"], RecipeError, "goal: 'walk:x' reads walk:N with a whole number of random actions, for example walk:25"),
        ("camera", [], DataError, "environment 'camera' shows [1, 16, 16], the model was trained on 2 channels of (1, 1) pixels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_one_sentence(run, tmp_path, world, settings, error, sentence):
    with pytest.raises(error) as caught:
        planning.plan(run, world, settings, episodes=1, out=tmp_path)
    assert str(caught.value).startswith(sentence)


def test_a_missing_or_unfit_package_is_named(monkeypatch):
    monkeypatch.setattr(field.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        field.make_field("FetchReach-v4")
    assert str(caught.value) == (
        "the environment 'FetchReach-v4' needs the package gymnasium-robotics, which is not installed: "
        "pip install gymnasium-robotics 'mujoco<3.17'"
    )
    monkeypatch.setattr(field.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(field.importlib.metadata, "version", lambda name: "4.0.0")
    with pytest.raises(MissingExtraError) as unfit:
        field.make_field("PointMaze_UMaze-v3")
    assert (
        str(unfit.value)
        == "gymnasium-robotics works with mujoco <3.17, found 4.0.0: pip install gymnasium-robotics 'mujoco<3.17'"
    )


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("AntMaze_UMaze-v5", "gymnasium-robotics"), ("Meta-World/MT1", "Metaworld"), ("dm_control/reacher-easy-v0", "dm_control"),
        ("visual-antmaze-medium-v0", "OGBench"), ("cube-single-v0", "OGBench"), ("gym_pusht/PushT-v0", "Push-T"),
    ],
)  # fmt: skip
def test_ids_of_the_field_belong_to_their_packages(name, package):
    assert field.family_of(name).name == package
    assert field.family_of("Pendulum-v1") is None


def test_two_rooms_by_its_gymnasium_id_gives_the_model_what_it_was_trained_on(tmp_path):
    folder = train(
        small(recipes.load("latents.known_rooms", ["data.count=32"])), root=tmp_path, name="r", quiet=True
    ).folder
    acted = planning.plan(
        folder,
        "tacit.worlds.rooms.env:tacit/TwoRooms-v0",
        [*QUICK, "steps=3", "execute=3"],
        episodes=2,
        out=tmp_path / "p",
    )
    assert acted.played["learned model"].steps.tolist() == [3, 3]
