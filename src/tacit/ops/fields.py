"""Fields: sampled solutions of a differential equation with their coordinates, and the check that they solve it.

Legend: n samples, t frames, then the space axes in the order of `space` (x first, then y).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["Field", "difference", "grid_step"]

_STENCIL = 9  # eighth order for a first derivative on a uniform grid


@dataclass(frozen=True)
class Field:
    """Trajectories on a grid.

    values: named components, each [n t *space]. time: [n t]. space: one [n points] for each axis, uniform.
    periodic: whether the data repeat along each axis; the period is then points * step.
    parameters: what is known of each sample (viscosity, buoyancy, initial coefficients), each [n ...].
    stagger: where a component sits relative to `space`, in grid steps for each axis, where that is not zero.
    """

    equation: str
    values: Mapping[str, Tensor]
    time: Tensor
    space: tuple[Tensor, ...]
    periodic: tuple[bool, ...]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    stagger: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.time.shape[0]

    @property
    def steps(self) -> tuple[Tensor, ...]:
        """The grid step of each space axis, [n] each."""
        return tuple(grid_step(x) for x in self.space)

    @property
    def lengths(self) -> tuple[Tensor, ...]:
        """points * step of each space axis, [n] each: the period of a periodic axis."""
        return tuple(grid_step(x) * x.shape[1] for x in self.space)

    def to(self, where: torch.device | torch.dtype | str) -> Field:
        """The same field with every tensor on this device or in this dtype."""

        def move(x: Tensor) -> Tensor:
            return x.to(where)

        return self.replace(
            values={name: move(x) for name, x in self.values.items()},
            time=move(self.time),
            space=tuple(move(x) for x in self.space),
            parameters={name: move(x) for name, x in self.parameters.items()},
        )

    def replace(self, **changes: object) -> Field:
        """The same field with some attributes replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def pick(self, which: slice | Tensor | list[int]) -> Field:
        """Some of the samples."""
        return self.replace(
            values={name: x[which] for name, x in self.values.items()},
            time=self.time[which],
            space=tuple(x[which] for x in self.space),
            parameters={name: x[which] for name, x in self.parameters.items()},
        )

    @staticmethod
    def join(fields: Sequence[Field]) -> Field:
        """Fields of one equation and shape, one after another."""
        first = fields[0]
        return first.replace(
            values={name: torch.cat([f.values[name] for f in fields]) for name in first.values},
            time=torch.cat([f.time for f in fields]),
            space=tuple(torch.cat([f.space[i] for f in fields]) for i in range(len(first.space))),
            parameters={name: torch.cat([f.parameters[name] for f in fields]) for name in first.parameters},
        )

    def crop(self, start: tuple[int, ...], size: tuple[int, ...]) -> Field:
        """The block `size` from `start`, both over (t, *space). A cut axis is periodic no more."""
        full = (self.time.shape[1], *(x.shape[1] for x in self.space))
        for axis, (a, s, f) in enumerate(zip(start, size, full, strict=True)):
            if s < 1 or a < 0 or a + s > f:
                raise DataError(f"crop of {s} from {a} does not fit axis {axis} of size {f}: the field is {full}")
        cut = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
        return self.replace(
            values={name: x[(slice(None), *cut)] for name, x in self.values.items()},
            time=self.time[:, cut[0]],
            space=tuple(x[:, c] for x, c in zip(self.space, cut[1:], strict=True)),
            periodic=tuple(p and s == f for p, s, f in zip(self.periodic, size[1:], full[1:], strict=True)),
        )

    def check(self) -> Field:
        """The field itself if it is sound; else a sentence on what is not: shapes, NaN, gaps in time, uneven grids."""
        full = (*self.time.shape, *(x.shape[1] for x in self.space))
        for name, x in self.values.items():
            if tuple(x.shape) != full:
                raise DataError(f"component {name!r} has shape {tuple(x.shape)}, its coordinates say {full}")
            bad = ~x.isfinite().flatten(2).all(-1)
            if bool(bad.any()):
                i, j = (int(k) for k in bad.nonzero()[0])
                raise DataError(
                    f"component {name!r} of trajectory {i} is not finite from frame {j} on"
                    f" ({int(bad.any(1).sum())} of {len(self)} trajectories): drop them or make them again"
                )
        gaps = self.time.diff(dim=1)
        if gaps.shape[1]:
            typical = gaps.median(dim=1, keepdim=True).values
            wrong = (gaps <= 0) | (gaps > 1.5 * typical)
            if bool(wrong.any()):
                i, j = (int(k) for k in wrong.nonzero()[0])
                raise DataError(
                    f"time of trajectory {i} goes from {float(self.time[i, j]):g} to {float(self.time[i, j + 1]):g}"
                    f" after frame {j}, where steps are {float(typical[i, 0]):g}: cut the trajectory at the gap"
                )
        for axis, x in enumerate(self.space):
            steps = x.diff(dim=1)
            if bool(((steps - steps.mean(1, keepdim=True)).abs() > 1e-4 * steps.mean(1, keepdim=True).abs()).any()):
                raise DataError(f"space axis {axis} is not evenly spaced: resample it to a uniform grid first")
        return self


def grid_step(x: Tensor) -> Tensor:
    """The step [n] of uniform coordinates [n points]."""
    return (x[:, -1] - x[:, 0]) / (x.shape[1] - 1)


def difference(u: Tensor, x: Tensor, dim: int, order: int = 1) -> Tensor:
    """d^order u / dx^order by nine-point stencils fitted to the coordinates `x` [n points], uniform or not.

    Only where the stencil fits: the result has eight points fewer along `dim`. On a uniform grid a first derivative
    has the weights (1/280, -4/105, 1/5, -4/5, 0, ...) / h and order eight.
    """
    if x.shape[1] < _STENCIL:
        raise DataError(f"a nine-point difference needs at least 9 points along the axis, found {x.shape[1]}")
    near = x.unfold(1, _STENCIL, 1)
    offset = near - near[..., _STENCIL // 2 : _STENCIL // 2 + 1]
    scale = offset.abs().amax(-1, keepdim=True)
    powers = (offset / scale).unsqueeze(-2) ** torch.arange(_STENCIL, device=x.device, dtype=x.dtype).unsqueeze(-1)
    target = torch.zeros(*near.shape, 1, dtype=x.dtype, device=x.device)
    target[..., order, 0] = float(torch.exp(torch.lgamma(torch.tensor(order + 1.0))).round())
    weights = torch.linalg.solve(powers, target).squeeze(-1) / scale**order
    windows = u.unfold(dim, _STENCIL, 1)
    shape = [1] * windows.ndim
    shape[0], shape[dim], shape[-1] = weights.shape
    return (windows * weights.reshape(shape)).sum(-1)
