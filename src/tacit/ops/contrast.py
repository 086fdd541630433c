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

_Visit = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor]]  # (scaled tile, its rows, slope wanted) -> value, slope
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
    partner: Int[Tensor, " r"] | None = None,
) -> Float[Tensor, ""]:
    """sum_i log sum_{j not in hidden_i} exp(phi(M_ij) / temperature), phi(x) = x, |x| or x^2 by `entries`.

    hidden: columns that do not repel a row, such as itself and its partner. bounded: no |M_ij| is above 1, so that 1 /
    temperature serves as the shift and a pass over M is saved. partner: a column for each row whose M_ij / temperature is taken off, which
    makes it the cross entropy of naming the partner; for plain entries. The gradient is made beside the value, tile by tile.
    """
    shift = 1 / temperature if bounded and temperature >= _COLD else None
    unit = temperature * divisor * (divisor if entries == "square" else 1)
    scale = unit**-0.5 if entries == "square" else 1 / unit  # the rows carry it: they are fewer numbers than M

    def visit(m: Tensor, at: slice, slope_wanted: bool) -> tuple[Tensor, Tensor]:
        slope = None
        if entries == "absolute":
            slope = m.sign() if slope_wanted else None
            m.abs_()
        elif entries == "square":
            slope = 2 * m if slope_wanted else None
            m.square_()
        pull = None if partner is None else m.gather(1, partner[at, None])
        logits = m.scatter_(1, hidden[at], -torch.inf)
        peak = logits.amax(dim=1, keepdim=True) if shift is None else shift
        mass = logits.sub_(peak).exp_().sum(dim=1, keepdim=True)
        value = mass.log() + peak
        error = logits.div_(mass) if slope_wanted else logits
        if pull is not None and partner is not None:
            value = value - pull
            error.scatter_add_(1, partner[at, None], torch.full_like(pull, -1.0))  # softmax minus one-hot
        return value.sum(), error if slope is None else error.mul_(slope)

    return _over_tiles("log_sum_exp", visit, rows, columns, scale)


def absolute_sum(
    rows: Float[Tensor, "r d"], columns: Float[Tensor, "c d"], hidden: Int[Tensor, "r h"], divisor: float = 1.0
) -> Float[Tensor, ""]:
    """sum_i sum_{j not in hidden_i} |M_ij|."""

    def visit(m: Tensor, at: slice, slope_wanted: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        m.scatter_(1, hidden[at], 0.0)
        return m.abs().sum(dim=1).sum(), m.sign_()

    return _over_tiles("absolute_sum", visit, rows, columns, 1 / divisor)


def _over_tiles(name: str, visit: _Visit, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    """Sum the value that `visit` finds in each tile of scale * M, with the slope with respect to it that it leaves in the tile."""
    to_row, to_column = wanted(rows), wanted(columns)  # keys of a memory want none: half of the work is spared
    keep = to_row or to_column
    with torch.no_grad():
        step = max(1, _TILE // max(1, len(columns)))
        value = rows.new_zeros(())
        to_rows, to_columns = [], torch.zeros_like(columns) if to_column else columns
        for start in range(0, len(rows), step):
            at = slice(start, start + step)
            block = rows[at] * scale
            found, slope = visit(block @ columns.T, at, keep)
            value = value + found
            if to_row:
                to_rows.append((slope @ columns).mul_(scale))
            if to_column:
                to_columns = to_columns.addmm_(slope.T, block)
            del slope  # before the next tile is made
    slopes = [(rows, torch.cat(to_rows))] if to_row else []
    return known(name, value, *slopes, *([(columns, to_columns)] if to_column else []))
