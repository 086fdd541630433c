"""ETDRK4 and Adams for v' = L v + c F(u^2) on a periodic line, on a CPU: the same steps as `advance` and `Adams`, each stage one
pass over memory.

Between two Fourier transforms a stage of the scheme is a few products; written out one by one they cost as much as the
transforms. Here buffers are made once, and modes live in front of the zeros that the next transform needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.ops.adams import FINER, ORDER, AdamsScheme
from tacit.ops.compiled import fast_jit
from tacit.ops.exponential import Scheme

__all__ = ["SquareAdams", "SquareMarch"]


class SquareMarch:
    """Holds the state between steps. scheme: of the kept modes [n k], its factor folded in. modes: the start [n k]."""

    def __init__(self, scheme: Scheme, modes: Tensor, points: int) -> None:
        self.points, self.kept = points, modes.shape[1]
        wide = (len(modes), points // 2 + 1)
        self._padded = [torch.zeros(wide, dtype=modes.dtype) for _ in range(4)]
        self._padded[0][:, : self.kept] = modes
        self._v, self._a, self._b, self._c = (p.numpy() for p in self._padded)
        self._out = torch.empty_like(modes).numpy()
        parts = (scheme.e, scheme.half, scheme.q, scheme.f1, scheme.f2, scheme.f3)
        self._e, self._half, self._q, self._f1, self._f2, self._f3 = (
            part.expand(modes.shape).contiguous().numpy() for part in parts
        )

    def steps(self, count: int) -> SquareMarch:
        """`count` more steps; returns itself."""
        for _ in range(count):
            nv = self._square(0)
            _stage(self._v, nv, self._half, self._q, self._a)
            na = self._square(1)
            _stage(self._v, na, self._half, self._q, self._b)
            nb = self._square(2)
            _sums(
                self._v, self._a, nv, na, nb, self._e, self._half, self._q, self._f1, self._f2, self._c, self._out
            )  # fmt: skip
            _last(self._out, self._square(3), self._f3, self._v)
        return self

    def field(self) -> Tensor:
        """The field [n points] where it stands now."""
        return torch.fft.irfft(self._padded[0], n=self.points)

    def _square(self, which: int) -> Any:
        u = torch.fft.irfft(self._padded[which], n=self.points)
        return torch.fft.rfft(u.mul_(u)).numpy()


class SquareAdams:
    """The same with the multistep scheme of order 5: one pair of transforms a step. Holds the state and what N was before."""

    def __init__(self, scheme: AdamsScheme, modes: Tensor, points: int) -> None:
        self.points = points
        self._start = SquareMarch(scheme.first, modes, points)
        self._e, *self._weights = (
            part.expand(modes.shape).contiguous().numpy() for part in (scheme.e, *scheme.weights)
        )
        self._before: list[Any] = []  # N, newest first

    def steps(self, count: int) -> SquareAdams:
        """`count` more steps; returns itself."""
        start = self._start
        for _ in range(count):
            self._before = [start._square(0), *self._before[: ORDER - 1]]
            if len(self._before) < ORDER:
                start.steps(FINER)
            else:
                _ahead(start._v, self._e, *self._before, *self._weights)
        return self

    def field(self) -> Tensor:
        """The field [n points] where it stands now."""
        return self._start.field()


@fast_jit
def _ahead(v, e, n0, n1, n2, n3, n4, w0, w1, w2, w3, w4):  # type: ignore[no-untyped-def]
    """v = e v + w0 n0 + ... + w4 n4 on the kept modes."""
    for i in range(e.shape[0]):
        for k in range(e.shape[1]):
            v[i, k] = (
                e[i, k] * v[i, k]
                + (w0[i, k] * n0[i, k] + w1[i, k] * n1[i, k])
                + (w2[i, k] * n2[i, k] + w3[i, k] * n3[i, k])
                + w4[i, k] * n4[i, k]
            )


@fast_jit
def _stage(v, n, half, q, out):  # type: ignore[no-untyped-def]
    """out = half v + q n on the kept modes."""
    for i in range(half.shape[0]):
        for k in range(half.shape[1]):
            out[i, k] = half[i, k] * v[i, k] + q[i, k] * n[i, k]


@fast_jit
def _sums(v, a, nv, na, nb, e, half, q, f1, f2, c, out):  # type: ignore[no-untyped-def]
    """c = half a + q (2 nb - nv), out = e v + f1 nv + f2 (na + nb)."""
    for i in range(half.shape[0]):
        for k in range(half.shape[1]):
            out[i, k] = e[i, k] * v[i, k] + f1[i, k] * nv[i, k] + f2[i, k] * (na[i, k] + nb[i, k])
            c[i, k] = half[i, k] * a[i, k] + q[i, k] * (nb[i, k] + nb[i, k] - nv[i, k])


@fast_jit
def _last(out, nc, f3, v):  # type: ignore[no-untyped-def]
    """v = out + f3 nc."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            v[i, k] = out[i, k] + f3[i, k] * nc[i, k]
