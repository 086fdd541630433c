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
_BLOCK = 256  # side of what is turned at a time on a processor, so that it stays in the cache
_COLD = 0.025  # below this temperature exp(-2 / temperature) underflows in float32, and the row maximum is the shift


def log_sum_exp(
    rows: Float[Tensor, "r d"],
    columns: Float[Tensor, "c d"] | None,
    hidden: Int[Tensor, "r h"],
    temperature: float,
    entries: Entries = "plain",
    bounded: bool = False,
    divisor: float = 1.0,
    partner: Int[Tensor, " r"] | None = None,
) -> Float[Tensor, ""]:
    """sum_i log sum_{j not in hidden_i} exp(phi(M_ij) / temperature), phi(x) = x, |x| or x^2 by `entries`.

    columns: None where they are the rows themselves, all of them: then one product gives the gradient that two give otherwise.
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
    rows: Float[Tensor, "r d"], columns: Float[Tensor, "c d"] | None, hidden: Int[Tensor, "r h"], divisor: float = 1.0
) -> Float[Tensor, ""]:
    """sum_i sum_{j not in hidden_i} |M_ij|; columns: None where they are the rows themselves."""

    def visit(m: Tensor, at: slice, slope_wanted: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        m.scatter_(1, hidden[at], 0.0)
        return m.abs().sum(dim=1).sum(), m.sign_()

    return _over_tiles("absolute_sum", visit, rows, columns, 1 / divisor)


def _over_tiles(name: str, visit: _Visit, rows: Tensor, columns: Tensor | None, scale: float) -> Tensor:
    """Sum the value that `visit` finds in each tile of scale * M, with the slope with respect to it that it leaves in the tile."""
    to_row, to_column = (
        wanted(rows),
        columns is not None and wanted(columns),
    )  # keys of a memory want none: work is spared
    keep, slopes = to_row or to_column, []
    with torch.no_grad():
        against = rows if columns is None else columns
        step = max(1, _TILE // max(1, len(against)))
        whole = step >= len(rows)
        on_tile = rows.shape[1] >= min(len(against), step)  # the factor goes to the fewer numbers
        factor = 1.0 if on_tile else scale
        value = rows.new_zeros(())
        row_slope = torch.zeros_like(rows) if to_row and not (columns is None and whole) else rows
        column_slope = torch.zeros_like(against) if to_column else against
        for start in range(0, len(rows), step):
            at = slice(start, start + step)
            block = rows[at] if on_tile else rows[at] * scale
            m = block @ against.T
            found, slope = visit(m.mul_(scale) if on_tile else m, at, keep)
            value = value + found
            if keep and on_tile:
                slope = slope.mul_(scale)
            if to_row and columns is None and whole:  # a pair is met from both of its ends: one product serves both
                row_slope = _symmetrised(slope) @ block
            elif to_row:
                row_slope[at].addmm_(slope, against, alpha=factor)
                if columns is None:
                    row_slope.addmm_(slope.T, block)
            if to_column:
                column_slope.addmm_(slope.T, block)
            del slope, m  # before the next tile is made
        slopes = ([(rows, row_slope)] if to_row else []) + (
            [(columns, column_slope)] if columns is not None and to_column else []
        )
    return known(name, value, *slopes)


def _symmetrised(s: Tensor) -> Tensor:
    """s + s^T; on a processor in place, block by block, in an eighth of the time."""
    if s.is_cuda or torch.compiler.is_compiling():
        return s + s.T
    for i in range(0, len(s), _BLOCK):
        for j in range(i, len(s), _BLOCK):
            upper, lower = s[i : i + _BLOCK, j : j + _BLOCK], s[j : j + _BLOCK, i : i + _BLOCK]
            both = upper + lower.T
            upper.copy_(both)
            lower.copy_(both.T)
    return s
