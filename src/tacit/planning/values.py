"""What planners take and give: bounds, a cost, a start, generators; a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from annotated_types import Gt
from torch import Tensor

from tacit.core.errors import DataError, RunError

__all__ = ["Bounds", "Cost", "Draw", "PerAction", "Plan", "Planner", "Problem", "shift"]

Cost = Callable[[Tensor], Tensor]  # actions [s h a] -> [s], lower is better; any number of samples a problem
Generators = torch.Generator | Sequence[torch.Generator]
PerAction = Annotated[float, Gt(0)] | tuple[Annotated[float, Gt(0)], ...]  # one number, or one for each coordinate


@dataclass(frozen=True)
class Bounds:
    """Which actions are allowed: each coordinate in [low, high], the Euclidean norm at most `norm`; None leaves it free.

    low and high are one number or one for each coordinate. Actions are clipped first and then shortened, which keeps both
    bounds when 0 is allowed.
    """

    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    norm: float | None = None

    def __post_init__(self) -> None:
        low, high = (torch.as_tensor(float("nan") if v is None else v) for v in (self.low, self.high))
        if (low > high).any():
            raise DataError(f"bounds need low <= high, found low={self.low} and high={self.high}")
        if self.norm is not None and (self.norm <= 0 or (low > 0).any() or (high < 0).any()):
            raise DataError(f"a bound on the norm is positive and needs low <= 0 <= high, found {self}")

    def within(self, norm: float | None) -> Bounds:
        """The same bounds with the norm limited to `norm` as well."""
        known = [v for v in (self.norm, norm) if v is not None]
        return Bounds(self.low, self.high, min(known) if known else None)

    def clip(self, actions: Tensor) -> Tensor:
        """The nearest allowed actions [... a], near in the sense above."""
        if self.low is not None or self.high is not None:
            low, high = (None if v is None else actions.new_tensor(v) for v in (self.low, self.high))
            actions = actions.clamp(low, high)
        if self.norm is not None:
            length = actions.square().sum(-1, keepdim=True).sqrt()
            actions = actions * (self.norm / length.clamp_min(self.norm))
        return actions


@dataclass(frozen=True)
class Plan:
    """What a planner found for p problems.

    actions [p h a]; costs [p] of exactly these actions; spread [p h a] that the search had left (0 where it keeps none);
    trace [i p]: the lowest cost seen in each iteration. Without the axis p if the start had none.
    """

    actions: Tensor
    costs: Tensor
    spread: Tensor
    trace: Tensor


class Planner(Protocol):
    """Minimises a cost over action sequences; `start` [p h a] (or [h a]) is the guess to begin from, zeros or the shifted last plan."""

    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan: ...  # noqa: D102


def shift(actions: Tensor, executed: int, horizon: int | None = None, fill: float = 0.0) -> Tensor:
    """Warm start: drop the first `executed` of the actions [... h a], pad or cut the tail to `horizon` (default: as before)."""
    horizon = actions.shape[-2] if horizon is None else horizon
    kept = actions[..., executed : executed + horizon, :]
    tail = kept.new_full((*kept.shape[:-2], horizon - kept.shape[-2], kept.shape[-1]), fill)
    return torch.cat([kept, tail], -2)


class Draw:
    """Standard normal noise for p problems, from one generator, or from one for each problem.

    With one for each, problem k gets the same noise as when it is planned alone with that generator.
    """

    def __init__(self, generator: Generators, problems: int) -> None:
        self._one = generator if isinstance(generator, torch.Generator) else None
        self._each = [] if isinstance(generator, torch.Generator) else list(generator)
        if self._one is None and len(self._each) != problems:
            raise DataError(f"{problems} problems need one generator or {problems}, found {len(self._each)}")

    def normal(self, like: Tensor, *shape: int) -> Tensor:
        """[p *shape] in the type and on the device of `like`."""
        return self._draw(torch.randn, like, shape)

    def uniform(self, like: Tensor, *shape: int) -> Tensor:
        """[p *shape] in [0, 1)."""
        return self._draw(torch.rand, like, shape)

    def _draw(self, sample: Callable[..., Tensor], like: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self._one is not None:
            return sample((len(like), *shape), generator=self._one, dtype=like.dtype, device=like.device)
        rows = [sample(shape, generator=g, dtype=like.dtype, device=like.device) for g in self._each]
        return torch.stack(rows)


class Problem:
    """A cost with its start, checked: evaluates samples [p k h a] -> [p k] and makes the plan in the end."""

    def __init__(self, cost: Cost, start: Tensor, generator: Generators, bounds: Bounds) -> None:
        if start.ndim not in (2, 3) or not start.is_floating_point() or 0 in start.shape:
            raise DataError(f"a start is a float tensor [h a] or [p h a], found {start.dtype} {list(start.shape)}")
        width = start.shape[-1]
        for name in ("low", "high"):
            value = getattr(bounds, name)
            if isinstance(value, tuple) and len(value) != width:
                raise DataError(f"{name} bounds {len(value)} coordinates, the actions have {width}")
        self._cost, self._single, self.bounds = cost, start.ndim == 2, bounds
        self.start = bounds.clip(start if start.ndim == 3 else start.unsqueeze(0))
        self.draw = Draw(generator, len(self.start))
        self._trace: list[Tensor] = []

    def std(self, spread: PerAction) -> Tensor:
        """A standard deviation for every number of the start, [p h a]."""
        return self.per_action(spread, "spread").expand_as(self.start).clone()

    def per_action(self, given: float | tuple[float, ...], name: str = "momentum") -> Tensor:
        """One number, or one for each coordinate of an action [a]."""
        found = self.start.new_tensor(given)
        if found.ndim and len(found) != self.start.shape[-1]:
            raise DataError(f"{name} has {len(found)} coordinates, the actions have {self.start.shape[-1]}")
        return found

    def __call__(self, actions: Tensor, *, traced: bool = True) -> Tensor:
        """Costs [p k]; one that is not a number counts as infinite."""
        p, k = actions.shape[:2]
        costs = self._cost(actions.flatten(0, 1))
        if costs.shape != (p * k,):
            raise DataError(
                f"the cost of {p * k} action sequences must have the shape [{p * k}], found {list(costs.shape)}"
            )
        costs = costs.view(p, k).nan_to_num(nan=float("inf"), posinf=float("inf"), neginf=-float("inf"))
        if traced:
            self._trace.append(costs.detach().amin(1))
        return costs

    def finish(self, actions: Tensor, spread: Tensor, costs: Tensor | None = None) -> Plan:
        """The plan; `costs` [p] of `actions` where they are known, else they are evaluated once more."""
        if costs is None:
            costs = self(actions.unsqueeze(1), traced=False).squeeze(1)
        trace = torch.stack(self._trace)
        if not (torch.isfinite(costs).all() and torch.isfinite(actions).all()):
            bad = int((~torch.isfinite(costs)).sum())
            raise RunError(
                f"planning found no finite cost for {bad} of {len(costs)} problems: look at the energy for NaN, or narrow the bounds"
            )
        actions, costs, spread, trace = actions.detach(), costs.detach(), spread.detach(), trace.detach()
        if self._single:
            return Plan(actions[0], costs[0], spread[0], trace[:, 0])
        return Plan(actions, costs, spread, trace)


def best(actions: Tensor, costs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` cheapest samples [p count h a] and their costs [p count], cheapest first; ties keep the order of the samples."""
    costs, rows = costs.sort(dim=1, stable=True)
    rows = rows[:, :count, None, None].expand(-1, -1, *actions.shape[2:])
    return actions.gather(1, rows), costs[:, :count]
