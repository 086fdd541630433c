"""The cross-entropy method, and its improved form with coloured noise and kept elites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.planning.values import Bounds, Cost, Generators, PerAction, Plan, Problem, best

__all__ = ["CEM", "ICEM", "coloured"]

Positive = Annotated[int, Ge(1)]
Momentum = (
    Annotated[float, Ge(0), Lt(1)] | tuple[Annotated[float, Ge(0), Lt(1)], ...]
)  # one number, or one for each coordinate


def too_many_elites(settings: Mapping[str, Any]) -> Iterable[str]:
    """The rule that every planner with elites shares."""
    if settings["elites"] > settings["samples"]:
        yield f"elites: {settings['elites']} of samples={settings['samples']} cannot be kept: lower elites or draw more samples"


def check_elites(samples: int, elites: int) -> None:
    """The same rule for planners made by hand."""
    for fault in too_many_elites({"samples": samples, "elites": elites}):
        raise RecipeError(fault)


@part("planner", "cem")
class CEM:
    """Cross-entropy method: draw sequences, keep the cheapest, take their mean and deviation, repeat; the mean is the plan.

        x ~ N(mu, sigma^2);  mu <- m mu + (1 - m) mean(elites);  sigma <- q sigma + (1 - q) std(elites)

    std is unbiased (n - 1). Samples are brought into the bounds before they are judged, and so the elites' mean is inside.
    m is `momentum`, q is `spread_momentum`, by default the same; one number, or one for each coordinate of an action.
    include_mean puts mu itself in the place of the first sample. Multiplying the cost by a positive number changes nothing.
    Published: DINO-WM 300 samples, 30 elites, 30 iterations, spread 1 (the defaults here); EB-JEPA 200, 20, 20, spread 1.5,
    norm 2.45; V-JEPA 2-AC 400, 10, 10, momentum 0.15 (its code by itself: 100, 10, 100, momentum 0.25 and 0.95 of the spread, 0.15 for the
    gripper's).
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        samples: Annotated[int, Ge(2)] = 300,
        elites: Annotated[int, Ge(2)] = 30,
        iterations: Positive = 30,
        spread: PerAction = 1.0,
        momentum: Momentum = 0.0,
        spread_momentum: Momentum | None = None,
        include_mean: bool = False,
        norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        check_elites(samples, elites)
        self.bounds = (bounds or Bounds()).within(norm)
        self.samples, self.elites, self.iterations = samples, elites, iterations
        self.spread, self.momentum, self.include_mean = spread, momentum, include_mean
        self.spread_momentum = momentum if spread_momentum is None else spread_momentum

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Elites are a subset of the samples."""
        yield from too_many_elites(settings)

    @torch.no_grad()
    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan:
        """See `Planner`."""
        problem = Problem(cost, start, generator, self.bounds)
        mean, std = problem.start, problem.std(self.spread)
        kept, kept_std = problem.per_action(self.momentum), problem.per_action(self.spread_momentum)
        for _ in range(self.iterations):
            noise = problem.draw.normal(mean, self.samples, *mean.shape[1:])
            actions = mean.unsqueeze(1) + std.unsqueeze(1) * noise
            if self.include_mean:
                actions[:, 0] = mean
            actions = self.bounds.clip(actions)
            elite, _ = best(actions, problem(actions), self.elites)
            mean = torch.lerp(elite.mean(1), mean, kept)
            std = torch.lerp(elite.std(1), std, kept_std)
        return problem.finish(self.bounds.clip(mean), std)


def coloured(white: Tensor, beta: float) -> Tensor:
    """Noise whose power along time falls as frequency^-beta, of unit variance, from white noise [... h a].

    The constant part is scaled as the lowest frequency is. beta 0 leaves white noise as it is.
    """
    steps = white.shape[-2]
    if beta == 0 or steps < 2:
        return white
    frequency = torch.fft.rfftfreq(steps, device=white.device, dtype=white.dtype)
    frequency[0] = frequency[1]
    scale = frequency ** (-beta / 2)
    twice = torch.full_like(scale, 2.0)  # every bin but the constant and, for even lengths, the last stands for two
    twice[0] = 1.0
    if steps % 2 == 0:
        twice[-1] = 1.0
    scale = scale / ((twice * scale.square()).sum() / steps).sqrt()
    return torch.fft.irfft(torch.fft.rfft(white, dim=-2) * scale.unsqueeze(-1), n=steps, dim=-2)


@part("planner", "icem")
class ICEM:
    """CEM with coloured noise, elites kept between iterations, fewer samples each time, and the best sequence as the plan.

    beta: exponent of the noise's spectrum along time. keep: share of the elites that joins the next iteration's samples.
    decay: iteration i draws samples / decay^i, at least 2 elites. The last iteration judges the mean as well.
    Source: arXiv 2008.06389; its elites kept from one control step to the next come here through the warm start.
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        samples: Annotated[int, Ge(2)] = 300,
        elites: Annotated[int, Ge(2)] = 30,
        iterations: Positive = 30,
        spread: PerAction = 1.0,
        beta: Annotated[float, Ge(0)] = 2.0,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.1,
        keep: Annotated[float, Ge(0), Le(1)] = 0.3,
        decay: Annotated[float, Ge(1)] = 1.25,
        answer: Literal["best", "mean"] = "best",
        norm: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        check_elites(samples, elites)
        self.bounds = (bounds or Bounds()).within(norm)
        self.samples, self.elites, self.iterations, self.spread = samples, elites, iterations, spread
        self.beta, self.momentum, self.keep, self.decay, self.answer = beta, momentum, keep, decay, answer

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Elites are a subset of the samples."""
        yield from too_many_elites(settings)

    @torch.no_grad()
    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan:
        """See `Planner`."""
        problem = Problem(cost, start, generator, self.bounds)
        mean, std = problem.start, problem.std(self.spread)
        kept: Tensor | None = None
        found, lowest = mean, torch.full((len(mean),), float("inf"), dtype=mean.dtype, device=mean.device)
        for i in range(self.iterations):
            count = max(2 * self.elites, int(self.samples / self.decay**i))
            noise = coloured(problem.draw.normal(mean, count, *mean.shape[1:]), self.beta)
            actions = self.bounds.clip(mean.unsqueeze(1) + std.unsqueeze(1) * noise)
            if kept is not None:
                actions = torch.cat([actions, kept], 1)
            if i == self.iterations - 1:
                actions = torch.cat([actions, self.bounds.clip(mean).unsqueeze(1)], 1)
            elite, costs = best(actions, problem(actions), self.elites)
            better = costs[:, 0] < lowest
            found = torch.where(better[:, None, None], elite[:, 0], found)
            lowest = torch.where(better, costs[:, 0].to(lowest), lowest)
            kept = elite[:, : int(self.keep * self.elites)]
            mean = torch.lerp(elite.mean(1), mean, self.momentum)
            std = torch.lerp(elite.std(1), std, self.momentum)
        if self.answer == "best":
            return problem.finish(found, std, lowest)
        return problem.finish(self.bounds.clip(mean), std)
