"""Ranks: how a statistic crosses processes. Modules receive a `Ranks`; only this file talks to torch.distributed.

Every loss is defined on the global batch. A statistic that is the same on every rank must send its gradient back to every
rank: `total` and `gather` do, where a plain `dist.all_reduce` gives the right value and 1/size of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "Ranks", "here"]


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    total(x):  sum of x over all ranks, same shape.            gather(x): rows of all ranks in rank order, [size*n ...].
    Both are differentiable: the gradient of every rank's result flows back to every rank's input. n is equal on all ranks.
    """

    size: int = 1
    rank: int = 0
    total: Callable[[Tensor], Tensor] = _same
    gather: Callable[[Tensor], Tensor] = _same


ALONE = Ranks()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004  (torch's signature)
        y = x.detach().clone().contiguous()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        return _Total.apply(gradient)  # type: ignore[no-any-return]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.n = x.shape[0]
        rows = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, x.detach().contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        summed = _Total.apply(gradient)
        start = dist.get_rank() * ctx.n
        return summed[start : start + ctx.n]  # type: ignore[no-any-return]


def here() -> Ranks:
    """The ranks of the running process group, or ALONE without one."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Ranks(dist.get_world_size(), dist.get_rank(), _Total.apply, _Gather.apply)
