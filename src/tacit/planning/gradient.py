"""Planning by gradient descent on the actions."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.planning.values import Bounds, Cost, Generators, PerAction, Plan, Problem, best

__all__ = ["Gradient"]


@part("planner", "gradient")
class Gradient:
    """Gradient descent on the actions, from one guess or several, back into the bounds after each step; the best seen is the plan.

        a <- a - lr dC/da + noise N(0, 1)            rule 'sgd'
        a <- a - lr m / (sqrt(v) + 1e-8) + noise     rule 'adam', betas (0.9, 0.999), bias corrected

    starts: the first is the guess itself, the others lie `spread` around it. The cost must be differentiable and each row's cost a
    function of that row alone. Defaults: DINO-WM's GD (1000 iterations, lr 1, noise 0.003). The sampling planners beat it where
    the energy is not smooth (JEPA-WMs: 0 to 1 % on Wall).
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        rule: Literal["sgd", "adam"] = "sgd",
        lr: Annotated[float, Gt(0)] = 1.0,
        iterations: Annotated[int, Ge(1)] = 1000,
        noise: Annotated[float, Ge(0)] = 0.003,
        starts: Annotated[int, Ge(1)] = 1,
        spread: PerAction = 1.0,
        norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        self.bounds = (bounds or Bounds()).within(norm)
        self.rule, self.lr, self.iterations, self.noise = rule, lr, iterations, noise
        self.starts, self.spread = starts, spread

    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan:
        """See `Planner`."""
        problem = Problem(cost, start.detach(), generator, self.bounds)
        std = problem.std(self.spread)
        shape = (self.starts, *problem.start.shape[1:])
        offset = problem.draw.normal(std, *shape) * std.unsqueeze(1)
        offset[:, 0] = 0
        actions = self.bounds.clip(problem.start.unsqueeze(1) + offset)
        first, second = torch.zeros_like(actions), torch.zeros_like(actions)
        found, lowest = actions, torch.full(actions.shape[:2], float("inf"), dtype=actions.dtype, device=actions.device)
        for i in range(1, self.iterations + 1):
            costs, slope = _slope(problem, actions)
            better = costs < lowest
            found = torch.where(better[:, :, None, None], actions, found)
            lowest = torch.where(better, costs, lowest)
            if self.rule == "adam":
                first = torch.lerp(slope, first, 0.9)
                second = torch.lerp(slope.square(), second, 0.999)
                slope = first / (1 - 0.9**i) / ((second / (1 - 0.999**i)).sqrt() + 1e-8)
            actions = actions - self.lr * slope
            if self.noise:
                actions = actions + self.noise * problem.draw.normal(std, *shape)
            actions = self.bounds.clip(actions)
        with torch.no_grad():
            last = problem(actions).to(lowest)
        better = last < lowest
        found = torch.where(better[:, :, None, None], actions, found)
        chosen, costs = best(found, torch.where(better, last, lowest), 1)
        return problem.finish(chosen[:, 0], torch.zeros_like(std), costs[:, 0])


def _slope(problem: Problem, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Costs [p k] and their gradient [p k h a]."""
    with torch.enable_grad():
        leaf = actions.detach().requires_grad_()
        costs = problem(leaf)
        if not costs.requires_grad:
            raise DataError(
                "planning by gradient needs a cost that is differentiable in the actions, found one without a gradient: "
                "take torch.no_grad out of the energy, or use a sampling planner such as 'cem'"
            )
        (slope,) = torch.autograd.grad(costs.sum(), leaf)
    return costs.detach().to(actions), slope
