"""Episodes of the arm with pictures: the scripts with noise, and wandering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core.random import key
from tacit.ops.pose import action_between
from tacit.worlds.arm.tasks import KINDS, STEP, Script, begin, random_task, script
from tacit.worlds.arm.world import Arm

__all__ = ["Recorded", "record"]


@dataclass(frozen=True)
class Recorded:
    """frames uint8 [t s s 3], state float32 [t 7] as measured, actions [t 7] between the states (the last 0), cube [t 3], camera [t 6]."""

    frames: NDArray[np.uint8]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    cube: NDArray[np.float32]
    camera: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """By name, as `data.trajectories` reads them from a .npz file."""
        return dict(vars(self))


def record(
    arm: Arm, seed: int, split: str, i: int, *, steps: int = 20, wander: float = 0.5, noise: float = 0.015
) -> Recorded:
    """Episode i: a function of (seed, split, i, settings).

    A share `wander` of the episodes wanders: to places drawn at random one after the other, the gripper opening and closing by chance. The
    others solve tasks, one third each, with noise (metres, its standard deviation) on every step.
    """
    state = key(seed, "arm-episodes", split, i)
    rng = np.random.Generator(np.random.Philox(key=state))
    task = random_task(KINDS[int(rng.integers(len(KINDS)))], key(seed, split) >> 1, i)
    begin(task, arm)
    wanders = rng.uniform() < wander
    follow, aim = Script(script(task)), arm.state[:3]
    frames, states, cubes = [arm.picture()], [arm.state], [arm.cube]
    for _ in range(steps):
        if wanders or follow.done:
            if np.abs(aim - states[-1][:3]).max() < 0.03:
                aim = rng.uniform((0.32, -0.23, 0.03), (0.58, 0.23, 0.32))
            action = np.zeros(7)
            action[:3] = np.clip(aim - states[-1][:3], -STEP, STEP) * rng.uniform(0.3, 1.0)
            action[6] = rng.choice([-0.75, 0.0, 0.75], p=[0.15, 0.7, 0.15])
        else:
            action = follow.act(states[-1])
        action[:3] += noise * rng.normal(size=3)
        arm.step(action)
        follow.look(arm.state)
        frames.append(arm.picture())
        states.append(arm.state)
        cubes.append(arm.cube)
    measured = torch.from_numpy(np.stack(states))
    actions = torch.cat([action_between(measured[:-1], measured[1:]), torch.zeros(1, 7, dtype=torch.float64)])
    camera = np.tile(arm.camera.pose(), (steps + 1, 1))
    return Recorded(
        np.stack(frames), measured.numpy().astype(np.float32), actions.numpy().astype(np.float32), np.stack(cubes).astype(np.float32),
        camera.astype(np.float32),
    )  # fmt: skip
