"""Texts as tensors, so that they travel in a batch: UTF-8 bytes, filled up with zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["packed", "unpacked"]


def packed(texts: Sequence[str], length: int | None = None) -> UInt8[Tensor, "n l"]:
    """uint8 [n l], l the longest text in bytes, or `length`. A text must not hold the character 0."""
    rows = [text.encode() for text in texts]
    longest = max(map(len, rows), default=0)
    if length is not None and longest > length:
        raise ValueError(f"a text of {longest} bytes does not fit into {length}")
    out = torch.zeros(len(rows), length if length is not None else longest, dtype=torch.uint8)
    for row, own in zip(rows, out, strict=True):
        if 0 in row:
            raise ValueError("a text that is packed must not hold the character 0")
        own[: len(row)] = torch.frombuffer(bytearray(row), dtype=torch.uint8) if row else own[:0]
    return out


def unpacked(texts: UInt8[Tensor, "n l"]) -> list[str]:
    """The texts again."""
    return [bytes(row).rstrip(b"\0").decode() for row in texts.cpu().numpy()]
