"""The moving camera as a gymnasium environment. Importing this module needs gymnasium (`pip install 'tacit[worlds]'`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core.errors import DataError, need
from tacit.worlds.camera.world import REACHED, Cameras, camera_tasks

if TYPE_CHECKING:
    import gymnasium
    from gymnasium import spaces
else:
    gymnasium = need("gymnasium", "worlds", "the moving camera environment")
    spaces = gymnasium.spaces

__all__ = ["ID", "CameraEnv"]

ID = "tacit/MovingCamera-v0"
_TOP = (1 << 62) - 1


class CameraEnv(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """One camera over one canvas. Observation uint8 [1 side side]; action: motion in pixels, each coordinate within `bound`.

    Reward 1.0 while the goal is less than a pixel away, else 0.0; never terminates; truncated after `steps` actions.
    info: position, goal, goal_image, distance, success (now). A task is a function of the seed of `reset`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (as its base has it)

    def __init__(
        self, *, side: int = 16, far: float = 6.0, bound: float = 2.0, steps: int = 12, render_mode: str | None = None
    ) -> None:
        self._side, self._far, self._bound, self._steps, self.render_mode = side, far, bound, steps, render_mode
        self.action_space = spaces.Box(-bound, bound, (2,), np.float32)
        self.observation_space = spaces.Box(0, 255, (1, side, side), np.uint8)
        self._world: Cameras | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """A new scene, start and goal; there are no options."""
        super().reset(seed=seed)
        if options:
            raise DataError(f"the moving camera has no reset options, found {', '.join(sorted(options))}")
        key = int(self.np_random.integers(_TOP))
        self._world = Cameras(camera_tasks(1, key, side=self._side, far=self._far, bound=self._bound))
        return self._look()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move by `action` [2] pixels."""
        if self._world is None:
            raise DataError("this environment has no episode yet: call reset first")
        given = np.asarray(action, dtype=np.float32)
        if given.shape != (2,) or not self.action_space.contains(given):
            raise DataError(
                f"action {given.tolist()} is not in the space of two numbers within {self._bound:g}: clip it or raise bound"
            )
        self._world.step(torch.from_numpy(given).unsqueeze(0))
        picture, info = self._look()
        return picture, float(info["success"]), False, self._world.steps >= self._steps, info

    def oracle(self) -> NDArray[np.float32]:
        """The motion straight to the goal, which reads both positions."""
        if self._world is None:
            raise DataError("this environment has no episode yet: call reset first")
        way = self._world.tasks.goal[0] - self._world.position[0]
        return way.clamp(-self._bound, self._bound).numpy()

    def _look(self) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        world = self._world
        assert world is not None  # noqa: S101  (both callers have made it)
        distance = float(world.distance()[0])
        info = {
            "position": world.position[0].numpy().copy(),
            "goal": world.tasks.goal[0].numpy().copy(),
            "goal_image": world.goal_picture()[0].numpy(),
            "distance": distance,
            "success": distance < REACHED,
        }
        return world.picture()[0].numpy(), info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """uint8 [side side 3], grey; None without a render mode."""
        if self.render_mode is None or self._world is None:
            return None
        return self._world.picture()[0, 0].numpy()[..., None].repeat(3, -1)


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point="tacit.worlds.camera.env:CameraEnv", max_episode_steps=None)
