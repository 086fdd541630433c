"""How loops are compiled: cached machine code, without the GIL, the same bits from a fresh and from a cached start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["bits_of", "fast_jit", "float_of", "fused", "jit", "lanes_past_cache", "store_past_cache"]

_BYTES = 16  # of one store that goes past the cache: what every processor can do and every allocation is aligned to


def jit(function: Callable[..., Any]) -> Any:
    """Compile on first call, without the GIL; the machine code is kept on disk where a folder for it is writable."""
    return _compile(function, fastmath=False)


def fast_jit(function: Callable[..., Any]) -> Any:
    """As `jit`, and the sign of zero is free.

    No more freedom than that: where a compiler may fuse multiply-adds or sum in another order, the machine code made by a
    first start and the code that later ones read from the disk differ in the last bit, and so would the runs.
    """
    return _compile(function, fastmath={"nsz"})


def _compile(function: Callable[..., Any], fastmath: bool | set[str]) -> Any:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # numba found no writable folder, neither beside the file nor in the user's cache
        return numba.njit(function, **options)


@intrinsic
def fused(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once: said outright, because a compiler that may choose does not always choose alike."""
    return a(a, b, c), lambda _context, builder, _signature, given: builder.fma(*given)


@intrinsic
def float_of(_typing: Any, bits: Any) -> Any:
    """The float32 of these bits (uint32)."""
    return types.float32(bits), lambda _context, builder, _signature, given: builder.bitcast(given[0], ir.FloatType())


@intrinsic
def bits_of(_typing: Any, x: Any) -> Any:
    """The bits of a float32, as uint32."""
    return types.uint32(x), lambda _context, builder, _signature, given: builder.bitcast(given[0], ir.IntType(32))


@jit
def lanes_past_cache(out: Any, row: Any) -> int:
    """How many numbers of `row` one `store_past_cache` into `out` takes, both of one dimension; 0 where rows do not line up."""
    lanes = _BYTES // out.itemsize
    return 0 if out.ctypes.data % _BYTES or row.ctypes.data % _BYTES or len(row) % lanes else lanes


@intrinsic
def store_past_cache(_typing: Any, out: Any, at: Any, row: Any, begin: Any) -> Any:
    """out[at : at + lanes] = row[begin : begin + lanes], in compiled code and without bringing `out` into the cache first.

    For outputs larger than the cache: an ordinary store reads the memory that it is about to overwrite, which triples the
    time of a loop that is bound by it.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = context.get_data_type(out.dtype)
        vector = ir.VectorType(kind, _BYTES // (out.dtype.bitwidth // 8)).as_pointer()

        def place(array: Any, which: Any, index: Any) -> Any:
            data = context.make_array(array)(context, builder, which).data
            return builder.bitcast(builder.gep(data, [index]), vector)

        store = builder.store(builder.load(place(row, arguments[2], arguments[3]), align=_BYTES),
                              place(out, arguments[0], arguments[1]), align=_BYTES)  # fmt: skip
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(out, at, row, begin), generate
