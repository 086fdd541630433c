"""Two Rooms as a gymnasium environment. Importing this module needs gymnasium (`pip install 'tacit[worlds]'`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core.errors import DataError, UnknownNameError, need, unknown
from tacit.worlds.rooms.dynamics import Rule
from tacit.worlds.rooms.episodes import CRITERIA, Criterion
from tacit.worlds.rooms.layouts import SIZE, Layouts, fixed_layouts
from tacit.worlds.rooms.tasks import Level, Tasks, random_tasks
from tacit.worlds.rooms.world import NEAR_GOAL, Rooms

if TYPE_CHECKING:
    import gymnasium
    from gymnasium import spaces
else:
    gymnasium = need("gymnasium", "worlds", "the Two Rooms environment")
    spaces = gymnasium.spaces

__all__ = ["ID", "RoomsEnv"]

ID = "tacit/TwoRooms-v0"
_OPTIONS = ("goal", "key", "layout", "start")
_TOP = (1 << 63) - 1


class RoomsEnv(gymnasium.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """One world; the same numbers as `Rooms` under the same key.

    Observation: uint8 [2 65 65] (dot, walls). Action: a displacement in pixels, each coordinate within max_step; what lies
    outside is refused with a sentence, or clipped. Reward 1.0 while the goal is reached (mean squared coordinate error below 1),
    else 0.0. criterion 'pldm' terminates there; the others never do: 'eb-jepa' judges the last step, 'dino-wm' any.
    Truncated after exactly `steps` actions. info: position, goal, goal_image, distance, success (by the criterion, so far), wall,
    door, key.

    reset(options=...) takes any of start=(x, y), goal=(x, y), layout=(wall, door), key=int (names the whole task).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  (as its base has it)

    def __init__(
        self,
        *,
        criterion: Criterion = "eb-jepa",
        level: Level = "medium",
        layout: tuple[float, float] | None = None,
        rule: Rule = "bounce",
        steps: int = 200,
        max_step: float = 2.45,
        outside: Literal["refuse", "clip"] = "refuse",
        render_mode: str | None = None,
    ) -> None:
        if criterion not in CRITERIA:
            raise UnknownNameError(unknown("criterion", criterion, CRITERIA))
        if render_mode not in (None, "rgb_array"):
            raise UnknownNameError(unknown("render mode", str(render_mode), ["rgb_array"]))
        if not 0 < max_step <= 5.6:
            raise DataError(
                f"max_step={max_step}: a coordinate may move by up to 5.6 pixels; longer steps could pass the wall"
            )
        if steps < 1:
            raise DataError(f"steps={steps}: an episode has at least one step")
        self._criterion, self._level, self._layout, self._rule = criterion, level, layout, rule
        self._steps, self._outside, self.render_mode = steps, outside, render_mode
        self.action_space = spaces.Box(-max_step, max_step, (2,), np.float32)
        self.observation_space = spaces.Box(0, 255, (2, SIZE, SIZE), np.uint8)
        self._world: Rooms | None = None
        self._success = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """A new task: a function of the seed, or of options['key'], whatever was played before."""
        super().reset(seed=seed)
        given = options or {}
        for name in given:
            if name not in _OPTIONS:
                raise UnknownNameError(unknown("reset option", name, _OPTIONS))
        self._key = int(given.get("key", self.np_random.integers(_TOP)))
        fixed = given.get("layout", self._layout)
        layouts = None if fixed is None else fixed_layouts(1, *(float(x) for x in fixed))
        task = random_tasks(torch.tensor([self._key]), self._level, layouts)
        start = self._place(given, "start", task.start)
        goal = self._place(given, "goal", task.goal)
        self._begin(task.layouts, start, goal)
        return self._look()

    def _place(self, given: dict[str, Any], name: str, drawn: torch.Tensor) -> torch.Tensor:
        if name not in given:
            return drawn
        place = torch.as_tensor(np.asarray(given[name], dtype=np.float32))
        if place.shape != (2,):
            raise DataError(f"reset option {name!r} needs two numbers (x, y) in pixels, found {given[name]!r}")
        return place.unsqueeze(0)

    def _begin(self, layouts: Layouts, start: torch.Tensor, goal: torch.Tensor) -> None:
        self._world = Rooms(Tasks(layouts, start, goal, torch.tensor([self._key])), rule=self._rule)
        self._goal_image = self._world.goal_picture()[0].numpy()
        self._success = False

    @property
    def world(self) -> Rooms:
        """The vectorised world of this episode, with n = 1."""
        if self._world is None:
            raise DataError("this environment has no episode yet: call reset first")
        return self._world

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move by `action` [2] pixels."""
        world, space = self.world, self.action_space
        given = np.asarray(action, dtype=np.float32)
        if given.shape != (2,):
            raise DataError(f"an action has the shape (2,), found {given.shape}")
        if not np.isfinite(given).all():
            raise DataError(f"an action needs finite numbers, found {given.tolist()}")
        assert isinstance(space, spaces.Box)  # noqa: S101  (for the type checker)
        if self._outside == "clip":
            given = np.clip(given, space.low, space.high)
        elif not space.contains(given):
            raise DataError(
                f"action {given.tolist()} lies outside the bounds {space.low.tolist()} to {space.high.tolist()}: "
                "clip it, or make the environment with outside='clip' or a larger max_step"
            )
        world.step(torch.from_numpy(given).unsqueeze(0))
        reached = bool(world.reached[0])
        now = bool(world.error()[0] < 1)
        near = bool(world.distance()[0] < NEAR_GOAL)
        self._success = {"pldm": reached, "eb-jepa": near, "dino-wm": near or self._success}[self._criterion]
        picture, info = self._look()
        ended = reached and self._criterion == "pldm"
        return picture, float(now), ended, world.steps >= self._steps, info

    def _look(self) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        world = self.world
        info = {
            "position": world.position[0].numpy().copy(),
            "goal": world.tasks.goal[0].numpy().copy(),
            "goal_image": self._goal_image.copy(),
            "distance": float(world.distance()[0]),
            "success": self._success,
            "wall": float(world.tasks.layouts.wall[0]),
            "door": float(world.tasks.layouts.door[0]),
            "key": self._key,
        }
        return world.picture()[0].numpy(), info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """uint8 [65 65 3]: dot red, walls white, goal green; None without a render mode."""
        if self.render_mode is None:
            return None
        dot, walls = self.world.picture()[0].numpy()
        return np.stack([np.maximum(dot, walls), np.maximum(self._goal_image[0], walls), walls], -1)


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point="tacit.worlds.rooms.env:RoomsEnv", max_episode_steps=None)
