"""The gates of a recurrent cell on a processor, without gradients: inputs, biases and gates of a row in one pass, in cache.

torch goes over a step's states a dozen times (inputs, biases, two sigmoids, a tanh and what is between); here only the hidden
product is torch's, in the number format of its autocast. All else is float32 in either format.

Legend: n rows, k numbers of an action, d width of the state; the gates lie as in torch: r, u, n, each of d.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from tacit.ops.compiled import bits_of, fast_jit, float_of, fused
from tacit.ops.spread import spread

__all__ = ["gate"]

f4 = np.float32
_GRAIN = 1 << 15  # numbers of the state that are worth waking a thread for
_ONE, _LIMIT, _LOG2E = f4(1), f4(62), f4(1.4426950408889634)  # 2^62 times itself is still a float32
_MAGIC = f4(3 << 22)  # a float32 plus this holds its nearest whole number in the last bits
_MANTISSA, _EXPONENT_OF_ONE = np.uint32(23), np.uint32(0x3F800000)
# 2^f, |f| <= 1/2: the polynomial of degree 5 with the least relative error, 7.5e-8
_P0, _P1, _P2 = f4(1.0000000716546809), f4(0.6931469670646166), f4(0.24022119723855173)
_P3, _P4, _P5 = f4(0.055507132737325576), f4(0.009675541333847314), f4(0.0013276471916717088)


@intrinsic
def _float32(_typing: Any, x: Any) -> Any:
    """A float32 as it is, the bits of a bfloat16 (uint16) widened."""

    def generate(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        if x == types.float32:
            return given[0]
        bits = builder.shl(builder.zext(given[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(x), generate


@fast_jit
def _exp2(y: Any) -> Any:
    """2^y between 2^-62 and 2^62; what is no number stays none."""
    y = _LIMIT if y > _LIMIT else y
    y = -_LIMIT if y < -_LIMIT else y
    whole = y + _MAGIC
    f = y - (whole - _MAGIC)
    p = fused(fused(fused(fused(fused(_P5, f, _P4), f, _P3), f, _P2), f, _P1), f, _P0)
    return p * float_of(np.uint32((bits_of(whole) << _MANTISSA) + _EXPONENT_OF_ONE))


@fast_jit
def _gates(action: Any, w: Any, b: Any, held: Any, c: Any, state: Any, out: Any, begin: int, end: int) -> None:
    """out = (1 - u) n + u state, rows begin..end; w is W^T [k 3d].

    With e_u = exp(-x_u) and e_n = exp(2 x_n) that is ((e_n - 1) e_u + (e_n + 1) state) / ((e_n + 1) (1 + e_u)).
    """
    k, d = action.shape[1], state.shape[1]
    given = np.empty(3 * d, f4)
    for i in range(begin, end):
        a, h, s, o = action[i], held[i], state[i], out[i]
        for j in range(3 * d):
            given[j] = b[j]
        for m in range(k):
            x, row = a[m], w[m]
            for j in range(3 * d):
                given[j] = fused(x, row[j], given[j])
        for j in range(d):
            reset = _ONE / (_ONE + _exp2(-_LOG2E * (given[j] + (_float32(h[j]) + c[j]))))
            e_u = _exp2(-_LOG2E * (given[j + d] + (_float32(h[j + d]) + c[j + d])))
            e_n = _exp2(f4(2) * _LOG2E * fused(reset, _float32(h[j + 2 * d]) + c[j + 2 * d], given[j + 2 * d]))
            o[j] = fused(e_n - _ONE, e_u, s[j] * (e_n + _ONE)) / ((e_n + _ONE) * (_ONE + e_u))


def gate(action: Tensor, w: Tensor, b: Tensor, held: Tensor, c: Tensor, state: Tensor) -> Tensor:
    """The state [n d] after an action [n k]: held = state U^T [n 3d] in float32 or bfloat16, w [3d k] and b, c [3d] the cell's."""
    out = torch.empty(state.shape)
    if held.dtype == torch.bfloat16:
        held = held.view(torch.uint16)
    arrays = [x.detach().contiguous().numpy() for x in (action, w.t(), b, held, c, state, out)]
    grain = max(1, _GRAIN // state.shape[1])
    spread(lambda begin, end: _gates(*arrays, begin, end), len(state), torch.get_num_threads(), grain)
    return out
