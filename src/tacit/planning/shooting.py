"""Random shooting: the baseline of all planners."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.planning.values import Bounds, Cost, Generators, PerAction, Plan, Problem, best

__all__ = ["Shooting"]


@part("planner", "shooting")
class Shooting:
    """Draw sequences once and keep the cheapest: normal around the start, or uniform between the bounds.

    The start itself is the first sample, so that a warm-started plan never gets worse.
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        samples: Annotated[int, Ge(1)] = 1000,
        law: Literal["normal", "uniform"] = "normal",
        spread: PerAction = 1.0,
        norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        self.bounds = (bounds or Bounds()).within(norm)
        self.samples, self.law, self.spread = samples, law, spread
        if law == "uniform" and (self.bounds.low is None or self.bounds.high is None):
            raise DataError(
                "law='uniform' draws between the bounds and needs both low and high: give them or use law='normal'"
            )

    @torch.no_grad()
    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan:
        """See `Planner`."""
        problem = Problem(cost, start, generator, self.bounds)
        guess, std = problem.start, problem.std(self.spread)
        shape = (self.samples, *guess.shape[1:])
        if self.law == "uniform":
            low, high = (guess.new_tensor(v) for v in (self.bounds.low, self.bounds.high))
            actions = low + (high - low) * problem.draw.uniform(guess, *shape)
        else:
            actions = guess.unsqueeze(1) + std.unsqueeze(1) * problem.draw.normal(guess, *shape)
        actions[:, 0] = guess
        actions = self.bounds.clip(actions)
        chosen, costs = best(actions, problem(actions), 1)
        return problem.finish(chosen[:, 0], std if self.law == "normal" else torch.zeros_like(std), costs[:, 0])
