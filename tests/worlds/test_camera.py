"""The moving camera: scenes without edges, clips whose motion is the recorded one, an environment that agrees with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.worlds.camera import SIZE, CameraClips, Cameras, CameraTasks, camera_tasks, canvases, look

gymnasium = pytest.importorskip("gymnasium")


def test_a_whole_pixel_of_motion_shifts_the_picture():
    scenes = canvases(range(3), 0, "train")
    position = torch.tensor([[[5.0, 60.0], [7.0, 61.0]]]).expand(3, -1, -1)
    a, b = look(scenes, position, 16).unbind(1)
    assert torch.equal(a[:, 1:, 2:], b[:, :-1, :-2])


def test_the_canvas_has_no_edge_and_half_a_pixel_is_the_mean():
    scenes = canvases([4], 0, "test")
    at = torch.tensor([[[3.0, 9.0], [3.0 + SIZE, 9.0 - SIZE], [3.5, 9.0]]])
    a, b, half = look(scenes, at, 20)[0].float()
    assert torch.equal(a, b)
    assert (half[:, :-1] - (a[:, :-1] + a[:, 1:]) / 2).abs().max() <= 1.01  # all are rounded
    ends = (scenes[0, :, 0] - scenes[0, :, -1]).abs().mean(), (scenes[0, :, 31] - scenes[0, :, 32]).abs().mean()
    assert ends[0] < 40 and ends[1] < 40


def test_clips_are_functions_of_their_index_and_move_as_they_say():
    source = CameraClips(count=40, frames=5, speed=1.5)
    whole, some = source.read(range(40)), source.read([7, 3])
    assert torch.equal(whole.views["image"].data[[7, 3]], some.views["image"].data)
    moved = whole.facts["position"].diff(dim=1)
    torch.testing.assert_close(moved, whole.action[:, :-1])
    assert whole.action.abs().max() <= 3.0
    big = CameraClips(count=2000, frames=3, speed=1.5, smooth=0.5).read(range(2000)).action
    assert abs(float(torch.corrcoef(torch.stack([big[:, 0, 0], big[:, 1, 0]]))[0, 1]) - 0.5) < 0.06


def test_replay_of_the_recorded_motion_is_the_clip_and_of_none_its_first_frame():
    source = CameraClips(count=8)
    batch = source.read(range(8))
    assert torch.equal(source.replay(batch, batch.action).views["image"].data, batch.views["image"].data)
    still = source.replay(batch, torch.zeros_like(batch.action)).views["image"].data
    assert torch.equal(still, batch.views["image"].data[:, :, :1].expand_as(still))


def test_splits_share_no_scene_and_names_are_checked():
    train, test = (CameraClips(split=s).read([0]).views["image"].data for s in ("train", "test"))
    assert not torch.equal(train, test)
    with pytest.raises(UnknownNameError) as caught:
        CameraClips(split="tset")
    assert str(caught.value) == "no split named 'tset'. Did you mean 'test'? Known: test, train, valid."
    with pytest.raises(DataError) as outside:
        CameraClips(count=4).read([4])
    assert str(outside.value) == "clips are numbered from 0 to 3, found 4 to 4"


def test_tasks_have_goals_out_of_reach_of_standing_still():
    tasks = camera_tasks(200)
    away = (tasks.goal - tasks.start).norm(dim=1)
    assert (away > 1).all() and away.max() < 10
    same = CameraTasks(tasks.canvas, tasks.start, tasks.start, 16, 2.0)
    with pytest.raises(DataError) as caught:
        Cameras(same)
    assert str(caught.value) == "the goal equals the start: there is nothing to plan; choose another goal"


@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")  # actions are pixels
def test_gymnasiums_own_checker_passes_and_the_oracle_arrives():
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make("tacit.worlds.camera.env:tacit/MovingCamera-v0", render_mode="rgb_array").unwrapped
    check_env(env)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        ended = False
        while not ended:
            seen, _, _, ended, info = env.step(env.oracle())
        assert info["success"] and info["distance"] < 1e-3
        np.testing.assert_array_equal(seen, info["goal_image"])
    with pytest.raises(DataError) as caught:
        env.step(np.array([9.0, 0.0]))
    assert str(caught.value) == "action [9.0, 0.0] is not in the space of two numbers within 2: clip it or raise bound"
    with pytest.raises(DataError) as nan:
        Cameras(camera_tasks(2)).step(torch.full((2, 2), torch.nan))
    assert str(nan.value) == "an action needs finite numbers, found 4 that are not"
