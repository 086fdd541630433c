"""Group elements on sampled fields: as new coordinates and values of every grid point, or resampled onto a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops import interpolation, spectral
from tacit.ops.fields import Field, grid_step
from tacit.views.lie.algebra import Element

__all__ = ["Points", "Resample", "act", "resample", "transform"]

Resample = Literal["trigonometric", "upsampled", "cubic"]
_SEAM = 4  # a jump this many times the largest between neighbours is no step of a periodic field
_FINER = 4  # "upsampled": zero-padded Fourier x4, then cubic; 4e-6 on a resolved frame where cubic alone costs 5e-4


@dataclass(frozen=True)
class Points:
    """A field off the grid: time, space and values of every point, each broadcastable to [n t *space]."""

    time: Tensor
    space: tuple[Tensor, ...]
    values: Mapping[str, Tensor]

    def full(self) -> Points:
        """The same with every tensor at full size."""
        shape = torch.broadcast_shapes(
            self.time.shape, *(x.shape for x in self.space), *(v.shape for v in self.values.values())
        )
        return Points(
            self.time.expand(shape),
            tuple(x.expand(shape) for x in self.space),
            {name: v.expand(shape) for name, v in self.values.items()},
        )


def transform(field: Field, element: Element) -> Points:
    """The graph of the solution moved by the element: exact, no resampling. In the dtype of the field's values."""
    axes = len(field.space)
    time = field.time.reshape(*field.time.shape, *(1,) * axes)
    space = tuple(x.reshape(len(x), *(1,) * (i + 1), -1, *(1,) * (axes - 1 - i)) for i, x in enumerate(field.space))
    return act(Points(time, space, field.values), element)


def act(points: Points, element: Element) -> Points:
    """Points moved by the element."""
    if element.group.action == "projective":
        return _projective(points, element)
    return _linear(points, element)


def _linear(points: Points, element: Element) -> Points:
    """z' = A z row by row, the terms that depend on fewer axes added up first. Zero entries cost nothing."""
    names = element.group.variables
    like = next(iter(points.values.values()))
    labels = ("x", "y", "z")[: len(points.space)]
    z: dict[str, Tensor] = {
        "tt": points.time.square(),
        "t": points.time,
        **dict(zip(labels, points.space, strict=True)),
    }
    z.update(points.values)
    used = [name for name in names if name in z or name == "1"]
    matrix = element.matrix.to(like.device)
    nonzero = (matrix != 0).any(0).tolist()

    def row(target: str) -> Tensor:
        r = names.index(target)
        groups: dict[torch.Size, Tensor] = {}
        total: Tensor = points.time.new_zeros(1)
        for column in names:
            c = names.index(column)
            if not nonzero[r][c]:
                continue
            if column not in used:
                raise DataError(
                    f"this element changes {target!r} by {column!r}, which the field lacks (it has {', '.join(z)})"
                )
            scale = matrix[:, r, c].reshape(-1, *(1,) * (points.time.ndim - 1))
            term = scale if column == "1" else scale.to(z[column].dtype) * z[column]
            groups[term.shape] = groups[term.shape] + term if term.shape in groups else term
        for shape in sorted(groups, key=lambda s: s.numel()):
            total = total + groups[shape].to(z[target].dtype)
        return total

    wanted = [name for name in points.values if name in names]
    missing = [name for name in points.values if name not in names]
    if missing:
        raise DataError(f"the group of {element.group.equation!r} does not say how {missing[0]!r} transforms: drop it")
    return Points(row("t"), tuple(row(name) for name in labels), {name: row(name) for name in wanted})


