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
from tacit.views.lie.algebra import Method
from tacit.views.lie.groups import GROUPS
from tacit.views.lie.maker import Maker

__all__ = ["LieLine", "LiePlane"]

Strength = Annotated[float, Ge(0)]
Size = Annotated[float, Gt(0)]
PlaneUse = Literal["all", "none", "time", "shift", "scale", "rotation", "linear", "quadratic"]
_LINE = ("time", "shift", "galilei", "scale", "projective", "level")
Order = Literal[1, 2, 4, 6, 8]
Steps = Annotated[int, Ge(1)]


@part("views", "lie-line")
class LieLine:
    """Two views of an equation on a line: pictures [n 3 t x] of u and its coordinates (u, x, t), moved and cropped.

    Strengths are the largest parameters, drawn from U(-s, s), time from U(0, s). The defaults are those of LPSDA
    (arXiv 2202.07643): Galilei 0.4, scale 0.05 (its code halves the documented 0.1), shift 0.5 of the domain given by
    `length`. `projective` exists for Burgers alone. "burgers-potential" takes heat solutions psi (world "heat") and shows
    w = -2 nu log psi in place of u, moved by the symmetries of Burgers lifted to it and by `level`. crop: frames and points
    kept, 0 for all. use: one symmetry by itself or none, for ablations. unit: what u, x and t are divided by; (1, 1, 1) hands
    them over raw, as the paper does.
    """

    names = ("a", "b")

    def __init__(
        self,
        facts: Facts,
        *,
        equation: Literal["kdv", "ks", "burgers", "burgers-potential"] = "kdv",
        time: Strength = 0.0,
        shift: Strength = 0.5,
        length: Annotated[float, Ge(0)] = 128.0,
        galilei: Strength = 0.4,
        scale: Strength = 0.05,
        projective: Strength = 0.0,
        level: Strength = 0.0,
        use: Literal["all", "none", "time", "shift", "galilei", "scale", "projective", "level"] = "all",
        crop: tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)]] = (0, 0),
        unit: tuple[Size, Size, Size] = (1.0, 1.0, 1.0),
        method: Method = "exact",
        order: Order = 2,
        steps: Steps = 2,
    ) -> None:
        group = GROUPS[equation]
        given = {"time": time, "shift": shift * length, "galilei": galilei, "scale": scale, "projective": projective,
                 "level": level}  # fmt: skip
        self.crop = _crop(facts, crop)
        strengths = {name: s for name, s in given.items() if name in group.generators and _used(name, use)}
        self._shown = "w" if equation == "burgers-potential" else "u"
        units = dict(zip((self._shown, "x", "t"), unit, strict=True))
        self._maker = Maker(group, strengths, self.crop, method, order, steps, "correct", units)
        self.facts = dataclasses.replace(facts, channels=3, shape=self.crop, mean=(), std=())

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        if not settings["equation"].startswith("burgers") and settings["projective"] > 0:
            yield f"projective: only Burgers has this symmetry, found equation={settings['equation']!r}"
        if settings["equation"] != "burgers-potential" and settings["level"] > 0:
            yield f"level: only a potential has this symmetry, found equation={settings['equation']!r}"
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
        name = self._shown
        if name == "w":
            batch = dataclasses.replace(batch, views={"image": View(_potential(batch))})
        return self._maker.make(batch, {name: 0}, (name, "x", "t"), seed, epoch, view, moved)


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
        self._maker = Maker(group, strengths, self.crop, method, order, steps, compat, units)
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


def _potential(batch: Batch) -> Tensor:
    """w = -2 nu log psi of heat solutions [n 1 t x]."""
    psi = batch.views["image"].data
    if not isinstance(psi, Tensor) or not bool((psi > 0).all()):
        low = f", found {float(psi.min()):.3g}" if isinstance(psi, Tensor) else ""
        raise DataError(f"the potential is -2 nu log psi of a positive heat solution{low}: use the world 'heat'")
    if "viscosity" not in batch.facts:
        raise DataError("the potential of Burgers needs 'viscosity' among the facts of the batch: use the world 'heat'")
    return -2 * batch.facts["viscosity"].to(psi).reshape(-1, 1, 1, 1) * psi.log()


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
