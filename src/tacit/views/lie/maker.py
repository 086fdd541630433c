"""The one way to a view: draw an element and a crop for each sample, move the crop, lay out its channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.values import Batch, View
from tacit.views.lie.algebra import Element, Group, Method
from tacit.views.lie.apply import Points, act
from tacit.views.lie.fused import move_into, room
from tacit.views.lie.sample import draw, draw_starts

__all__ = ["Maker"]


@dataclasses.dataclass(frozen=True)
class Maker:
    """What both parts share: draw, crop, move."""

    group: Group
    strengths: Mapping[str, float]
    crop: tuple[int, ...]
    method: Method
    order: int
    steps: int
    compat: Literal["correct", "official"]
    unit: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def make(
        self,
        batch: Batch,
        fields: dict[str, int],
        order: tuple[str, ...],
        seed: int,
        epoch: int,
        view: int | None,
        moved: bool = True,
    ) -> View:
        """The moved crop of each sample, [n c t *space] with the channels in this order; view None: first crop, not moved."""
        data = self._checked(batch)
        axes = ("time", "x", "y")[: len(self.crop)]
        ids, n = batch.ids.tolist(), len(batch)
        g = torch.zeros(n, len(self.group.generators), dtype=torch.float64)
        start = torch.zeros(n, len(axes), dtype=torch.int64)
        if view is not None and moved:
            g = draw(self.group, self.strengths, seed, epoch, ids, view, batch.facts["time"])
        if view is not None:
            start = draw_starts(self.crop, data.shape[2:], seed, epoch, ids, view)
        element = self._element(g, batch)
        out = room(n, len(order), *self.crop, like=data)
        if self.group.action == "linear" and data.device.type == "cpu":
            self._move(out, order, element.matrix, batch, data, fields, start)
            return View(self._in_units(out, order), {"g": g, "start": start})
        crops = self._crops(batch, start)
        values = {name: cut_each(data[:, c], start, self.crop) for name, c in fields.items()}
        shaped = self._shaped([c.to(data) for c in crops.values()])
        after = act(Points(shaped[0], tuple(shaped[1:]), values), element)
        named = {"t": after.time, **dict(zip(axes[1:], after.space, strict=True)), **after.values}
        for c, name in enumerate(order):
            out[:, c] = named[name]
        return View(self._in_units(out, order), {"g": g, "start": start})

    def _move(
        self,
        out: Tensor,
        order: tuple[str, ...],
        matrix: Tensor,
        batch: Batch,
        data: Tensor,
        fields: dict[str, int],
        start: Tensor,
    ) -> None:
        """All crops at once. The released code lays x along the last axis though the fields are [t x y]."""
        axes = ("x", "y")[: len(self.crop) - 1]
        along = axes[::-1] if self.compat == "official" else axes
        move_into(out, order, self.group.variables, matrix, self._crops(batch, start), along, data, fields, start)

    def _crops(self, batch: Batch, start: Tensor) -> dict[str, Tensor]:
        """The coordinates of each crop by name, [n points] each: 't', 'x' and, in the plane, 'y'."""
        crops = {}
        for k, (name, size) in enumerate(zip(("t", "x", "y"), self.crop, strict=False)):
            known = batch.facts["time" if name == "t" else name]
            whole = known.shape[1] == size
            crops[name] = (
                known if whole else known.gather(1, (start[:, k : k + 1] + torch.arange(size)).to(known.device))
            )
        return crops

    def _in_units(self, out: Tensor, order: tuple[str, ...]) -> Tensor:
        for c, name in enumerate(order):
            if self.unit.get(name, 1.0) != 1.0:
                out[:, c] /= self.unit[name]
        return out

    def _checked(self, batch: Batch) -> Tensor:
        data, name = batch.views["image"].data, self.group.equation
        if not isinstance(data, Tensor) or data.ndim != 2 + len(self.crop):
            raise DataError(f"views of {name} need fields of one size, [n c t x{' y' if len(self.crop) > 2 else ''}]")
        for axis, coordinate in enumerate(("time", "x", "y")[: len(self.crop)]):
            if coordinate not in batch.facts:
                raise DataError(f"views of {name} need the coordinate {coordinate!r} among the facts of the batch")
            if batch.facts[coordinate].shape != (len(batch), data.shape[2 + axis]):
                raise DataError(
                    f"coordinate {coordinate!r} has shape {tuple(batch.facts[coordinate].shape)}, the fields say"
                    f" {(len(batch), data.shape[2 + axis])}: the file and its domain do not match"
                )
        return data

    def _element(self, g: Tensor, batch: Batch) -> Element:
        known = {name: batch.facts[name] for name in self.group.coupled if name in batch.facts}
        return self.group.element(g, known, method=self.method, order=self.order, steps=self.steps, compat=self.compat)

    def _shaped(self, coordinates: list[Tensor]) -> list[Tensor]:
        """Each coordinate along its own axis. The released code lays x along the last axis though the fields are [t x y]."""
        axes = len(coordinates)
        place = [0, 2, 1] if self.compat == "official" and axes == 3 else list(range(axes))
        return [
            c.reshape(len(c), *(1,) * place[a], -1, *(1,) * (axes - 1 - place[a])) for a, c in enumerate(coordinates)
        ]


def cut_each(u: Tensor, start: Tensor, size: tuple[int, ...]) -> Tensor:
    """The crop of each sample of u [n t *space], where they begin at `start` [n axes]."""
    cuts = ([slice(a, a + s) for a, s in zip(row, size, strict=True)] for row in start.tolist())
    return torch.stack([one[tuple(cut)] for one, cut in zip(u, cuts, strict=True)])
