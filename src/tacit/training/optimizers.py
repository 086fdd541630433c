"""Optimisers as parts: the settings a recipe chooses, and how they become a torch optimiser over a system's groups.

A group is {'params': [...], 'decay': bool, 'scale': float, 'scheduled': bool}; all but the first may be left out (True, 1,
True). `scale` multiplies the rate of the group at every step; a group that is not scheduled keeps the peak rate; a group without
decay (biases, norms) has weight decay 0. Parameters that need no gradient (a
teacher's) are dropped here. `lr` is the peak rate for the recipe's own batch: rules that scale rates with the batch belong
in the recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from tacit.core.errors import RunError
from tacit.core.parts import part
from tacit.core.spec import ScheduleSpec, Spec
from tacit.training.ema import momentum_at
from tacit.training.lars import Definition, Lars
from tacit.training.trees import is_sharded

__all__ = ["LARS", "SGD", "AdamW", "rate_at", "set_decay", "set_rate"]

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Groups = Iterable[Mapping[str, Any]]

_COSINE = Spec("schedule", "cosine")


def _groups(given: Groups, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The groups as torch takes them, with every parameter that learns in exactly one of them."""
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for group in given:
        scale, decay = float(group.get("scale", 1.0)), bool(group.get("decay", True))
        params = [p for p in group["params"] if p.requires_grad]
        if seen & {id(p) for p in params}:
            raise RunError("a parameter is in two groups of the system: name each parameter in one group")
        seen |= {id(p) for p in params}
        if params:
            own = {"params": params, "lr": lr * scale, "scale": scale, "decay": decay}
            if not group.get("scheduled", True):
                own["peak"] = lr * scale
            groups.append({**own, "weight_decay": weight_decay if decay else 0.0})
    if not groups:
        raise RunError("the system names no parameter that learns: groups() must yield at least one with requires_grad")
    return groups


def _fusable(groups: list[dict[str, Any]]) -> bool:
    """Whether torch has a fused kernel for these parameters: plain floating tensors on a device that has one."""
    params: list[Tensor] = [p for group in groups for p in group["params"]]
    kinds = {p.device.type for p in params}
    plain = all(p.is_floating_point() and not is_sharded(p) for p in params)
    return plain and kinds <= {"cpu", "cuda", "mps"}


def rate_at(optim: Any, progress: float) -> float:
    """The learning rate of a group of scale 1 at `progress`: the peak rate times the schedule's factor."""
    return float(optim.lr * optim.factor(progress))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its scale, or the peak if it keeps that; called before each update, the first included."""
    for group in optimizer.param_groups:
        group["lr"] = group.get("peak", rate * group["scale"])


def set_decay(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Move the weight decay of groups that have a final one along half a cosine: final - (final - first)(cos(pi progress) + 1)/2."""
    for group in optimizer.param_groups:
        if "final_decay" in group:
            group["weight_decay"] = momentum_at(progress / group["stretch"], group["first_decay"], group["final_decay"])


@part("optimizer", "sgd")
class SGD:
    """Gradient descent with momentum (torch.optim.SGD); weight decay is added to the gradient."""

    def __init__(
        self,
        *,
        lr: Positive = 0.03,
        weight_decay: NonNegative = 1e-4,
        momentum: Momentum = 0.9,
        nesterov: bool = False,
        schedule: ScheduleSpec = _COSINE,
    ) -> None:
        self.lr, self.weight_decay, self.momentum, self.nesterov = lr, weight_decay, momentum, nesterov
        self.factor = schedule.build()

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["nesterov"] and not settings["momentum"]:
            yield "nesterov looks ahead along the momentum, and momentum is 0: set momentum or nesterov=false"

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """The torch optimiser over a system's groups."""
        own = _groups(groups, self.lr, self.weight_decay)
        fused = _fusable(own)
        return torch.optim.SGD(own, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused or None)


@part("optimizer", "adamw")
class AdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101): each step also shrinks the weights by rate * weight_decay.

    final_weight_decay: where the decay ends, along half a cosine (DINO: from 0.04 to 0.4); None keeps it. decay_stretch lays the
    cosine over more than the run (V-JEPA 1.25).
    """

    def __init__(
        self,
        *,
        lr: Positive = 5e-4,
        weight_decay: NonNegative = 0.05,
        final_weight_decay: NonNegative | None = None,
        decay_stretch: Annotated[float, Ge(1)] = 1.0,
        betas: tuple[Momentum, Momentum] = (0.9, 0.999),
        eps: Positive = 1e-8,
        schedule: ScheduleSpec = _COSINE,
    ) -> None:
        self.lr, self.weight_decay, self.betas, self.eps = lr, weight_decay, betas, eps
        self.final_weight_decay, self.decay_stretch = final_weight_decay, decay_stretch
        self.factor = schedule.build()

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """A constant weight decay has no way to stretch."""
        return {"decay_stretch": "the weight decay is constant"} if settings["final_weight_decay"] is None else {}

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """The torch optimiser over a system's groups."""
        own = _groups(groups, self.lr, self.weight_decay)
        for group in own if self.final_weight_decay is not None else []:
            if group["decay"]:
                group.update(
                    first_decay=self.weight_decay, final_decay=self.final_weight_decay, stretch=self.decay_stretch
                )
        fused = _fusable(own)
        return torch.optim.AdamW(own, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused or None)


@part("optimizer", "lars")
class LARS:
    """Layer-wise adaptive rates for large batches (arXiv 1708.03888); biases and norms are neither decayed nor adapted.

    `definition` names one of the two arithmetics that published recipes used; their rates cannot be exchanged (see
    `tacit.training.lars.Lars`). bias_rate: the rate of biases and norms over that of weights (Barlow Twins: 0.0048 / 0.2).
    Defaults: VICReg on ImageNet.
    """

    def __init__(
        self,
        *,
        lr: Positive = 0.2,
        weight_decay: NonNegative = 1e-6,
        momentum: Momentum = 0.9,
        eta: Positive = 1e-3,
        definition: Definition = "vicreg",
        clip: bool = False,
        bias_rate: Positive = 1.0,
        schedule: ScheduleSpec = _COSINE,
    ) -> None:
        self.lr, self.weight_decay, self.momentum, self.eta = lr, weight_decay, momentum, eta
        self.definition, self.clip, self.bias_rate = definition, clip, bias_rate
        self.factor = schedule.build()

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["clip"] and settings["definition"] != "bolts":
            yield "clip bounds the step of definition 'bolts' alone: set definition=bolts or clip=false"

    def build(self, groups: Groups) -> torch.optim.Optimizer:
        """The torch optimiser over a system's groups."""
        slower = [
            group if group.get("decay", True) else {**group, "scale": group.get("scale", 1.0) * self.bias_rate}
            for group in groups
        ]
        own = _groups(slower, self.lr, self.weight_decay)
        return Lars(own, self.lr, self.momentum, self.weight_decay, self.eta, self.definition, self.clip)
