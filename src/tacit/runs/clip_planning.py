"""Planning judged on recorded clips, without a simulator: plan from a clip's first frame to its last, compare with what was done.

error = || sum_t planned action - sum_t recorded action ||_1, in the units of the data: JEPA-WMs' protocol on DROID (arXiv 2512.24497),
reused by LAWM (2601.05230). The planner is CEM with actions inside the range of the data and the state's distance at the end as cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.random import torch_seed
from tacit.planning import CEM, Bounds, goal_energy

__all__ = ["ANOTHER", "NOTHING", "PLANNED", "plan_clips"]

PLANNED, NOTHING, ANOTHER = "planned", "standing still", "actions of another clip"
_SAMPLES, _ELITES, _ITERATIONS, _ROWS = 100, 10, 8, 20


@torch.no_grad()
def plan_clips(
    imagine: Any, states: Tensor, actions: Tensor, seed: int = 0, steps: int = 8
) -> dict[str, NDArray[np.float64]]:
    """name -> error [n] of clips with states [n t s] and the actions [n t - 1 a] between them, over at most `steps` actions."""
    steps = min(steps, actions.shape[1])
    given = actions[:, :steps]
    low, high, middle = (v.cpu() for v in (given.amin((0, 1)), given.amax((0, 1)), given.mean((0, 1))))
    spread = given.std((0, 1)).clamp_min(1e-6).tolist()
    planner = CEM(
        Bounds(low=tuple(low.tolist()), high=tuple(high.tolist())),
        samples=_SAMPLES,
        elites=_ELITES,
        iterations=_ITERATIONS,
        spread=tuple(spread),
    )
    found = []
    for at in range(0, len(states), _ROWS):
        rows = slice(at, at + _ROWS)
        start = middle.to(states).expand(len(states[rows]), steps, -1)
        generator = torch.Generator(states.device).manual_seed(torch_seed(seed, "clips", at))
        cost = goal_energy(imagine, states[rows, 0], states[rows, steps])
        found.append(planner.plan(cost, start, generator).actions)
    done = given.sum(1)
    sums = {PLANNED: torch.cat(found).sum(1), NOTHING: torch.zeros_like(done), ANOTHER: done.roll(1, 0)}
    return {name: (total - done).abs().sum(1).double().cpu().numpy() for name, total in sums.items()}
