"""Two levels: actions held for several steps find the way, single actions reach the first state on it."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.spec import PlannerSpec, Spec
from tacit.planning.values import Bounds, Cost, Generators, Plan

__all__ = ["Hierarchical"]

_HIGH = Spec("planner", "icem", samples=100, elites=10, iterations=4, beta=0.5, answer="mean")
_LOW = Spec("planner", "cem", samples=60, elites=10, iterations=3, include_mean=True)


@part("planner", "hierarchical")
class Hierarchical:
    """Two levels: held macro actions find the way, single actions the first stretch of it.

    The high level plans macro actions, each held for `hold` steps; the state it imagines after the first of them is the sub-goal, to
    which the low level plans the first `hold` actions, beginning from the macro action. The rest of the plan stays the high level's.
    The cost must tell what is imagined after actions and offer a cost towards such a state, as `goal_energy` does. A plan of h actions is
    searched with h / hold numbers a coordinate. The public two-level model (PLDM, step_skip 4) has a predictor of its own for the high
    level, and no published setting uses it; here the one model imagines both.
    """

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        high: PlannerSpec = _HIGH,
        low: PlannerSpec = _LOW,
        hold: Annotated[int, Ge(1)] = 5,
    ) -> None:
        self.high, self.low, self.hold = high.build(bounds or Bounds()), low.build(bounds or Bounds()), hold

    def plan(self, cost: Cost, start: Tensor, generator: Generators) -> Plan:
        """See `Planner`."""
        if not (hasattr(cost, "ahead") and hasattr(cost, "toward")):
            raise DataError(
                "planner 'hierarchical' needs a cost that tells what is imagined: make it with goal_energy, or take cem or icem"
            )
        single, steps = start.ndim == 2, start.shape[-2]
        begin = start.unsqueeze(0) if single else start
        blocks = begin.split(self.hold, 1)

        def held(macro: Tensor) -> Tensor:
            return macro.repeat_interleave(self.hold, 1)[:, :steps]

        coarse = self.high.plan(lambda m: cost(held(m)), torch.stack([b.mean(1) for b in blocks], 1), generator)
        whole = held(coarse.actions)
        first = whole[:, : self.hold]
        told: Any = cost
        fine = self.low.plan(told.toward(told.ahead(first)), first, generator)
        actions = torch.cat([fine.actions, whole[:, self.hold :]], 1)
        spread = torch.cat([fine.spread, held(coarse.spread)[:, self.hold :]], 1)
        costs = cost(actions).detach()
        if single:
            return Plan(actions[0], costs[0], spread[0], coarse.trace[:, 0])
        return Plan(actions, costs, spread, coarse.trace)
