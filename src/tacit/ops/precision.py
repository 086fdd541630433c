"""What hand-written gradients and criteria need of torch: full precision under autocast, no false second derivatives."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["full", "only_once", "without_autocast"]


def full(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`x` in float32 if it is half precision; float32 and float64 stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which products of float32 tensors on the device of `x` stay float32."""
    return torch.autocast(x.device.type, enabled=False)


def only_once(name: str) -> None:
    """Called in a hand-written backward: refuse to be differentiated again, where the answer would be silently wrong."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"{name} gives first derivatives only: its backward was called with create_graph=True")
