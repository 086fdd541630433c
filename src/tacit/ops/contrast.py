"""Repulsion of every row from every column in tiles, so that memory grows with the rows and not with their pairs. Pure.

Legend: r rows, c columns, d features; M_ij = row_i . column_j / divisor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tacit.ops.gradients import known, wanted

__all__ = ["Entries", "absolute_sum", "log_sum_exp"]

Entries = Literal["plain", "absolute", "square"]

_Visit = Callable[
    [Tensor, Tensor, bool], tuple[Tensor, Tensor]
]  # (tile of M, hidden, slope wanted) -> value, dvalue/dM
_TILE = 1 << 26  # entries of one buffer of M: 256 MiB in float32
_COLD = 0.025  # below this temperature exp(-2 / temperature) underflows in float32, and the row maximum is the shift


def log_sum_exp(
    rows: Float[Tensor, "r d"],
    columns: Float[Tensor, "c d"],
    hidden: Int[Tensor, "r h"],
    temperature: float,
    entries: Entries = "plain",
    bounded: bool = False,
    divisor: float = 1.0,
) -> Float[Tensor, ""]:
    """sum_i log sum_{j not in hidden_i} exp(phi(M_ij) / temperature), phi(x) = x, |x| or x^2 by `entries`.

    hidden: columns that do not repel a row, such as itself and its partner. bounded: no |M_ij| is above 1, so that 1 /
    temperature serves as the shift and a pass over M is saved. The gradient is made beside the value, tile by tile.
    """
    shift = 1 / temperature if bounded and temperature >= _COLD else None
    unit = temperature * divisor * (divisor if entries == "square" else 1)  # one pass divides by all of them

    def visit(m: Tensor, hide: Tensor, slope_wanted: bool) -> tuple[Tensor, Tensor]:
        slope = None
        if entries == "absolute":
            slope = m.sign() if slope_wanted else None
            m.abs_()
        elif entries == "square":
            slope = 2 * m if slope_wanted else None
            m.square_()
        logits = m.div_(unit).scatter_(1, hide, -torch.inf)
        peak = logits.amax(dim=1, keepdim=True) if shift is None else shift
        mass = logits.sub_(peak).exp_().sum(dim=1, keepdim=True)
        value = (mass.log() + peak).sum()
        error = logits.div_(mass * unit)
        return value, error if slope is None else error.mul_(slope)

    return _over_tiles("log_sum_exp", visit, rows, columns, hidden)


def absolute_sum(
    rows: Float[Tensor, "r d"], columns: Float[Tensor, "c d"], hidden: Int[Tensor, "r h"], divisor: float = 1.0
) -> Float[Tensor, ""]:
    """sum_i sum_{j not in hidden_i} |M_ij|."""

    def visit(m: Tensor, hide: Tensor, slope_wanted: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        m.div_(divisor).scatter_(1, hide, 0.0)
        return m.abs().sum(dim=1).sum(), m.sign_().div_(divisor)

    return _over_tiles("absolute_sum", visit, rows, columns, hidden)


def _over_tiles(name: str, visit: _Visit, rows: Tensor, columns: Tensor, hidden: Tensor) -> Tensor:
    """Sum the value that `visit` finds in each tile of M, with the slope dvalue/dM that it leaves in the tile."""
    to_row, to_column = wanted(rows), wanted(columns)  # keys of a memory want none: half of the work is spared
    keep = to_row or to_column
    with torch.no_grad():
        step = max(1, _TILE // max(1, len(columns)))
        value = rows.new_zeros(())
        to_rows, to_columns = [], torch.zeros_like(columns) if to_column else columns
        for at in range(0, len(rows), step):
            block = rows[at : at + step]
            found, slope = visit(block @ columns.T, hidden[at : at + step], keep)
            value = value + found
            if to_row:
                to_rows.append(slope @ columns)
            if to_column:
                to_columns = to_columns.addmm_(slope.T, block)
    slopes = [(rows, torch.cat(to_rows))] if to_row else []
    return known(name, value, *slopes, *([(columns, to_columns)] if to_column else []))
