"""Model predictive path integral control, in the two forms that carry the name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.parts import part
from tacit.planning.cem import check_elites, too_many_elites
from tacit.planning.values import Bounds, Cost, Generators, PerAction, Plan, Problem, best

__all__ = ["MPPI", "PathIntegral"]

Positive = Annotated[int, Ge(1)]


@part("planner", "mppi")
class MPPI:
    """CEM with soft weights over the elites, as in TD-MPC2, EB-JEPA and JEPA-WMs.

        w_k ~ exp(sharpness (c_min - c_k));  mu <- sum w_k x_k;  sigma^2 <- sum w_k (x_k - mu)^2

    `sharpness` MULTIPLIES the cost (the public codes call it temperature; their 0.005 with costs of order 10 gives almost equal
    weights): 0 is CEM with the biased deviation, infinity follows the best sample. answer: an elite drawn with probability w_k,
    as published, or the mean. Multiplying the cost by c needs sharpness / c. Defaults: EB-JEPA (which clips nothing).
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        samples: Annotated[int, Ge(2)] = 200,
        elites: Positive = 20,
        iterations: Positive = 20,
        spread: PerAction = 2.0,
        sharpness: Annotated[float, Ge(0)] = 0.005,
        answer: Literal["sample", "mean"] = "sample",
        norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        check_elites(samples, elites)
        self.bounds = (bounds or Bounds()).within(norm)
        self.samples, self.elites, self.iterations = samples, elites, iterations
        self.spread, self.sharpness, self.answer = spread, sharpness, answer

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Elites are a subset of the samples."""
        yield from too_many_elites(settings)

    @torch.no_grad()
    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan:
        """See `Planner`."""
        problem = Problem(cost, start, generator, self.bounds)
        mean, std = problem.start, problem.std(self.spread)
        for _ in range(self.iterations):
            noise = problem.draw.normal(mean, self.samples, *mean.shape[1:])
            actions = self.bounds.clip(mean.unsqueeze(1) + std.unsqueeze(1) * noise)
            elite, costs = best(actions, problem(actions), self.elites)
            weight = torch.softmax(self.sharpness * (costs[:, :1] - costs), 1).to(mean)[:, :, None, None]
            mean = (weight * elite).sum(1)
            std = (weight * (elite - mean.unsqueeze(1)).square()).sum(1).sqrt()
        if self.answer == "mean":
            return problem.finish(self.bounds.clip(mean), std)
        share = weight[:, :, 0, 0].cumsum(1)
        chosen = (problem.draw.uniform(mean, 1) * share[:, -1:] >= share).sum(1).clamp_max(self.elites - 1)
        row = torch.arange(len(mean), device=mean.device)
        return problem.finish(elite[row, chosen], std, costs[row, chosen])


@part("planner", "path-integral")
class PathIntegral:
    """The original MPPI: an importance-weighted update of a warm-started sequence over all samples.

        U <- U + sum_k w_k eps_k,  w = softmax(-S_k / temperature),  S_k = cost_k + temperature sum_t u_t^T Sigma^-1 eps_kt

    `temperature` DIVIDES the cost. eps is what remains of the noise after clipping. The control term weighs as a cost of
    temperature / 2 * sum u^T Sigma^-1 u would: plans are drawn towards zero. The spread never changes; between control steps shift
    the sequence (`shift`). Source: Williams et al. 2017 and PLDM, whose Two Rooms setting is the default
    (2000 samples, covariance 12: spread 3.46).
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        samples: Annotated[int, Ge(2)] = 2000,
        iterations: Positive = 1,
        spread: PerAction = 12**0.5,
        temperature: Annotated[float, Gt(0)] = 0.005,
        norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        self.bounds = (bounds or Bounds()).within(norm)
        self.samples, self.iterations, self.spread, self.temperature = samples, iterations, spread, temperature

    @torch.no_grad()
    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan:
        """See `Planner`."""
        problem = Problem(cost, start, generator, self.bounds)
        mean, std = problem.start, problem.std(self.spread)
        for _ in range(self.iterations):
            noise = problem.draw.normal(mean, self.samples, *mean.shape[1:])
            actions = self.bounds.clip(mean.unsqueeze(1) + std.unsqueeze(1) * noise)
            eps = actions - mean.unsqueeze(1)
            control = ((mean / std.square()).unsqueeze(1) * eps).sum((2, 3))
            total = problem(actions).to(mean) + self.temperature * control
            weight = torch.softmax(-total / self.temperature, 1)[:, :, None, None]
            mean = self.bounds.clip(mean + (weight * eps).sum(1))
        return problem.finish(mean, std)
