"""Poses of a robot's hand and the steps between them. Every function is pure.

A state is [x, y, z, a, b, c, g]: metres in the frame of the robot's base, extrinsic Euler angles about x, y, z in radians
(R = Rz(c) Ry(b) Rx(a)), and how far the gripper is closed, from 0 to 1. An action is what leads from one state to the next:

    action(s, s') = [p' - p,  euler(R' R^T),  g' - g]           moved(s, a) = [p + dp,  euler(R(da) R),  clip(g + dg, 0, 1)]

so that moved(s, action(s, s')) = s' up to the naming of angles. Source: V-JEPA 2-AC (arXiv 2506.09985, section 3).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["STATE", "action_between", "euler_of", "in_camera", "moved", "planar_turn", "rotation_of"]

STATE = 7


def rotation_of(euler: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """The rotation Rz(c) Ry(b) Rx(a) of extrinsic Euler angles (a, b, c) in radians."""
    (sa, sb, sc), (ca, cb, cc) = euler.sin().unbind(-1), euler.cos().unbind(-1)
    rows = (
        (cb * cc, sa * sb * cc - ca * sc, ca * sb * cc + sa * sc),
        (cb * sc, sa * sb * sc + ca * cc, ca * sb * sc - sa * cc),
        (-sb, sa * cb, ca * cb),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def euler_of(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """Extrinsic Euler angles about x, y, z of a rotation, the middle one within a quarter turn.

    Where the middle angle is a quarter turn the other two turn about one axis: the last is then 0.
    """
    r = rotation
    across = (r[..., 0, 0].square() + r[..., 1, 0].square()).sqrt()  # cosine of the middle angle
    locked = across < 1e-6
    one = torch.ones_like(across)
    a = torch.where(locked, torch.atan2(-r[..., 1, 2], r[..., 1, 1]), torch.atan2(r[..., 2, 1], r[..., 2, 2]))
    c = torch.where(locked, 0 * one, torch.atan2(r[..., 1, 0], r[..., 0, 0]))
    return torch.stack([a, torch.atan2(-r[..., 2, 0], across), c], -1)


def action_between(state: Float[Tensor, "*n 7"], following: Float[Tensor, "*n 7"]) -> Float[Tensor, "*n 7"]:
    """The action that leads from one state to another."""
    turn = rotation_of(following[..., 3:6]) @ rotation_of(state[..., 3:6]).transpose(-1, -2)
    straight = following - state
    return torch.cat([straight[..., :3], euler_of(turn), straight[..., 6:]], -1)


def moved(state: Float[Tensor, "*n 7"], action: Float[Tensor, "*n 7"]) -> Float[Tensor, "*n 7"]:
    """The state after an action; the gripper stops at open and at closed."""
    turned = rotation_of(action[..., 3:6]) @ rotation_of(state[..., 3:6])
    grip = (state[..., 6:] + action[..., 6:]).clamp(0, 1)
    return torch.cat([state[..., :3] + action[..., :3], euler_of(turned), grip], -1)


def in_camera(state: Float[Tensor, "*n 7"], camera: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n 7"]:
    """The same hand in the frame of a camera whose pose [x, y, z, a, b, c] is given in the base's: T_camera^-1 T_hand."""
    back = rotation_of(camera[..., 3:6]).transpose(-1, -2)
    place = (back @ (state[..., :3] - camera[..., :3]).unsqueeze(-1)).squeeze(-1)
    return torch.cat([place, euler_of(back @ rotation_of(state[..., 3:6])), state[..., 6:]], -1)


def planar_turn(inferred: Float[Tensor, "n 2"], true: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "2 2"], float]:
    """The map W of least |inferred W - true|^2, and by what angle in radians the inferred actions are turned against the true ones.

    A model whose camera stands elsewhere than it believes infers turned actions: W's nearest rotation, U V^T of its singular value
    decomposition, turns them back. Source: arXiv 2506.09985, appendix on the camera's position.
    """
    w = torch.linalg.lstsq(inferred, true).solution
    u, _, v = torch.linalg.svd(w)
    r = u @ v  # inferred r = true, row by row: inferred = true r^T, turned counter-clockwise by r's angle
    return w, float(torch.atan2(r[1, 0] - r[0, 1], r[0, 0] + r[1, 1]))
