"""Two Rooms as a gymnasium environment."""

import importlib
import sys

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, MissingExtraError, UnknownNameError
from tacit.worlds.rooms import Rooms, random_tasks

gymnasium = pytest.importorskip("gymnasium")


@pytest.fixture
def make():
    from tacit.worlds.rooms.env import RoomsEnv

    return RoomsEnv


@pytest.mark.filterwarnings(
    "ignore:.*we recommend using a symmetric and normalized space"
)  # actions are pixels, as published
@pytest.mark.parametrize("criterion", ["eb-jepa", "pldm"])
def test_gymnasiums_own_checker_passes(make, criterion):
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make("tacit.worlds.rooms.env:tacit/TwoRooms-v0", criterion=criterion, render_mode="rgb_array")
    check_env(env.unwrapped)  # any other warning is an error here


@pytest.mark.parametrize("rule", ["bounce", "stay-put"])
def test_equals_the_vectorised_world(make, rule):
    env = make(rule=rule)
    seen, info = env.reset(options={"key": 12345})
    worlds = Rooms(random_tasks(torch.tensor([12345, 6])), rule=rule)
    rng = np.random.default_rng(0)
    for _ in range(60):
        np.testing.assert_array_equal(info["position"], worlds.position[0].numpy())
        np.testing.assert_array_equal(seen, worlds.picture()[0].numpy())
        action = rng.uniform(-2.4, 2.4, 2).astype(np.float32)
        seen, _, _, _, info = env.step(action)
        worlds.step(torch.from_numpy(action).expand(2, 2))
    np.testing.assert_array_equal(info["goal_image"], worlds.goal_picture()[0].numpy())


def test_a_seed_names_the_task_whatever_was_played_before(make):
    one, two = make(), make()
    two.reset(seed=5)
    two.step(np.ones(2, dtype=np.float32))
    _, a = one.reset(seed=3)
    _, b = two.reset(seed=3)
    _, c = one.reset()
    _, d = two.reset()
    assert a["key"] == b["key"] != c["key"] == d["key"]
    np.testing.assert_array_equal(a["goal"], b["goal"])


def test_truncates_after_exactly_the_budget_and_rewards_the_goal(make):
    env = make(steps=3, criterion="pldm")
    env.reset(seed=0, options={"start": (10.0, 30.0), "goal": (12.0, 30.0), "layout": (32, 18)})
    right = np.array([0.5, 0.0], dtype=np.float32)
    first, second = env.step(right), env.step(right)
    assert first[1:4] == (0.0, False, False)
    assert second[1:4] == (1.0, True, False)  # 1 pixel away: mean squared error 0.5
    assert second[4]["success"]
    never = make(steps=3)
    never.reset(seed=0, options={"start": (10.0, 30.0), "goal": (12.0, 30.0), "layout": (32, 18)})
    assert [never.step(right)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_fixed_layout_and_picture(make):
    env = make(layout=(32, 10), render_mode="rgb_array")
    _, info = env.reset(seed=1)
    assert (info["wall"], info["door"]) == (32, 10)
    assert env.render().shape == (65, 65, 3)
    assert make().render() is None


def test_bad_input_is_refused_in_one_sentence(make):
    env = make()
    with pytest.raises(DataError, match=r"this environment has no episode yet: call reset first"):
        env.step(np.zeros(2, dtype=np.float32))
    env.reset(seed=0)
    with pytest.raises(
        DataError, match=r"action \[3.0, 0.0\] lies outside the bounds .*: clip it, or make the environment"
    ):
        env.step(np.array([3.0, 0.0]))
    with pytest.raises(DataError, match=r"an action needs finite numbers"):
        env.step(np.array([np.nan, 0.0]))
    with pytest.raises(DataError, match=r"an action has the shape \(2,\), found \(3,\)"):
        env.step(np.zeros(3))
    with pytest.raises(UnknownNameError, match=r"no reset option named 'location'"):
        env.reset(options={"location": (1, 2)})
    with pytest.raises(DataError, match=r"reset option 'start' needs two numbers \(x, y\) in pixels"):
        env.reset(options={"start": (1, 2, 3)})
    with pytest.raises(DataError, match=r"wall=3.0: a wall stands between 20 and 44 pixels"):
        env.reset(options={"layout": (3, 18)})
    with pytest.raises(DataError, match=r"longer steps could pass the wall"):
        make(max_step=9)
    with pytest.raises(DataError, match=r"steps=0: an episode has at least one step"):
        make(steps=0)
    with pytest.raises(UnknownNameError, match=r"no criterion named 'pldn'. Did you mean 'pldm'"):
        make(criterion="pldn")
    with pytest.raises(UnknownNameError, match=r"no render mode named 'human'"):
        make(render_mode="human")
    clipped, plain = make(outside="clip"), make()
    for one in (clipped, plain):
        one.reset(seed=2)
    far = clipped.step(np.array([9.0, -9.0]))[4]["position"]
    near = plain.step(np.array([2.45, -2.45], dtype=np.float32))[4]["position"]
    np.testing.assert_array_equal(far, near)


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "tacit.worlds.rooms.env", raising=False)
    with pytest.raises(
        MissingExtraError, match=r"the Two Rooms environment needs the package 'gymnasium'.*tacit\[worlds\]"
    ):
        importlib.import_module("tacit.worlds.rooms.env")
