"""What the arm is asked to do, and the scripts that do it: reach a place, grasp the cube, pick it up and place it elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tacit.core.random import key
from tacit.worlds.arm.body import CUBE
from tacit.worlds.arm.world import Arm

__all__ = ["BUDGET", "KINDS", "Kind", "Script", "Task", "begin", "goals", "random_task", "script", "succeeded"]

Kind = Literal["reach", "grasp", "pick-and-place"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BUDGET: dict[Kind, tuple[int, ...]] = {
    "reach": (10,),
    "grasp": (12, 4),
    "pick-and-place": (12, 12, 8),
}  # steps for each goal picture
NEAR = 0.04  # metres: a place is reached
STEP = 0.05  # metres along each axis that a script moves at once, and a plan
_ABOVE, _CLEAR = 0.1, 0.12  # metres above the table: before the grasp, and while carrying
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Begin with the hand at `hand`, the cube at `cube`; `goal`: where the hand shall be (reach), or the cube [x y] (pick-and-place)."""

    kind: Kind
    hand: tuple[float, float, float]
    cube: tuple[float, float]
    goal: tuple[float, ...]


@dataclass(frozen=True)
class Waypoint:
    """Where the hand shall be and how far it is closed; `wait`: steps to stay. `goal`: a picture of this moment is a goal."""

    place: tuple[float, float, float]
    grip: float
    wait: int = 0
    goal: bool = False


def _uniform(rng: np.random.Generator, low: tuple[float, ...], high: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(v) for v in rng.uniform(low, high))


def random_task(kind: Kind, seed: int, i: int) -> Task:
    """Task i of a kind: a function of (kind, seed, i). Places to go to are at least 12 cm from where the thing is."""
    rng = np.random.Generator(np.random.Philox(key=key(seed, "arm", kind, i)))
    low, high = (0.34, -0.2, 0.06), (0.56, 0.2, 0.3)
    hand, cube = _uniform(rng, low, high), _uniform(rng, low[:2], high[:2])
    moving = np.asarray(hand if kind == "reach" else cube)
    while True:
        goal = _uniform(rng, low[: len(moving)], high[: len(moving)])
        if np.linalg.norm(moving - goal) >= 0.12:
            return Task(kind, hand, cube, goal)  # type: ignore[arg-type]


def begin(task: Task, arm: Arm) -> None:
    """Put the arm where the task begins."""
    arm.place(task.hand, task.cube)


def script(task: Task) -> list[Waypoint]:
    """The places that solve a task one after the other."""
    x, y = task.cube
    if task.kind == "reach":
        return [Waypoint(task.goal, 0.0, goal=True)]  # type: ignore[arg-type]
    to_cube = [
        Waypoint((x, y, _ABOVE), 0.0),
        Waypoint((x, y, CUBE), 0.0),
        Waypoint((x, y, CUBE), 1.0, wait=2, goal=True),
    ]
    if task.kind == "grasp":
        return [*to_cube, Waypoint((x, y, _ABOVE), 1.0, goal=True)]
    u, v = task.goal
    carry = [Waypoint((x, y, _CLEAR), 1.0), Waypoint((u, v, _CLEAR), 1.0, goal=True)]
    down = [
        Waypoint((u, v, CUBE + 0.005), 1.0),
        Waypoint((u, v, CUBE + 0.005), 0.0, wait=2),
        Waypoint((u, v, _ABOVE), 0.0, goal=True),
    ]
    return [*to_cube, *carry, *down]


class Script:
    """Follows waypoints with steps of at most STEP along each axis; `act` gives an action [7] until `done`.

    passed: numbers of the waypoints that were reached, in order.
    """

    def __init__(self, waypoints: list[Waypoint]) -> None:
        self._left, self._stay, self.passed = list(waypoints), 0, 0

    @property
    def done(self) -> bool:
        """Whether all were reached."""
        return not self._left

    def look(self, state: Array) -> list[Waypoint]:
        """Take note of the hand's state; the waypoints that it has just reached."""
        reached = []
        while self._left:
            there = np.abs(state[:3] - self._left[0].place).max() < 0.015
            if not there or self._stay < self._left[0].wait:
                break
            reached.append(self._left.pop(0))
            self._stay = 0
        self.passed += len(reached)
        return reached

    def act(self, state: Array) -> Array:
        """The next action; nothing when done."""
        action = np.zeros(7)
        if not self._left:
            return action
        aim = self._left[0]
        action[:3] = np.clip(np.asarray(aim.place) - state[:3], -STEP, STEP)
        action[6] = 0.75 * np.sign(aim.grip - 0.5) if aim.wait else (0.0 if aim.grip else -0.75)
        if np.abs(state[:3] - aim.place).max() < 0.015:
            self._stay += 1
        return action


def goals(task: Task, arm: Arm) -> list[NDArray[np.uint8]]:
    """The pictures of a task's goals, one for each entry of its budget: what the script sees when it gets there."""
    begin(task, arm)
    follow, found = Script(script(task)), []
    for _ in range(60):
        if follow.done:
            break
        arm.step(follow.act(arm.state))
        found += [arm.picture() for passed in follow.look(arm.state) if passed.goal]
    return found


def succeeded(task: Task, arm: Arm) -> bool:
    """Whether the task is solved as the arm stands now.

    reach: the hand within 4 cm of the place. grasp: the cube in both fingers and off the table. pick-and-place: the cube on the table
    within 4 cm of the place, and let go.
    """
    if task.kind == "reach":
        return bool(np.linalg.norm(arm.state[:3] - task.goal) < NEAR)
    lifted = arm.cube[2] > CUBE + 0.015
    if task.kind == "grasp":
        return bool(lifted and arm.held)
    return bool(np.linalg.norm(arm.cube[:2] - task.goal) < NEAR and not lifted and not arm.held)
