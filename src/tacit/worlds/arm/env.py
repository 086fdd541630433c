"""The arm as a gymnasium environment. Importing this module needs gymnasium and mujoco (`pip install 'tacit[robots]'`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError, UnknownNameError, need, unknown
from tacit.worlds.arm.tasks import BUDGET, KINDS, STEP, Kind, begin, goals, random_task, succeeded
from tacit.worlds.arm.world import Arm

if TYPE_CHECKING:
    import gymnasium
    from gymnasium import spaces
else:
    gymnasium = need("gymnasium", "robots", "the arm's environment")
    spaces = gymnasium.spaces

__all__ = ["ID", "ArmEnv"]

ID = "tacit/Arm-v0"
_TOP = (1 << 62) - 1


class ArmEnv(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """One arm with one task of a kind.

    Observation: uint8 [side side 3]. Action [4]: motion of the hand along x, y, z and of the gripper in [-1, 1], in units of `step` metres
    and of the whole way between open and closed. Reward 1.0 while the task is solved, else 0.0; never terminated, truncated after
    the task's budget. info: state [7], cube [3], goal_images [parts side side 3], part (which of them is the goal now), success.
    reset(options={"key": int}) names the whole task.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  (as its base has it)

    def __init__(
        self, *, task: Kind = "reach", side: int = 64, step: float = STEP, render_mode: str | None = None
    ) -> None:
        if task not in KINDS:
            raise UnknownNameError(unknown("task", task, KINDS))
        if render_mode not in (None, "rgb_array"):
            raise UnknownNameError(unknown("render mode", str(render_mode), ["rgb_array"]))
        self._kind, self._step, self.render_mode = task, step, render_mode
        self._arm = Arm(side=side)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)
        self._steps = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """A new task: a function of the seed, or of options['key'], whatever was played before."""
        super().reset(seed=seed)
        given = options or {}
        for name in given:
            if name != "key":
                raise UnknownNameError(unknown("reset option", name, ["key"]))
        self.task = random_task(self._kind, int(given.get("key", self.np_random.integers(_TOP))), 0)
        self._goals = np.stack(goals(self.task, self._arm))
        begin(self.task, self._arm)
        self._steps = 0
        return self._arm.picture(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """A quarter of a second."""
        if self._steps < 0:
            raise DataError("this environment has no episode yet: call reset first")
        given = np.asarray(action, dtype=np.float64)
        if given.shape != (4,) or not np.isfinite(given).all():
            raise DataError(f"an action has four finite numbers, found {given.tolist()}")
        given = np.clip(given, -1, 1)
        self._arm.step([*(self._step * given[:3]), 0, 0, 0, given[3]])
        self._steps += 1
        info = self._info()
        return self._arm.picture(), float(info["success"]), False, self._steps >= sum(BUDGET[self._kind]), info

    def _info(self) -> dict[str, Any]:
        ends = np.cumsum(BUDGET[self._kind])
        return {
            "state": self._arm.state, "cube": self._arm.cube, "goal_images": self._goals.copy(),
            "part": min(int(np.searchsorted(ends, self._steps, side="right")), len(ends) - 1), "success": succeeded(self.task, self._arm),
        }  # fmt: skip

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """uint8 [side side 3]; None without a render mode."""
        return None if self.render_mode is None else self._arm.picture()


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point="tacit.worlds.arm.env:ArmEnv", max_episode_steps=None)
