"""Layers that steppers share: spectral convolutions, embeddings of numbers, convolutions by the number of axes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from tacit.core.errors import DataError

__all__ = ["NumberEmbedding", "SpectralConvolution", "convolution", "sinusoids"]


def convolution(axes: int) -> Any:
    """nn.Conv1d or nn.Conv2d."""
    return {1: nn.Conv1d, 2: nn.Conv2d}[axes]


def sinusoids(values: Tensor, width: int) -> Tensor:
    """e(a) = [cos(a f_i), sin(a f_i)], f_i = 10000^(-i / (width / 2)), of every number: [n k] -> [n k*width]."""
    half = width // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, device=values.device, dtype=values.dtype) / half)
    angle = values.unsqueeze(-1) * rates
    return torch.cat([angle.cos(), angle.sin()], -1).flatten(1)


class NumberEmbedding(nn.Sequential):
    """k numbers as a vector: Linear(k width, 4 width), GELU, Linear(4 width, 4 width) on their sinusoids (arXiv 2209.15616).

    sinusoid=False reads the numbers themselves by one linear map: with a bottleneck before it, the two-layer reader of
    representations in arXiv 2307.05432.
    """

    def __init__(self, numbers: int, width: int, sinusoid: bool = True) -> None:
        wide = 4 * width
        if sinusoid:
            super().__init__(nn.Linear(numbers * (width // 2 * 2), wide), nn.GELU(), nn.Linear(wide, wide))
        else:
            super().__init__(nn.Linear(numbers, wide))
        self.width, self.sinusoid = width, sinusoid

    def forward(self, values: Tensor) -> Tensor:
        """[n k] -> [n 4 width]."""
        return super().forward(sinusoids(values, self.width) if self.sinusoid else values)  # type: ignore[no-any-return]


class SpectralConvolution(nn.Module):
    """A convolution as a matrix for each of the lowest modes: F(y)_k = F(x)_k W_k for |k| < modes, else 0 (arXiv 2010.08895).

    It acts on functions: the same weights give the same function on any grid that holds the modes. In the plane there are
    two blocks of `modes` x `modes`, for positive and negative wave numbers of the first axis. embedding > 0: a vector
    [n embedding] multiplies each kept mode by a complex number of its own before the mix.
    Weights are stored real, [..., 2], real and imaginary part last: weights1 (and weights2).
    """

    def __init__(self, into: int, out: int, modes: int, axes: int, embedding: int = 0) -> None:
        super().__init__()
        self.out, self.modes, self.axes, self.blocks = out, modes, axes, 2 ** (axes - 1)
        shape = (into, out, *(modes,) * axes, 2)
        for block in range(self.blocks):
            setattr(self, f"weights{block + 1}", nn.Parameter(torch.rand(shape) / (into * out)))
        self.cond_emb = _ModeScales(embedding, modes, axes) if embedding else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """[n into *space] -> [n out *space], in float32 at least: half precision has no transform of every length."""
        with torch.autocast(x.device.type, enabled=False):
            return self._mix(x if x.dtype == torch.float64 else x.float(), embedding)

    def _mix(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        dims, m = tuple(range(2, x.ndim)), self.modes
        if min(x.shape[2:]) < 2 * m:
            raise DataError(
                f"{m} modes need at least {2 * m} points along each axis, found {tuple(x.shape[2:])}: lower modes"
            )
        f = torch.fft.rfftn(x, dim=dims)
        out = f.new_zeros(len(x), self.out, *f.shape[2:])
        kept = [
            (..., *at) for at in itertools.product(*[(slice(0, m), slice(-m, None))] * (self.axes - 1), (slice(0, m),))
        ]
        scales = self.cond_emb(embedding) if self.cond_emb is not None and embedding is not None else [None] * len(kept)
        for block, (at, scale) in enumerate(zip(kept, scales, strict=True)):
            weight = torch.view_as_complex(getattr(self, f"weights{block + 1}").to(x.dtype))
            modes = f[at] if scale is None else f[at] * scale.unsqueeze(1)
            out[at] = torch.einsum("ni...,io...->no...", modes, weight)
        return torch.fft.irfftn(out, s=x.shape[2:], dim=dims)


class _ModeScales(nn.Module):
    """A complex number for every kept mode from a vector: [n e] -> for each block [n *modes]. No bias is drawn: it starts at 0."""

    def __init__(self, into: int, modes: int, axes: int) -> None:
        super().__init__()
        numbers = 2**axes * modes**axes  # blocks * real and imaginary part
        self.shape, self.blocks = (*(modes,) * axes, 2 ** (axes - 1), 2), 2 ** (axes - 1)
        self.weights = nn.Parameter(torch.randn(into, numbers) / (into + numbers))
        self.bias = nn.Parameter(torch.zeros(numbers))

    def forward(self, embedding: Tensor) -> list[Tensor]:
        h = (embedding.to(self.weights.dtype) @ self.weights + self.bias).unflatten(1, self.shape)
        return list(torch.view_as_complex(h.contiguous()).unbind(-1))
