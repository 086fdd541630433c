"""The arm under MuJoCo: commands of a hand four times a second, what the hand's state is, and a picture."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError, need
from tacit.worlds.arm.body import CUBE, HIGH, LOW, OPEN, joints_for, mjcf
from tacit.worlds.arm.pictures import Camera, Scene, draw

if TYPE_CHECKING:
    import mujoco
else:
    mujoco = need("mujoco", "robots", "the robot's arm")

__all__ = ["PERIOD", "Arm"]

PERIOD = 0.25  # seconds between commands
_DRAWN = ("table", "foot", "hub", "upper", "fore", "wrist", "palm", "finger-left", "finger-right", "cube")
_LEAD = 0.03  # metres that a command may be ahead of the hand: a hand that is held up does not wind up
Array = NDArray[np.float64]


@functools.cache
def _model() -> Any:
    """The compiled model; it is never changed, and shared by all arms of a process."""
    return mujoco.MjModel.from_xml_string(mjcf())


class Arm:
    """One arm and one cube. The hand points down; it takes [dx dy dz, turns about x, y, z, dg] and uses the turn about z alone.

    The servos follow a command that each action moves on from where it is, within the box LOW to HIGH; the gripper's holds on, so that a
    grasped cube stays grasped under an action of 0. `state` is measured, not commanded.
    """

    def __init__(self, camera: Camera | None = None, side: int = 64) -> None:
        self.camera, self.side = camera or Camera(), side
        self._model = _model()
        self._data = mujoco.MjData(self._model)
        self._tip = self._model.site("tip").id
        self._cube = self._model.body("cube").id
        self._geoms = [self._model.geom(name).id for name in _DRAWN]
        self.place((0.45, 0.0, 0.2), (0.45, 0.1))

    def place(self, hand: Any, cube: Any, *, turn: float = 0.0, grip: float = 0.0) -> None:
        """Begin with the hand at [x y z] and the cube at [x y] on the table."""
        mujoco.mj_resetData(self._model, self._data)
        self._place, self._turn, self._grip = np.clip(np.asarray(hand, float), LOW, HIGH), float(turn), float(grip)
        angles = joints_for(self._place, self._turn)
        self._data.qpos[:5], self._data.ctrl[:5] = angles, angles
        self._data.qpos[5:7] = self._data.ctrl[5:7] = OPEN * (1 - self._grip)
        self._data.qpos[7:10] = (*np.asarray(cube, float), CUBE)
        mujoco.mj_forward(self._model, self._data)

    def step(self, action: Any) -> None:
        """One action [7]: PERIOD seconds, the command moving evenly to its new place."""
        given = np.asarray(action, dtype=np.float64)
        if given.shape != (7,) or not np.isfinite(given).all():
            raise DataError(f"an arm takes 7 finite numbers (place, three turns, gripper), found {given.tolist()}")
        place, turn = self._place, self._turn
        hand = self._data.site_xpos[self._tip]
        self._place = np.clip(np.clip(self._place, hand - _LEAD, hand + _LEAD) + given[:3], LOW, HIGH)
        self._turn += float(given[5])
        self._grip = min(1.0, max(0.0, self._grip + float(given[6])))
        self._data.ctrl[5:7] = OPEN * (1 - self._grip)
        steps = round(PERIOD / self._model.opt.timestep)
        for i in range(steps):
            share = min(
                1.0, (i + 1) / (0.6 * steps)
            )  # there before the end, so that the hand stands still when it is seen
            self._data.ctrl[:5] = joints_for(place + share * (self._place - place), turn + share * (self._turn - turn))
            mujoco.mj_step(self._model, self._data)

    @property
    def state(self) -> Array:
        """[x y z, Euler angles about x, y, z, closedness] of the hand, measured."""
        r = self._data.site_xmat[self._tip].reshape(3, 3)
        angles = (
            math.atan2(r[2, 1], r[2, 2]),
            math.atan2(-r[2, 0], math.hypot(r[0, 0], r[1, 0])),
            math.atan2(r[1, 0], r[0, 0]),
        )
        closed = 1 - float(np.mean(self._data.qpos[5:7])) / OPEN
        return np.array([*self._data.site_xpos[self._tip], *angles, min(1.0, max(0.0, closed))])

    @property
    def cube(self) -> Array:
        """The middle of the cube [x y z]."""
        return self._data.xpos[self._cube].copy()  # type: ignore[no-any-return]

    @property
    def held(self) -> bool:
        """Whether both fingers touch the cube."""
        names = {self._model.geom(name).id: name for name in ("finger-left", "finger-right", "cube")}
        touching = set()
        for contact in self._data.contact[: self._data.ncon]:
            pair = {names.get(int(contact.geom1)), names.get(int(contact.geom2))}
            if "cube" in pair:
                touching |= pair
        return {"finger-left", "finger-right"} <= touching

    def scene(self) -> Scene:
        """The shapes as they stand."""
        ids, model, data = self._geoms, self._model, self._data
        return Scene(
            model.geom_type[ids].astype(np.int64), data.geom_xpos[ids].copy(), data.geom_xmat[ids].reshape(-1, 3, 3).copy(),
            model.geom_size[ids].astype(np.float64), model.geom_rgba[ids, :3].astype(np.float64),
        )  # fmt: skip

    def picture(self) -> NDArray[np.uint8]:
        """uint8 [side side 3]."""
        return draw(self.scene(), self.camera, self.side)
