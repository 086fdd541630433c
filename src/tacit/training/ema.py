"""Exponential moving averages: a teacher network that follows a student."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tacit.core.errors import RunError

__all__ = ["follow", "momentum_at"]


def momentum_at(progress: float, base: float, final: float = 1.0) -> float:
    """The momentum that rises from `base` at progress 0 to `final` at 1: final - (final - base)(cos(pi progress) + 1) / 2.

    Source: BYOL (arXiv 2006.07733), base 0.996 for 1000 epochs.
    """
    return final - (final - base) * (math.cos(math.pi * progress) + 1) / 2


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move each parameter of `teacher` to momentum * teacher + (1 - momentum) * student; copy the buffers.

    Momentum 1 keeps the parameters, 0 copies them. Buffers (the running statistics of BatchNorm, counters) are copied, not
    averaged. Both modules must have the same parameters and buffers; under FSDP both must be sharded in the same way.
    """
    mine, theirs = dict(teacher.named_parameters()), dict(student.named_parameters())
    own, other = dict(teacher.named_buffers()), dict(student.named_buffers())
    odd = sorted((mine.keys() ^ theirs.keys()) | (own.keys() ^ other.keys()))
    if odd:
        raise RunError(
            f"a teacher follows a student of the same form, but one alone has {', '.join(map(repr, odd[:3]))}: "
            "build the teacher with copy.deepcopy(student)"
        )
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for name, parameter in mine.items():
        pair = groups.setdefault(parameter.dtype, ([], []))
        pair[0].append(parameter)
        pair[1].append(theirs[name])
    for mean, new in groups.values():
        torch._foreach_lerp_(mean, new, 1 - momentum)
    for name, buffer in own.items():
        buffer.copy_(other[name])
