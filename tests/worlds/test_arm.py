"""The arm: its joints, its pictures, its tasks, its episodes, and its environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.spec import Spec
from tacit.ops.pose import in_camera, moved
from tacit.worlds.arm.body import CUBE
from tacit.worlds.arm.pictures import BOX, CAPSULE, PLANE, SPHERE, Camera, Scene, draw

mujoco = pytest.importorskip("mujoco")

from tacit.worlds.arm.tasks import BUDGET, KINDS, Script, begin, goals, random_task, script, succeeded  # noqa: E402
from tacit.worlds.arm.world import Arm  # noqa: E402


@pytest.fixture(scope="module")
def arm():
    return Arm(side=32)


def test_the_hand_is_where_it_is_put_and_points_down(arm):
    rng = np.random.default_rng(0)
    for _ in range(10):
        place, turn = rng.uniform((0.32, -0.2, 0.05), (0.56, 0.2, 0.3)), rng.uniform(-0.5, 0.5)
        arm.place(place, (0.45, 0.0), turn=turn, grip=0.3)
        np.testing.assert_allclose(arm.state, [*place, 0, 0, turn, 0.3], atol=1e-9)


def test_an_action_moves_the_hand_by_what_it_says(arm):
    arm.place((0.42, 0.0, 0.2), (0.55, 0.2))
    for action in ([0.05, -0.03, 0.04, 0, 0, 0, 0], [-0.04, 0.05, -0.05, 0, 0, 0.2, 0.75], [0, 0, 0, 0, 0, 0, -0.75]):
        before = torch.from_numpy(arm.state)
        arm.step(action)
        expected = moved(before, torch.tensor(action, dtype=torch.float64)).numpy()
        np.testing.assert_allclose(arm.state[:3], expected[:3], atol=0.008)
        np.testing.assert_allclose(arm.state[3:6], expected[3:6], atol=0.02)
        np.testing.assert_allclose(arm.state[6], expected[6], atol=0.05)
    arm.place((0.42, 0.0, 0.04), (0.55, 0.2))
    for _ in range(6):
        arm.step([0, 0, -0.05, 0, 0, 0, 0])
    assert 0.02 < arm.state[2] < 0.03  # no further than the table
    with pytest.raises(DataError, match="an arm takes 7 finite numbers"):
        arm.step([0.0] * 4)


def test_a_cube_between_closed_fingers_is_held_and_comes_along(arm):
    arm.place((0.45, 0.0, CUBE), (0.45, 0.0))
    assert not arm.held
    for action in ([0, 0, 0, 0, 0, 0, 1.0], [0] * 7, [0, 0, 0.05, 0, 0, 0, 0], [0, 0.05, 0.05, 0, 0, 0, 0]):
        arm.step(action)
    assert arm.held and np.linalg.norm(arm.cube - arm.state[:3]) < 0.015 and arm.cube[2] > 0.1
    assert 0.2 < arm.state[6] < 0.6  # as far as the cube lets them
    arm.step([0, 0, 0, 0, 0, 0, -1.0])
    arm.step([0] * 7)
    assert arm.cube[2] < CUBE + 0.005 and not arm.held


@pytest.mark.parametrize("kind", KINDS)
def test_scripts_solve_their_tasks_within_the_budget_and_doing_nothing_does_not(arm, kind):
    for i in range(4):
        task = random_task(kind, 7, i)
        assert task == random_task(kind, 7, i) != random_task(kind, 7, i + 1)
        seen = goals(task, arm)
        assert len(seen) == len(BUDGET[kind]) and len({one.tobytes() for one in seen}) == len(seen)
        begin(task, arm)
        assert not succeeded(task, arm)
        follow = Script(script(task))
        for _ in range(sum(BUDGET[kind])):
            arm.step(follow.act(arm.state))
            follow.look(arm.state)
        assert follow.done and succeeded(task, arm)


def plain_scene(kind, place, size, axes=None):
    axes = np.eye(3) if axes is None else axes
    return Scene(
        np.array([kind]),
        np.array([place], float),
        axes[None].astype(float),
        np.array([size], float),
        np.array([[1.0, 0.0, 0.0]]),
    )


def covered(scene, side=64):
    """The share of the picture that is red, seen from above with a field of view of a right angle."""
    picture = draw(scene, Camera((0.0, -1e-6, 1.0), (0.0, 0.0, 0.0), 90.0), side, 4).astype(int)
    return float((picture[..., 0] > picture[..., 2] + 40).mean())


def test_shapes_cover_the_share_of_the_picture_that_geometry_says():
    """At distance 1 the picture spans 2 x 2: a box of height 0.2 at the ground shows its upper face at 0.8."""
    assert covered(plain_scene(BOX, (0, 0, 0.0), (0.4, 0.2, 0.2))) == pytest.approx(1.0 * 0.5 / 4, rel=0.05)
    assert covered(plain_scene(SPHERE, (0, 0, 0.0), (0.5, 0, 0))) == pytest.approx(np.pi * 0.25 / 0.75 / 4, rel=0.03)
    upright = covered(plain_scene(CAPSULE, (0, 0, -0.2), (0.3, 0.2, 0)))  # from its end: the upper half sphere, at 1
    assert upright == pytest.approx(np.pi * 0.09 / 0.91 / 4, rel=0.05)
    lying = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
    assert covered(plain_scene(CAPSULE, (0, 0, 0.0), (0.1, 0.5, 0), lying)) == pytest.approx(
        (0.2 + np.pi * 0.01) / 4, rel=0.06
    )
    assert covered(plain_scene(PLANE, (0, 0, 0.0), (1, 1, 1))) == 1.0


def test_the_cameras_pose_is_that_of_its_axes():
    """A point ahead of the camera lies on its third axis: in its frame the hand's place has x and y of 0."""
    camera = Camera()
    ahead = np.asarray(camera.place) + 0.7 * camera.axes()[2]
    state = torch.tensor([*ahead, 0, 0, 0, 0], dtype=torch.float64)
    seen = in_camera(state, torch.from_numpy(camera.pose()))
    torch.testing.assert_close(seen[:3], torch.tensor([0, 0, 0.7], dtype=torch.float64), atol=1e-9, rtol=0)


