"""Rows of unequal length without fillings: the tokens of all samples one after the other.

Legend: n samples, t tokens, T tokens of all, h heads.

Norms and maps act on single tokens, so they run on the packed row [1 T d]; only attention must keep samples apart (it is block-diagonal).
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Segments", "packed_attention"]


@dataclass(frozen=True)
class Segments:
    """Where the samples of a packed row end."""

    lengths: tuple[int, ...]  # one sample each, of the tokens that are real
    real: Bool[Tensor, "n t"] | None = None  # True at the tokens of a padded batch that are no fillings

    @staticmethod
    def of(real: Bool[Tensor, "n t"]) -> Segments:
        """The segments of a padded batch."""
        return Segments(tuple(real.sum(dim=1).tolist()), real)

    @staticmethod
    def joined(batches: Sequence[Float[Tensor, "n t *s"]]) -> Segments:
        """The segments of several full batches, one after the other."""
        return Segments(tuple(x.shape[1] for x in batches for _ in range(len(x))))

    def pack(self, x: Float[Tensor, "n t *s"]) -> Float[Tensor, "1 T *s"]:
        """The real tokens of all samples of a padded batch in one row."""
        return x[self.real][None]

    def unpack(self, x: Float[Tensor, "1 T *s"]) -> Float[Tensor, "n t *s"]:
        """Back to a padded batch, zero at fillings."""
        real: Any = self.real
        return x.new_zeros(*real.shape, *x.shape[2:]).index_put((real,), x[0])


def packed_attention(
    q: Float[Tensor, "1 h T e"], k: Float[Tensor, "1 h T e"], v: Float[Tensor, "1 h T e"], segments: Segments
) -> Float[Tensor, "1 h T e"]:
    """Attention of every sample to itself: neighbours of one length by one call, on the CPU and of full batches.

    Padded batches elsewhere: by one masked call on a padded copy, or, on CUDA in narrow formats, by one call of torch's attention over rows
    of unequal length, where this torch has it.
    """
    if segments.real is None or q.device.type == "cpu":
        return _by_length(q, k, v, segments)
    narrow = q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)
    return _unequal(q, k, v, segments) if narrow and _has_unequal() else _padded(q, k, v, segments)


@functools.cache
def _has_unequal() -> bool:
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None  # torch 2.10 and later


def _by_length(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    runs = [(len(list(same)), t) for t, same in itertools.groupby(segments.lengths)]
    found = []
    for (n, t), *parts in zip(runs, *(x.split([n * t for n, t in runs], dim=2) for x in (q, k, v)), strict=True):
        mixed = F.scaled_dot_product_attention(*(x[0].unflatten(1, (n, t)).transpose(0, 1) for x in parts))
        found.append(mixed.transpose(0, 1).flatten(1, 2)[None])
    return torch.cat(found, dim=2)


def _unequal(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends = torch.tensor(list(itertools.accumulate(segments.lengths, initial=0)), dtype=torch.int32, device=q.device)
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))  # [T h e]
    longest = max(segments.lengths)
    mixed: Any = varlen_attn(q, k, v, ends, ends, longest, longest)
    return mixed.transpose(0, 1)[None]  # type: ignore[no-any-return]


def _padded(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    q, k, v = (segments.unpack(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v))
    real: Any = segments.real
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None, :])
    return segments.pack(mixed.transpose(1, 2)).transpose(1, 2)
