"""One sample of a linear group moved straight into its output: each channel is written once for each field it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["move_into"]


def move_into(
    out: Tensor,
    order: Sequence[str],
    variables: Sequence[str],
    matrix: Sequence[Sequence[float]],
    time: Tensor,
    space: Mapping[str, Tensor],
    fields: Mapping[str, Tensor],
) -> None:
    """z' = A z for the channels `order` (of 't', the axes and the fields) into `out` [c t *space].

    matrix: A as numbers. time: [t] in float64. space: each axis along its own dimension, [1 x 1] or [1 1 y], float64.
    fields: [t *space]. The same numbers as `act`, without its temporaries: those cost more than the arithmetic.
    """
    of_time = {"tt": time.square(), "t": time, "1": torch.ones_like(time)}
    column = time.shape + (1,) * (out.ndim - 2)
    for to, name in zip(out, order, strict=True):
        row = {c: a for c, a in zip(variables, matrix[variables.index(name)], strict=True) if a}
        unknown = [c for c in row if c not in of_time and c not in space and c not in fields]
        if unknown:
            raise DataError(f"this element changes {name!r} by {unknown[0]!r}, which the field lacks")
        base = torch.zeros_like(time)
        for c in row.keys() & of_time.keys():
            base = base + row[c] * of_time[c]
        start = base.reshape(column).to(out.dtype)
        along = [row[c] * space[c] for c in space if c in row]
        if along:
            start = start + sum(along[1:], along[0]).to(out.dtype)
        wanted = [c for c in fields if c in row]
        if not wanted:
            to.copy_(start.expand_as(to))
            continue
        torch.add(start, fields[wanted[0]], alpha=row[wanted[0]], out=to)
        for c in wanted[1:]:
            to.add_(fields[c], alpha=row[c])