def _coefficients(element: Element, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Burgers: t', lambda, beta, gamma, c of the projective action at `time` [n t ...]; refuses a sign change of lambda."""

    def entry(row: int, column: int) -> Tensor:
        return element.matrix[:, row, column].to(time).reshape(-1, *(1,) * (time.ndim - 1))

    slope = entry(2, 1)
    scale = slope * time + entry(2, 2)
    if bool((scale <= 0).any()):
        i = int((scale <= 0).flatten(1).any(1).nonzero()[0])
        raise DataError(
            f"projective element {i} sends a time of the sample to infinity (c t + d = {float(scale[i].min()):.3g}):"
            " draw it again or lower the strength"
        )
    return (entry(1, 1) * time + entry(1, 2)) / scale, scale, entry(0, 1), entry(0, 2), slope, entry(0, 0)


def _projective(points: Points, element: Element) -> Points:
    time, scale, beta, gamma, slope, _ = _coefficients(element, points.time)
    x = points.space[0] + beta * points.time + gamma
    if "w" in points.values and "level" in element.group.variables:
        return Points(time, (x / scale,), {"w": _lifted(points, element, x, scale)})
    u = points.values["u"]
    return Points(time, (x / scale,), {"u": (u + beta) * scale - slope * x})


def _lifted(points: Points, element: Element, x: Tensor, scale: Tensor) -> Tensor:
    """The potential w of Burgers: its slope moves like u, the rest of it, a function of time, so that it still solves its equation.

    x: x + beta t + gamma before the division by `scale` = c t + d.
    """

    def of(v: Tensor) -> Tensor:
        return v.to(points.time).reshape(-1, *(1,) * (points.time.ndim - 1))

    beta, gamma, level, slope = (of(element.matrix[:, r, c]) for r, c in ((0, 1), (0, 2), (0, 3), (2, 1)))
    boost = beta * points.space[0] + beta * (beta * points.time + gamma) / 2 + level
    nu = of(element.parameters["viscosity"])
    return points.values["w"] + boost - slope * x.square() / (2 * scale) - nu * scale.log()


def resample(
    field: Field,
    element: Element,
    kind: Resample = "trigonometric",
    space: tuple[Tensor, ...] | None = None,
) -> Field:
    """The moved solution on a uniform grid in space; rows stay rows, at their new times.

    space: target coordinates, [n points] for each axis; by default the grid of `field`, stretched where the element
    scales, so that it still holds one period.
    kind: "trigonometric" evaluates the Fourier series at the new points (exact for resolved periodic data; dense, so
    slow in two dimensions), "upsampled" refines by Fourier and goes on by cubic, "cubic" alone also serves data that are
    not periodic, within the region they cover.
    """
    if kind != "cubic":
        for periodic in field.periodic:
            spectral.require_periodic(periodic, f"resampling by kind={kind!r}")
        _refuse_seams(field)
    stretch, straight = _stretch(element, len(field.space))
    target = tuple(x * stretch.to(x).unsqueeze(1) for x in field.space) if space is None else space
    axes = len(field.space)
    time = field.time.reshape(*field.time.shape, *(1,) * axes)
    grid = [x.reshape(len(x), *(1,) * (i + 1), -1, *(1,) * (axes - 1 - i)) for i, x in enumerate(target)]
    source = _pull_back(element, time, grid)
    values = _interpolate(field, source, kind)
    moved = act(Points(time, tuple(source), values), element).full()
    return field.replace(
        values=moved.values,
        time=moved.time.flatten(2)[..., 0],
        space=tuple(target),
        periodic=tuple(p and straight and space is None for p in field.periodic),
    )


def _refuse_seams(field: Field) -> None:
    """Data that are called periodic and jump where they should close, in every frame: their Fourier series rings everywhere."""
    for name, u in field.values.items():
        for axis in range(len(field.space)):
            dim = axis + 2
            ends = u.narrow(dim, -1, 1) - u.narrow(dim, 0, 1)
            seam, inside, size = (v.abs().flatten(2).amax(-1) for v in (ends, u.diff(dim=dim), u))
            open_ = (seam > _SEAM * inside + 1e-9 * size).all(1)
            if bool(open_.any()):
                i = int(open_.nonzero()[0])
                raise DataError(
                    f"component {name!r} of trajectory {i} does not close along {'xyz'[axis]}: it jumps by {float(seam[i, 0]):.3g} where"
                    f" the ends meet and by {float(inside[i, 0]):.3g} at most elsewhere: resample it by kind='cubic' with periodic=False"
                )


def _stretch(element: Element, axes: int) -> tuple[Tensor, bool]:
    """By how much lengths grow [n], and whether that is all that happens to a period (no rotation, no bending)."""
    m = element.matrix
    if element.group.action == "projective":
        bent = bool(m[:, 2, 1].abs().max() > 0)
        tilted = "level" in element.group.variables and bool(m[:, 0, 1].abs().max() > 0)  # a boost adds beta x
        return (torch.ones_like(m[:, 2, 2]) if bent else 1 / m[:, 2, 2]), not (bent or tilted)
    labels = ("x", "y")[:axes]
    block = torch.stack([torch.stack([element.entry(r, c) for c in labels], -1) for r in labels], -2)
    stretch = torch.linalg.det(block).abs() ** (1 / axes)
    identity = torch.eye(axes, dtype=m.dtype, device=m.device)
    return stretch, bool((block / stretch[:, None, None] - identity).abs().max() < 1e-12)


def _pull_back(element: Element, time: Tensor, grid: list[Tensor]) -> list[Tensor]:
    """Where the points of the target grid come from, at the source time of each row."""
    if element.group.action == "projective":
        _, scale, beta, gamma, _, _ = _coefficients(element, time)
        return [grid[0] * scale - beta * time - gamma]
    labels = ("x", "y")[: len(grid)]

    def entry(r: str, c: str) -> Tensor:
        if c not in element.group.variables:
            return torch.zeros_like(time[..., :1])
        return element.entry(r, c).to(time).reshape(-1, *(1,) * (time.ndim - 1))

    at = [
        x - entry(r, "1") - entry(r, "t") * time - entry(r, "tt") * time.square()
        for r, x in zip(labels, grid, strict=True)
    ]
    if len(at) == 1:
        return [at[0] / entry("x", "x")]
    a, b, c, d = entry("x", "x"), entry("x", "y"), entry("y", "x"), entry("y", "y")
    determinant = a * d - b * c
    return [(d * at[0] - b * at[1]) / determinant, (a * at[1] - c * at[0]) / determinant]


def _interpolate(field: Field, source: list[Tensor], kind: Resample) -> dict[str, Tensor]:
    origin = [x[:, :1].reshape(-1, *(1,) * (source[0].ndim - 1)) for x in field.space]
    steps = [grid_step(x).reshape(-1, *(1,) * (source[0].ndim - 1)) for x in field.space]
    shape = torch.broadcast_shapes(*(s.shape for s in source))
    full = (shape[0], field.time.shape[1], *shape[2:])
    at = [((s - o) / h).expand(full) for s, o, h in zip(source, origin, steps, strict=True)]
    return {name: _values(field, name, u, at, kind) for name, u in field.values.items()}


def _values(field: Field, name: str, u: Tensor, at: list[Tensor], kind: Resample) -> Tensor:
    """One component at fractional grid indices `at`, staggering taken into account."""
    offset = field.stagger.get(name, (0.0,) * len(at))
    at = [(a - o).to(u.dtype) for a, o in zip(at, offset, strict=True)]
    if kind == "trigonometric":
        if len(at) == 1:
            return spectral.evaluate(u, at[0], float(u.shape[-1]))
        return _evaluate_plane(u, at)
    factor = 1
    if kind == "upsampled":
        factor = _FINER
        for dim in range(2, u.ndim):
            u = spectral.upsample(u, factor, dim)
    if len(at) == 1:
        return interpolation.cubic(u, at[0] * factor, field.periodic[0])
    return interpolation.cubic_plane(u, (at[0] * factor, at[1] * factor), (field.periodic[0], field.periodic[1]))


def _evaluate_plane(u: Tensor, at: list[Tensor]) -> Tensor:
    """The two-dimensional Fourier series of u [n t x y] at any points [n t p q]: a dense sum, frame by frame."""
    a, b = u.shape[-2:]
    out = torch.empty(*u.shape[:2], *at[0].shape[2:], dtype=u.dtype, device=u.device)
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            rows = spectral.evaluate(u[i, j].expand(at[1][i, j].numel(), a, b), at[1][i, j].reshape(-1, 1, 1), float(b))
            line = spectral.evaluate(rows.squeeze(-1), at[0][i, j].reshape(-1, 1), float(a))
            out[i, j] = line.reshape(at[0].shape[2:])
    return out
