"""The algebra of the hand's poses, beside scipy's rotations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tacit.ops.pose import action_between, euler_of, in_camera, moved, planar_turn, rotation_of


def states(n=200, seed=0):
    rng = np.random.default_rng(seed)
    turns = Rotation.random(n, rng).as_euler("xyz")
    return torch.from_numpy(np.concatenate([rng.normal(size=(n, 3)), turns, rng.uniform(size=(n, 1))], 1))


def test_angles_are_scipys_extrinsic_xyz():
    s = states()
    theirs = Rotation.from_euler("xyz", s[:, 3:6].numpy())
    torch.testing.assert_close(rotation_of(s[:, 3:6]), torch.from_numpy(theirs.as_matrix()))
    torch.testing.assert_close(euler_of(rotation_of(s[:, 3:6])), torch.from_numpy(theirs.as_euler("xyz")))


def test_the_action_between_two_states_leads_from_one_to_the_other():
    s, t = states(seed=1), states(seed=2)
    back = moved(s, action_between(s, t))
    assert (back[:, :3] - t[:, :3]).abs().max() < 1e-14
    assert (rotation_of(back[:, 3:6]) - rotation_of(t[:, 3:6])).abs().max() < 1e-12
    assert (back[:, 6] - t[:, 6]).abs().max() < 1e-15


def test_angles_wrap_but_actions_stay_small():
    before, after = torch.zeros(2, 7, dtype=torch.float64).unbind(0)
    before[5], after[5] = math.pi - 0.01, -math.pi + 0.01
    assert action_between(before, after)[5].item() == pytest.approx(0.02)


@pytest.mark.parametrize("b", [math.pi / 2, -math.pi / 2])
def test_a_quarter_turn_of_the_middle_angle_keeps_the_rotation(b):
    euler = torch.tensor([0.3, b, 0.7], dtype=torch.float64)
    found = euler_of(rotation_of(euler))
    assert (rotation_of(found) - rotation_of(euler)).abs().max() < 1e-7
    assert found[2] == 0


def test_the_gripper_saturates_and_nothing_moves_under_no_action():
    s = states(3)
    assert moved(s, torch.tensor([0.0, 0, 0, 0, 0, 0, 2.0]).double().expand(3, 7))[:, 6].tolist() == [1.0, 1.0, 1.0]
    assert moved(s, torch.tensor([0.0, 0, 0, 0, 0, 0, -2.0]).double().expand(3, 7))[:, 6].tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(moved(s, torch.zeros_like(s)), s)


def test_in_the_frame_of_a_camera_at_the_hand_the_hand_is_at_the_origin():
    s = states(20, seed=3)
    seen = in_camera(s, s[:, :6])
    assert seen[:, :6].abs().max() < 1e-12
    torch.testing.assert_close(seen[:, 6], s[:, 6])
    camera = states(20, seed=4)[:, :6]
    whole = torch.eye(4, dtype=torch.float64).repeat(2, 20, 1, 1)  # by 4 x 4 matrices
    for at, pose in zip(whole, (camera, s), strict=True):
        at[:, :3, :3], at[:, :3, 3] = rotation_of(pose[:, 3:6]), pose[:, :3]
    expected = torch.linalg.inv(whole[0]) @ whole[1]
    found = in_camera(s, camera)
    torch.testing.assert_close(found[:, :3], expected[:, :3, 3])
    torch.testing.assert_close(rotation_of(found[:, 3:6]), expected[:, :3, :3])


@pytest.mark.parametrize("degrees", [-50.0, 0.0, 20.0, 120.0])
def test_turned_actions_are_found_to_be_turned_by_that_angle(degrees):
    rng = torch.Generator().manual_seed(0)
    true = torch.randn(200, 2, generator=rng, dtype=torch.float64)
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    w, found = planar_turn(0.5 * true @ turn.T, true)  # counter-clockwise by the angle, and too short by half
    assert math.degrees(found) == pytest.approx(degrees)
    torch.testing.assert_close(0.5 * true @ turn.T @ w, true)
