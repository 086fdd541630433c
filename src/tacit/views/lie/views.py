"""Two views of a trajectory: a random group element and a random crop each, coordinates beside the fields as channels.

Reads batches whose view "image" is [n c t x] or [n c t x y], raw, with the coordinates "time" [n t], "x" [n x] (and "y")
among the facts. The crop is cut first and only it is moved: the element is one small matrix, so the order does not matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.views.lie.algebra import Element, Group, Method
from tacit.views.lie.apply import Points, act
from tacit.views.lie.fused import move_into, room
from tacit.views.lie.groups import GROUPS
from tacit.views.lie.sample import draw, draw_starts

__all__ = ["LieLine", "LiePlane"]

Strength = Annotated[float, Ge(0)]
Size = Annotated[float, Gt(0)]
PlaneUse = Literal["all", "none", "time", "shift", "scale", "rotation", "linear", "quadratic"]
_LINE = ("time", "shift", "galilei", "scale", "projective")
Order = Literal[1, 2, 4, 6, 8]
Steps = Annotated[int, Ge(1)]


@dataclasses.dataclass(frozen=True)
class _Maker:
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
        """The moved crop of each sample, [n c t *space] with the channels in this order; view None: first crop, not moved.

        Sample by sample: one crop at a time stays in the cache, which is worth more than a larger batch of operations.
        """
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
        for i, row in enumerate(start.tolist()):
            cut = tuple(slice(a, a + s) for a, s in zip(row, self.crop, strict=True))
            values = {name: data[i : i + 1, c][(slice(None), *cut)] for name, c in fields.items()}
            shaped = self._shaped([batch.facts[name][i : i + 1, c].to(data) for name, c in zip(axes, cut, strict=True)])
            after = act(Points(shaped[0], tuple(shaped[1:]), values), Element(self.group, element.matrix[i : i + 1]))
            named = {"t": after.time, **dict(zip(axes[1:], after.space, strict=True)), **after.values}
            for c, name in enumerate(order):
                out[i, c] = named[name][0]
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
        crops = {}
        for k, (name, size) in enumerate(zip(("t", *axes), self.crop, strict=True)):
            known = batch.facts["time" if name == "t" else name]
            crops[name] = known.gather(1, start[:, k : k + 1] + torch.arange(size))
        along = axes[::-1] if self.compat == "official" else axes
        move_into(out, order, self.group.variables, matrix, crops, along, data, fields, start)

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


@part("views", "lie-line")
class LieLine:
    """Two views of an equation on a line: pictures [n 3 t x] of u and its coordinates (u, x, t), moved and cropped.

    Strengths are the largest parameters, drawn from U(-s, s), time from U(0, s). The defaults are those of LPSDA
    (arXiv 2202.07643): Galilei 0.4, scale 0.05 (its code halves the documented 0.1), shift 0.5 of the domain given by
    `length`. `projective` exists for Burgers alone. crop: frames and points kept, 0 for all. use: one symmetry by itself
    or none, for ablations. unit: what u, x and t are divided by; (1, 1, 1) hands them over raw, as the paper does.
    """

    names = ("a", "b")

    def __init__(
        self,
        facts: Facts,
        *,
        equation: Literal["kdv", "ks", "burgers"] = "kdv",
        time: Strength = 0.0,
        shift: Strength = 0.5,
        length: Annotated[float, Ge(0)] = 128.0,
        galilei: Strength = 0.4,
        scale: Strength = 0.05,
        projective: Strength = 0.0,
        use: Literal["all", "none", "time", "shift", "galilei", "scale", "projective"] = "all",
        crop: tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)]] = (0, 0),
        unit: tuple[Size, Size, Size] = (1.0, 1.0, 1.0),
        method: Method = "exact",
        order: Order = 2,
        steps: Steps = 2,
    ) -> None:
        group = GROUPS[equation]
        given = {"time": time, "shift": shift * length, "galilei": galilei, "scale": scale, "projective": projective}
        self.crop = _crop(facts, crop)
        strengths = {name: s for name, s in given.items() if name in group.generators and _used(name, use)}
        units = dict(zip(("u", "x", "t"), unit, strict=True))
        self._maker = _Maker(group, strengths, self.crop, method, order, steps, "correct", units)
        self.facts = dataclasses.replace(facts, channels=3, shape=self.crop, mean=(), std=())

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        if settings["equation"] != "burgers" and settings["projective"] > 0:
            yield f"projective: only Burgers has this symmetry, found equation={settings['equation']!r}"
        if settings["equation"] == "ks" and settings["scale"] > 0:
            yield "scale: Kuramoto-Sivashinsky has no scaling symmetry, set scale=0"
        if settings["use"] not in ("all", "none") and settings.get(settings["use"], 0) <= 0:
            yield f"use: the strength of {settings['use']!r} is 0, so nothing would be moved: give it a strength"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Strengths that `use` leaves out, and the product formula where the exponential is exact."""
        found = {n: f"use={settings['use']!r}" for n in _LINE if not _used(n, settings["use"])}
        if settings["shift"] == 0 or "shift" in found:
            found["length"] = "there is no shift"
        return found | _exact(settings)

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Views 'a' and 'b'; `how` holds g [n generators] and start [n 2]."""
        return dataclasses.replace(
            batch, views={name: self._view(batch, seed, epoch, v) for v, name in enumerate(self.names)}
        )

    def plain(self, batch: Batch) -> Batch:
        """View 'image': not moved, cropped at the first frames and points."""
        return dataclasses.replace(batch, views={"image": self._view(batch, 0, 0, None)})

    def cut(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """View 'image': not moved, cropped at random."""
        return dataclasses.replace(batch, views={"image": self._view(batch, seed, epoch, 0, moved=False)})

    def _view(self, batch: Batch, seed: int, epoch: int, view: int | None, moved: bool = True) -> View:
        return self._maker.make(batch, {"u": 0}, ("u", "x", "t"), seed, epoch, view, moved)


@part("views", "lie-plane")
class LiePlane:
    """Two views of a flow in the plane: [n 5t x y], the t frames of x, y, t, vx, vy one after another, moved and cropped.

    The defaults are the released recipe of arXiv 2307.05432 (crop of 16 frames; each best single strength divided by
    ten). compat="official" moves as its code does: product formula with its constant, quadratic boosts that are none,
    x and y exchanged between coordinates and fields. components: the order of the fields in the data. use: one kind of
    symmetry by itself ("shift" is both of them, "linear" and "quadratic" the boosts) or none, for ablations. unit: what the
    coordinates, the time and the velocities are divided by; (1, 1, 1) hands them over raw, as the released code does.
    Rotation and scaling change the direction and the size of gravity where there is some (by up to 35 % at 0.1).
    """

    names = ("a", "b")

    def __init__(
        self,
        facts: Facts,
        *,
        time: Strength = 0.0,
        shift_x: Strength = 1.0,
        shift_y: Strength = 1.0,
        scale: Strength = 0.1,
        rotation: Strength = 0.1,
        linear_x: Strength = 0.01,
        linear_y: Strength = 0.01,
        quadratic_x: Strength = 0.01,
        quadratic_y: Strength = 0.01,
        crop: tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)], Annotated[int, Ge(0)]] = (16, 128, 128),
        components: tuple[str, ...] = ("s", "vx", "vy"),
        use: PlaneUse = "all",
        unit: tuple[Size, Size, Size] = (1.0, 1.0, 1.0),
        method: Method = "exact",
        order: Order = 2,
        steps: Steps = 2,
        compat: Literal["correct", "official"] = "correct",
    ) -> None:
        group = GROUPS["navier-stokes"]
        strengths = {n: s for n, s in locals().items() if n in group.generators and _used(n, use)}
        self.crop = _crop(facts, crop)
        self._fields = {name: components.index(name) for name in ("vx", "vy")}
        units = {"x": unit[0], "y": unit[0], "t": unit[1], "vx": unit[2], "vy": unit[2]}
        self._maker = _Maker(group, strengths, self.crop, method, order, steps, compat, units)
        self.facts = dataclasses.replace(facts, channels=5 * self.crop[0], shape=self.crop[1:], mean=(), std=())

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        for name in ("vx", "vy"):
            if name not in settings["components"]:
                yield f"components: needs {name!r}, found {', '.join(settings['components']) or '(none)'}"
        for name in settings["components"]:
            if name not in ("s", "vx", "vy", "p"):
                yield f"components: a flow has the components s, vx, vy and p, found {name!r}"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Strengths that `use` leaves out, and the product formula where the exponential is exact."""
        names = GROUPS["navier-stokes"].generators
        found = {n: f"use={settings['use']!r}" for n in names if not _used(n, settings["use"])}
        return found | _exact(settings)

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Views 'a' and 'b'; `how` holds g [n generators] and start [n 3]."""
        return dataclasses.replace(
            batch, views={name: self._view(batch, seed, epoch, v) for v, name in enumerate(self.names)}
        )

    def plain(self, batch: Batch) -> Batch:
        """View 'image': not moved, cropped at the first frames."""
        return dataclasses.replace(batch, views={"image": self._view(batch, 0, 0, None)})

    def cut(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """View 'image': not moved, cropped at random."""
        return dataclasses.replace(batch, views={"image": self._view(batch, seed, epoch, 0, moved=False)})

    def _view(self, batch: Batch, seed: int, epoch: int, view: int | None, moved: bool = True) -> View:
        made = self._maker.make(batch, self._fields, ("x", "y", "t", "vx", "vy"), seed, epoch, view, moved)
        return View(torch.as_tensor(made.data).flatten(1, 2), made.how)


def _used(generator: str, use: str) -> bool:
    """Whether a generator takes part: 'shift' stands for 'shift_x' and 'shift_y'."""
    return use == "all" or generator == use or generator.startswith(f"{use}_")


def _exact(settings: Mapping[str, Any]) -> dict[str, str]:
    exact = settings["method"] == "exact"
    return dict.fromkeys(("order", "steps"), "method='exact' uses no product formula") if exact else {}


def _crop(facts: Facts, crop: tuple[int, ...]) -> tuple[int, ...]:
    """The crop with 0 replaced by the whole axis."""
    if facts.shape is None or len(facts.shape) != len(crop):
        raise DataError(
            f"Lie views need samples of the shape (t{', x' * (len(crop) - 1)}), found facts.shape = {facts.shape}"
        )
    for axis, (c, f) in enumerate(zip(crop, facts.shape, strict=True)):
        if c > f:
            raise DataError(f"crop of {c} does not fit axis {axis} of size {f}: the samples are {facts.shape}")
    return tuple(c or f for c, f in zip(crop, facts.shape, strict=True))
