"""The arm's body: its parts as MuJoCo reads them, and the joint angles that bring the hand to a place."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["CUBE", "HIGH", "LOW", "OPEN", "joints_for", "mjcf"]

SHOULDER, UPPER, FORE, HAND = (
    0.3,
    0.34,
    0.34,
    0.17,
)  # height of the shoulder; lengths of the links, the hand's to between its fingertips
OPEN = 0.04  # how far a finger stands from the middle when the gripper is open
CUBE = 0.025  # half a side of the cube
LOW, HIGH = (0.3, -0.25, 0.025), (0.6, 0.25, 0.33)  # where the hand may go

_LINK = 'type="capsule" size="0.035" mass="0.5" contype="0" conaffinity="0"'


def mjcf() -> str:
    """The model: five hinges that servos turn (base, shoulder, elbow, wrist pitch, wrist roll), two fingers, a table, a cube.

    Links pass through each other and weigh nothing for the servos (gravity is compensated); fingers, cube and table touch.
    """
    servo = 'kp="400" dampratio="1" forcerange="-200 200"'
    names = ("base", "shoulder", "elbow", "pitch", "roll")
    servos = "".join(f'<position name="{name}" joint="{name}" {servo}/>' for name in names)
    fingers = "".join(
        f'<position name="{name}" joint="{name}" kp="400" kv="12" forcerange="-8 8" ctrlrange="0 {OPEN}"/>'
        for name in ("left", "right")
    )
    finger = (
        '<body name="finger-{name}" pos="0.13 {offset} 0" gravcomp="1">'
        f'<joint name="{{name}}" type="slide" axis="0 {{side}} 0" range="0 {OPEN}" damping="1" armature="0.01"/>'
        '<geom name="finger-{name}" type="box" size="0.045 0.007 0.016" mass="0.05" rgba="0.15 0.15 0.2 1" friction="2 0.05 0.001" '
        'condim="4"/></body>'
    )
    left, right = finger.format(name="left", side=1, offset=0.007), finger.format(name="right", side=-1, offset=-0.007)
    joint = '<joint name="{}" axis="{}" armature="0.05" damping="2"/>'
    return f"""
<mujoco model="arm">
  <option timestep="0.01" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <worldbody>
    <geom name="table" type="plane" size="2 2 0.1" rgba="0.62 0.55 0.45 1" friction="1 0.005 0.0001"/>
    <geom name="foot" type="box" size="0.08 0.08 0.11" pos="0 0 0.11" rgba="0.25 0.25 0.28 1" contype="0" conaffinity="0"/>
    <body name="base" pos="0 0 {SHOULDER}" gravcomp="1">{joint.format("base", "0 0 1")}
      <geom name="hub" type="sphere" size="0.06" mass="0.5" rgba="0.3 0.3 0.34 1" contype="0" conaffinity="0"/>
      <body name="upper" gravcomp="1">{joint.format("shoulder", "0 -1 0")}
        <geom name="upper" {_LINK} fromto="0 0 0 {UPPER} 0 0" rgba="0.9 0.9 0.92 1"/>
        <body name="fore" pos="{UPPER} 0 0" gravcomp="1">{joint.format("elbow", "0 -1 0")}
          <geom name="fore" {_LINK} fromto="0 0 0 {FORE} 0 0" rgba="0.85 0.45 0.15 1"/>
          <body name="wrist" pos="{FORE} 0 0" gravcomp="1">{joint.format("pitch", "0 -1 0")}
            <geom name="wrist" type="sphere" size="0.04" mass="0.2" rgba="0.3 0.3 0.34 1" contype="0" conaffinity="0"/>
            <body name="hand" gravcomp="1">{joint.format("roll", "1 0 0")}
              <geom name="palm" type="box" size="0.03 0.06 0.03" pos="0.06 0 0" mass="0.2" rgba="0.2 0.35 0.75 1" contype="0"
                    conaffinity="0"/>
              <site name="tip" pos="{HAND} 0 0" euler="0 -90 0"/>
              {left}{right}
            </body>
          </body>
        </body>
      </body>
    </body>
    <body name="cube" pos="0.45 0 {CUBE}"><freejoint/>
      <geom name="cube" type="box" size="{CUBE} {CUBE} {CUBE}" mass="0.05" rgba="0.8 0.12 0.12 1" friction="2 0.05 0.001" condim="4"/>
    </body>
  </worldbody>
  <actuator>{servos}{fingers}</actuator>
</mujoco>"""


def joints_for(place: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """The five angles that hold the hand at a place [x y z], pointing down and turned by `turn` about the vertical; elbow up.

    Beyond the arm's reach it is the nearest place in that direction.
    """
    x, y, z = (float(v) for v in place)
    across, up = math.hypot(x, y), z + HAND - SHOULDER
    far = min(max(math.hypot(across, up), abs(UPPER - FORE) + 1e-3), UPPER + FORE - 1e-4)
    elbow = -math.acos((far * far - UPPER * UPPER - FORE * FORE) / (2 * UPPER * FORE))
    shoulder = math.atan2(up, across) - math.atan2(FORE * math.sin(elbow), UPPER + FORE * math.cos(elbow))
    base = math.atan2(y, x)
    return np.array([base, shoulder, elbow, -math.pi / 2 - shoulder - elbow, base - turn])
