"""A batch moved by elements of a linear group straight into its output: each field is read and each channel written once."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.compiled import fast_jit, lanes_past_cache, store_past_cache

__all__ = ["move_into", "room"]

_LARGE, _KEPT = 1 << 20, 4  # bytes from which memory is used again; buffers of one shape that wait for it
_PAST = 1 << 22  # bytes from which a batch is written past the cache, which could not hold it
_free: dict[tuple[tuple[int, ...], str], list[NDArray[Any]]] = {}


def room(*shape: int, like: Tensor) -> Tensor:
    """Uninitialised memory of the type of `like`; on a CPU that of an earlier batch which nobody holds any more.

    A batch of views is tens of megabytes, and the first touch of fresh pages costs as much as all the arithmetic. The
    memory comes back when the last tensor on it is gone.
    """
    if like.device.type != "cpu":
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    kind = like.new_empty(0).numpy().dtype
    waiting = _free.setdefault((shape, kind.str), [])
    try:
        buffer = waiting.pop()
    except IndexError:
        buffer = np.empty(shape, kind)
    held = buffer.view()
    if buffer.nbytes >= _LARGE:
        weakref.finalize(held, _give_back, waiting, buffer).atexit = False
    return torch.from_numpy(held)


def _give_back(waiting: list[NDArray[Any]], buffer: NDArray[Any]) -> None:
    if len(waiting) < _KEPT:
        waiting.append(buffer)


def move_into(
    out: Tensor,
    order: Sequence[str],
    variables: Sequence[str],
    matrix: Tensor,
    coordinates: Mapping[str, Tensor],
    axes: Sequence[str],
    data: Tensor,
    fields: Mapping[str, int],
    start: Tensor,
) -> None:
    """z' = A z for the channels `order` (of 't', the axes and the fields) into `out` [n c t *space].

    matrix: A [n k k] over `variables`. coordinates: 't' and the axes of each crop, [n points]; `axes` names the one that
    lies along each dimension of space. data: the whole samples [n c' t' *space'], `fields` says which channel is which,
    and the crops begin at `start` [n axes]. The same numbers as `act`, without its temporaries: they cost more than the
    arithmetic.
    """
    line = len(axes) == 1
    block, source = (out.unsqueeze(3), data.unsqueeze(3)) if line else (out, data)
    n, frames = len(block), block.shape[2]
    t = coordinates["t"].double().numpy()
    of_time = {"tt": t * t, "t": t, "1": np.ones_like(t)}
    base = np.zeros((n, len(order), frames))
    along = {axis: np.zeros((n, len(order), coordinates[axis].shape[1])) for axis in axes}
    weights, names = np.zeros((n, len(order), len(fields))), list(fields)
    a = matrix.double().numpy()
    for c, name in enumerate(order):
        row = a[:, variables.index(name)]
        for k in np.flatnonzero(row.any(0)).tolist():
            variable, entry = variables[k], row[:, k]
            if variable in of_time:
                base[:, c] += entry[:, None] * of_time[variable]
            elif variable in fields:
                weights[:, c, names.index(variable)] = entry
            elif variable in along:
                along[variable][:, c] += entry[:, None] * coordinates[variable].double().numpy()
            else:
                raise DataError(f"this element changes {name!r} by {variable!r}, which the field lacks")
    begins = np.zeros((n, 3), dtype=np.int64)
    begins[:, 0], begins[:, 2] = start[:, 0], start[:, -1]
    begins[:, 1] = 0 if line else start[:, 1]
    which = np.array([fields[name] for name in names], dtype=np.int64)
    along_first = np.zeros((n, len(order), 1)) if line else along[axes[0]]
    _fill(block.numpy(), base, along_first, along[axes[-1]], weights, source.numpy(), which, begins)


@fast_jit
def _fill(out, base, along_first, along_last, weights, data, which, begins):  # type: ignore[no-untyped-def]
    """out[n, c, t, i, j] = base[n, c, t] + along_first[n, c, i] + along_last[n, c, j] + sum_f weights[n, c, f] field_f.

    The first two are summed in float64, the rest in the type of the data. Two fields at most meet in one pass: what
    rotates is a pair. Whole arrays are indexed, not rows cut from them: a cut costs as much as writing a row.
    """
    samples, channels, frames, first, last = out.shape
    kind, fields = out.dtype.type, which.shape[0]
    pair = np.empty((channels, 2), np.int64)  # the first two fields that a channel reads
    flat, row = out.reshape(-1), np.empty(last, out.dtype)
    lanes = lanes_past_cache(flat, row) if out.nbytes >= _PAST else 0
    for n in range(samples):
        t0, x0, y0 = begins[n]
        lean = along_last[n].astype(out.dtype)
        for c in range(channels):
            f = 0
            while f < fields and weights[n, c, f] == 0:
                f += 1
            pair[c, 0] = f
            f += 1
            while f < fields and weights[n, c, f] == 0:
                f += 1
            pair[c, 1] = f
        for t in range(frames):  # all channels of a frame while its fields are in the cache
            for c in range(channels):
                f, g = pair[c]
                w, p, z, q = kind(0), 0, kind(0), 0
                if f < fields:
                    w, p = kind(weights[n, c, f]), which[f]
                if g < fields:
                    z, q = kind(weights[n, c, g]), which[g]
                for i in range(first):
                    start = kind(base[n, c, t] + along_first[n, c, i])
                    if f >= fields:
                        for j in range(last):
                            row[j] = start + lean[c, j]
                    elif g >= fields:
                        for j in range(last):
                            row[j] = start + lean[c, j] + w * data[n, p, t0 + t, x0 + i, y0 + j]
                    else:
                        for j in range(last):
                            row[j] = (
                                start
                                + lean[c, j]
                                + (w * data[n, p, t0 + t, x0 + i, y0 + j] + z * data[n, q, t0 + t, x0 + i, y0 + j])
                            )
                    for h in range(g + 1, fields):
                        s = kind(weights[n, c, h])
                        for j in range(last):
                            row[j] += s * data[n, which[h], t0 + t, x0 + i, y0 + j]
                    at = (((n * channels + c) * frames + t) * first + i) * last
                    if lanes:
                        for j in range(0, last, lanes):
                            store_past_cache(flat, at + j, row, j)
                    else:
                        for j in range(last):
                            flat[at + j] = row[j]
