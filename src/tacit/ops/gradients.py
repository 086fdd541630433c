"""A value whose gradient is known in closed form, made part of the autograd graph without keeping what it was made from."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.ops.precision import only_once

__all__ = ["known", "wanted"]


def wanted(*inputs: Tensor) -> bool:
    """Whether a gradient with respect to any of `inputs` will be asked for."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in inputs)


def known(name: str, value: Float[Tensor, ""], *slopes: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
    """`value`, computed from detached tensors, with the gradients of the pairs (input, gradient of value): first derivatives only.

    `name` is what the refusal of a second derivative says. Without pairs the value has no gradient.
    """
    if not slopes:
        return value
    inputs, gradients = zip(*slopes, strict=True)
    return _Known.apply(name, value, len(slopes), *inputs, *gradients)  # type: ignore[no-any-return]


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, name: str, value: Tensor, count: int, *pairs: Tensor) -> Tensor:
        ctx.name, ctx.count = name, count
        ctx.save_for_backward(*pairs[count:])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        only_once(ctx.name)
        return None, None, None, *(gradient * slope for slope in ctx.saved_tensors), *(None for _ in range(ctx.count))
