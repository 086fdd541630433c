"""Receding horizon: plan, execute the first actions, look, plan again from the shifted plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.random import torch_seed
from tacit.planning.values import Cost, Plan, Planner, shift

__all__ = ["Agent", "Episode", "episode"]


class Agent:
    """Acts in p episodes at once by planning over a horizon and executing the first `execute` actions of each plan.

    see: called ONCE each time a plan is made, with the observation; it encodes and returns the cost of action sequences. The
    noise of an episode's k-th plan is a function of (seed, k). warm: begin each plan from the last one, shifted.
    """

    def __init__(
        self,
        planner: Planner,
        see: Callable[[Any], Cost],
        *,
        width: int,
        horizon: int,
        problems: int = 1,
        execute: int = 1,
        warm: bool = True,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 1 <= execute <= horizon:
            raise DataError(
                f"execute={execute}: of a plan of {horizon} actions between 1 and {horizon} can be executed"
            )
        self._planner, self._see = planner, see
        self._width, self._horizon, self._problems = width, horizon, problems
        self._execute, self._warm, self._seed = execute, warm, seed
        self._device, self._dtype = device, dtype
        self.reset()

    def reset(self) -> None:
        """Forget the last plan: a new episode begins."""
        self.last: Plan | None = None
        self._queue: list[Tensor] = []
        self._made = 0

    def act(self, observation: Any, left: int | None = None) -> Tensor:
        """The next action [p a]. left: steps until the episode ends; the horizon never looks beyond."""
        if not self._queue:
            horizon = self._horizon if left is None else max(1, min(self._horizon, left))
            self._queue = list(self._replan(observation, horizon).unbind(1))
        return self._queue.pop(0)

    def _replan(self, observation: Any, horizon: int) -> Tensor:
        if self._warm and self.last is not None:
            start = shift(self.last.actions, self._execute, horizon)
        else:
            start = torch.zeros(self._problems, horizon, self._width, device=self._device, dtype=self._dtype)
        seed = torch_seed(self._seed, "plan", self._made)
        generator = torch.Generator(device=self._device).manual_seed(seed)
        self.last = self._planner.plan(self._see(observation), start, generator)
        self._made += 1
        return self.last.actions[:, : self._execute]


@dataclass(frozen=True)
class Episode:
    """What happened: actions [t a], rewards [t], the last info, how it ended, and the seconds spent on acting and stepping."""

    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    info: Mapping[str, Any]
    terminated: bool
    truncated: bool
    seconds_acting: float
    seconds_stepping: float


def episode(
    env: Any,
    agent: Agent,
    *,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    steps: int | None = None,
    begin: Callable[[Any, Mapping[str, Any]], None] | None = None,
) -> Episode:
    """One episode in an environment with gymnasium's methods, until it ends or for `steps` actions.

    begin: called with the first observation and info, to set the goal.
    """
    observation, info = env.reset(seed=seed, options=options)
    agent.reset()
    if begin is not None:
        begin(observation, info)
    actions: list[NDArray[np.float32]] = []
    rewards: list[float] = []
    acting = stepping = 0.0
    terminated = truncated = False
    while not (terminated or truncated) and (steps is None or len(actions) < steps):
        clock = time.perf_counter()
        action = agent.act(observation, None if steps is None else steps - len(actions))
        if len(action) != 1:
            raise DataError(f"one environment takes one action, this agent plans for {len(action)} problems")
        taken = action[0].float().cpu().numpy()
        acting += time.perf_counter() - clock
        clock = time.perf_counter()
        observation, reward, terminated, truncated, info = env.step(taken)
        stepping += time.perf_counter() - clock
        actions.append(taken)
        rewards.append(float(reward))
    return Episode(np.stack(actions), np.asarray(rewards), info, bool(terminated), bool(truncated), acting, stepping)
