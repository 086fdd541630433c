"""Rows of unequal length without fillings: the tokens of all samples one after the other.

Legend: n samples, t tokens, T tokens of all, h heads.

Norms and maps act on single tokens, so they run on the packed row [1 T d]; only attention must keep samples apart (it is block-diagonal).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Segments", "packed_attention"]


@dataclass(frozen=True)
class Segments:
    """Where the samples of a packed row end: `real` is True at the tokens of a padded batch [n t] that are no fillings."""

    real: Bool[Tensor, "n t"]
    lengths: tuple[int, ...]  # one sample each, of the tokens that are real

    @staticmethod
    def of(real: Bool[Tensor, "n t"]) -> Segments:
        """The segments of a padded batch."""
        return Segments(real, tuple(real.sum(dim=1).tolist()))

    def pack(self, x: Float[Tensor, "n t *s"]) -> Float[Tensor, "1 T *s"]:
        """The real tokens of all samples in one row."""
        return x[self.real][None]

    def unpack(self, x: Float[Tensor, "1 T *s"]) -> Float[Tensor, "n t *s"]:
        """Back to a padded batch, zero at fillings."""
        return x.new_zeros(*self.real.shape, *x.shape[2:]).index_put((self.real,), x[0])


def packed_attention(
    q: Float[Tensor, "1 h T e"], k: Float[Tensor, "1 h T e"], v: Float[Tensor, "1 h T e"], segments: Segments
) -> Float[Tensor, "1 h T e"]:
    """Attention of every sample to itself: sample by sample on the CPU, elsewhere by one masked call on a padded copy.

    On CUDA in narrow formats by one call on nested tensors instead: its kernels take rows of unequal length.
    """
    if q.device.type == "cpu":
        return _one_by_one(q, k, v, segments)
    return _nested(q, k, v, segments) if q.is_cuda and q.dtype != torch.float32 else _padded(q, k, v, segments)


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    parts = (x.split(segments.lengths, dim=2) for x in (q, k, v))
    return torch.cat([F.scaled_dot_product_attention(*each) for each in zip(*parts, strict=True)], dim=2)


def _nested(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    ends = list(itertools.accumulate(segments.lengths, initial=0))
    offsets, longest = torch.tensor(ends, device=q.device), max(segments.lengths)
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            x[0].transpose(0, 1).contiguous(), offsets, max_seqlen=longest
        ).transpose(1, 2)
        for x in (q, k, v)
    )
    mixed = F.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(1, 2).values().transpose(0, 1)[None]


def _padded(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    q, k, v = (segments.unpack(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=segments.real[:, None, None, :])
    return segments.pack(mixed.transpose(1, 2)).transpose(1, 2)
