"""Windows of trajectories for time-stepping: frames to read, frames to predict, and the step between them as the action.

Both parts read batches whose view "image" is [n c t *space], raw, with "time" [n t], "x" (and "y") among the facts. They give
the view "window" [n c w *space], its first frames being the history, and the view "context" if one is asked for: the first
frames of the same trajectory as an encoder was trained to see them, for steppers that are conditioned on a representation.
Values are left as they are; noise is a function of (seed, epoch, id).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.random import key, uniform
from tacit.core.spec import ViewsSpec
from tacit.core.values import Batch, Facts, View

__all__ = ["LeadTimes", "Windows"]

Count = Annotated[int, Gt(0)]
_AXES = ("x", "y")


@part("views", "windows")
class Windows:
    """A window of `history` frames and `windows` times `horizon` frames after them; action: the steps (dt, dx, ...), [n 1 + axes].

    The window starts at a random frame from `first` on; `every` keeps only each so-manieth start (20 in the published
    runs without time augmentation). `context`: views whose plain view becomes "context"; their crop starts at frame 0.
    """

    names = ("window",)

    def __init__(
        self,
        facts: Facts,
        *,
        history: Count = 20,
        horizon: Count = 20,
        windows: Count = 1,
        first: Annotated[int, Ge(0)] = 0,
        every: Count = 1,
        context: ViewsSpec | None = None,
    ) -> None:
        shape = _shape(facts)
        self.length, self.first = history + windows * horizon, first
        self._starts = range(first, shape[0] - self.length + 1, every)
        if not self._starts:
            raise DataError(
                f"a window of {self.length} frames from frame {first} on does not fit {shape[0]} frames: lower history, horizon,"
                " windows or first"
            )
        self._context = context.build(facts) if context else None
        self.facts = dataclasses.replace(facts, shape=(self.length, *shape[1:]), action_dim=len(shape), mean=(), std=())

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """View 'window' with `how` start [n], perhaps 'context'; action [n 1 + axes]."""
        data = _data(batch)
        picks = [uniform(key(seed, epoch, int(i), "window"), 0) for i in batch.ids]
        start = torch.tensor([self._starts[int(p * len(self._starts))] for p in picks])
        at = start.unsqueeze(1) + torch.arange(self.length)
        return self._with(batch, "window", View(taken(data, at), {"start": start}))

    def plain(self, batch: Batch) -> Batch:
        """View 'image': all frames from `first` on, perhaps 'context'; action as in training."""
        return self._with(batch, "image", View(_data(batch)[:, :, self.first :]))

    def _with(self, batch: Batch, name: str, view: View) -> Batch:
        views = {name: view, **context_of(self._context, batch)}
        return dataclasses.replace(batch, views=views, action=steps_of(batch))


@part("views", "lead-times")
class LeadTimes:
    """Pairs of frames, i to read and j > i to predict; action: the lead j - i, [n 1]. Source: PDEArena, arXiv 2209.15616.

    j is uniform among the frames after `first`, and i before it has a probability in proportion to 1 / (i - first + 1), as
    published. `first`: frames before it are left to the `context`.
    """

    names = ("window",)

    def __init__(self, facts: Facts, *, first: Annotated[int, Ge(0)] = 0, context: ViewsSpec | None = None) -> None:
        shape = _shape(facts)
        self.first, self.frames = first, shape[0] - first
        if self.frames < 2:
            raise DataError(f"a pair needs two frames from frame {first} on, found {shape[0]} frames: lower first")
        self._context = context.build(facts) if context else None
        self.facts = dataclasses.replace(facts, shape=(2, *shape[1:]), action_dim=1, mean=(), std=())

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """View 'window' [n c 2 *space] with `how` start and lead, [n]; action [n 1]."""
        pairs = torch.tensor([self._pair(key(seed, epoch, int(i), "lead")) for i in batch.ids])
        start, lead = pairs[:, 0] + self.first, pairs[:, 1] - pairs[:, 0]
        data = _data(batch)
        view = View(taken(data, pairs + self.first), {"start": start, "lead": lead})
        views = {"window": view, **context_of(self._context, batch)}
        return dataclasses.replace(batch, views=views, action=lead.to(data.dtype).unsqueeze(1))

    def plain(self, batch: Batch) -> Batch:
        """View 'image': all frames from `first` on, perhaps 'context'; action: a lead of one frame."""
        data = _data(batch)[:, :, self.first :]
        views = {"image": View(data), **context_of(self._context, batch)}
        return dataclasses.replace(batch, views=views, action=data.new_ones(len(batch), 1))

    def _pair(self, state: int) -> tuple[int, int]:
        j = 1 + int(uniform(state, 0) * (self.frames - 1))
        shares = (1 / torch.arange(1, j + 1, dtype=torch.float64)).cumsum(0)
        i = int(torch.searchsorted(shares, uniform(state, 1) * float(shares[-1]), right=True))
        return min(i, j - 1), j


def _shape(facts: Facts) -> tuple[int, ...]:
    if facts.shape is None or len(facts.shape) not in (2, 3):
        raise DataError(
            f"windows need trajectories of one size, facts.shape = (t, x) or (t, x, y); found {facts.shape}"
        )
    return facts.shape


def _data(batch: Batch) -> Tensor:
    data = batch.views["image"].data
    if not isinstance(data, Tensor) or data.ndim not in (4, 5):
        raise DataError("windows need fields of one size, [n c t x] or [n c t x y]")
    return data


def taken(data: Tensor, frames: Tensor) -> Tensor:
    """The frames [n w] of each sample of data [n c t *space]: [n c w *space]."""
    rows = torch.arange(len(data), device=data.device).unsqueeze(1)
    return data.transpose(1, 2)[rows, frames.to(data.device)].transpose(1, 2).contiguous()


def steps_of(batch: Batch) -> Tensor:
    """(dt, dx, ...) of each sample [n 1 + axes] in the dtype of its fields, from the coordinates among the facts."""
    data, found = _data(batch), []
    for axis, name in enumerate(("time", *_AXES[: data.ndim - 3])):
        x = batch.facts.get(name)
        if x is None or x.shape[1] != data.shape[2 + axis]:
            raise DataError(
                f"windows need the coordinate {name!r} [n {data.shape[2 + axis]}] among the facts of the batch"
            )
        found.append((x[:, -1] - x[:, 0]) / max(x.shape[1] - 1, 1))
    return torch.stack(found, 1).to(data.dtype)


def context_of(views: Any, batch: Batch) -> Mapping[str, View]:
    """The plain view of `views` under the name 'context'; nothing without views."""
    return {"context": views.plain(batch).views["image"]} if views is not None else {}
