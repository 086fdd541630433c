"""Roll-outs that begin from several frames, the same for all samples of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.errors import DataError

if TYPE_CHECKING:
    from tacit.systems.world_model import WorldModel

__all__ = ["imagine_after"]


def imagine_after(
    model: WorldModel,
    past: Float[Tensor, "p c *s"],
    done: Float[Tensor, "p d a"],
    actions: Float[Tensor, "s h a"],
    *,
    share: bool = True,
) -> Float[Tensor, "s h *s"]:
    """The states after each of the actions, from the last of c frames of p problems; d = c - 1 actions were done between them.

    The samples of problem 0 come first, then those of problem 1, and so on. A predictor of several frames sees the past as well, and one
    that can (`extend`: the causal transformer) computes the keys and values of a frame once while the window does not move, those of the
    past once a problem; share=False goes through all frames again at every step, for every sample.
    """
    p, c = past.shape[:2]
    if done.shape[:2] != (p, c - 1) or len(actions) % p:
        raise DataError(
            f"{c} frames of {p} problems need {c - 1} actions between them and a multiple of {p} plans, found {list(done.shape[:2])} and "
            f"{len(actions)}"
        )
    k, context = len(actions) // p, model.predictor.context
    y, left = past[:, -1:].repeat_interleave(k, 0), None
    share = share and hasattr(model.predictor, "extend")
    for i in range(actions.shape[1]):
        first = max(0, c + i - context)  # the window begins at this frame
        known, own = min(first, c - 1), max(0, first - (c - 1))
        if not share:
            seen, acts = (x[:, known : c - 1].repeat_interleave(k, 0) for x in (past, done))
            after = model.follow(torch.cat([seen, y[:, own:]], 1), torch.cat([acts, actions[:, own : i + 1]], 1))
        else:
            new = i
            if i == 0 or first:  # frames move to other positions with the window: their keys and values are made anew
                left = model.predictor.extend(past[:, known:-1], done[:, known:])[1] if known < c - 1 else None
                new = own
            after, left = model.predictor.extend(y[:, new:], actions[:, new : i + 1], left)
            after = model.settle(after)
        y = torch.cat([y, after[:, -1:]], 1)
    return y[:, 1:]