def test_clips_are_windows_of_episodes_and_the_same_again():
    spec = Spec("source", "arm", episodes=2, steps=5, frames=3, side=16)
    source, again = spec.build(), spec.build()
    batch, other = source.read([0, 2, 5]), again.read([5])
    assert len(source) == 8 and batch.views["image"].data.shape == (3, 3, 3, 16, 16) and batch.action.shape == (3, 3, 7)
    assert torch.equal(batch.views["image"].data[2], other.views["image"].data[0])
    assert torch.equal(
        batch.views["image"].data[0, :, 2], batch.views["image"].data[1, :, 0]
    )  # window 2 begins where window 0 ends
    led = moved(batch.facts["state"][:, :-1].double(), batch.action[:, :-1].double())
    torch.testing.assert_close(led[..., :3], batch.facts["state"][:, 1:, :3].double(), atol=1e-6, rtol=0)
    assert batch.action.abs().max() < 1.01 and batch.facts["camera"].shape == (3, 3, 6)
    assert source.digest() != spec.change(noise=0.1).build().digest()
    with pytest.raises(DataError, match="clips are numbered from 0 to 7, found 8 to 8"):
        source.read([8])
    with pytest.raises(DataError, match="an episode of 5 actions has 6 frames, a clip asks for 7"):
        spec.change(frames=7).build()
    with pytest.raises(UnknownNameError, match="no split named 'tests'"):
        spec.change(split="tests").build()


def test_gymnasiums_own_checker_passes():
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make("tacit.worlds.arm.env:tacit/Arm-v0", task="grasp", side=24, render_mode="rgb_array")
    check_env(env.unwrapped)  # any warning is an error here
    _, info = env.reset(options={"key": 5})
    assert info["goal_images"].shape == (2, 24, 24, 3) and info["part"] == 0
    for step in range(sum(BUDGET["grasp"])):
        _seen, reward, ended, cut, info = env.step(np.zeros(4, np.float32))
        assert info["part"] == int(step + 1 >= BUDGET["grasp"][0]) and reward == 0.0 and not ended
    assert cut and np.array_equal(env.reset(options={"key": 5})[1]["goal_images"], info["goal_images"])
    with pytest.raises(UnknownNameError, match=r"no task named 'reech'. Did you mean 'reach'"):
        gymnasium.make("tacit/Arm-v0", task="reech")
