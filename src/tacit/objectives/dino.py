"""DINO: a student's choice among prototypes must be its teacher's, which is kept from settling on a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from tacit.core.parts import part
from tacit.core.ranks import Ranks
from tacit.objectives.distillation import Distillation, resized
from tacit.ops.prototypes import prototype_cross_entropy
from tacit.ops.transport import sinkhorn

__all__ = ["DINO"]

Temperature = Annotated[float, Gt(0)]


@part("objective", "dino")
class DINO(Distillation):
    """Match the student's distribution over k prototypes with the teacher's, centred and sharpened.

        loss = mean_i -sum_k P_ik log softmax(s_i / temperature)_k,  P = softmax((t - centre) / target_temperature)
        centre <- centre_momentum * centre + (1 - centre_momentum) * mean of t over views, samples and ranks, after use

    s and t [n k] are scores of a prototype head ('dino'), of student and teacher. A system gives the mean over pairs of a global
    teacher view and another student view. The target's temperature rises linearly from `first_target_temperature` over
    `warmup`, a fraction of the run. balance 'sinkhorn' takes the target from Sinkhorn-Knopp at that temperature instead
    of the centre, as DINOv2 may.

    Values: log k for uniform distributions. Source: arXiv 2104.14294; its longer runs warm up from 0.04 to 0.07 over 30 epochs.
    """

    kind: ClassVar[str] = "dino"
    reads: ClassVar[Literal["embeddings", "scores"]] = "scores"
    centre: Tensor

    def __init__(
        self,
        *,
        temperature: Temperature = 0.1,
        target_temperature: Temperature = 0.04,
        first_target_temperature: Temperature = 0.04,
        warmup: Annotated[float, Ge(0), Le(1)] = 0.0,
        balance: Literal["centre", "sinkhorn"] = "centre",
        centre_momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        iterations: Annotated[int, Gt(0)] = 3,
    ) -> None:
        super().__init__()
        self.temperature, self.warmup = temperature, warmup
        self.target_temperature, self.first_target_temperature = target_temperature, first_target_temperature
        self.balance, self.centre_momentum, self.iterations = balance, centre_momentum, iterations
        self.register_buffer("centre", torch.zeros(0))  # its width is that of the first scores

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Each balance has settings of its own, and a warm-up of no length has no start."""
        found = {"first_target_temperature": "warmup is 0"} if not settings["warmup"] else {}
        if settings["balance"] == "centre":
            return {**found, "iterations": "balance is 'centre'"}
        return {**found, "centre_momentum": "balance is 'sinkhorn'"}

    def temperature_at(self, progress: float) -> float:
        """The target's temperature at this progress of the run."""
        if progress >= self.warmup:
            return self.target_temperature
        share = progress / self.warmup
        return self.first_target_temperature + (self.target_temperature - self.first_target_temperature) * share

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:
        temperature = self.temperature_at(progress)
        if self.balance == "sinkhorn":
            return sinkhorn(teacher, temperature, self.iterations, ranks)
        centred = teacher - self.centre.to(teacher) if len(self.centre) else teacher
        return torch.softmax(centred / temperature, dim=1)

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:  # noqa: ARG002
        return {"loss": prototype_cross_entropy(student, target, self.temperature)}

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        if self.balance == "sinkhorn":
            return
        total = ranks.total(torch.stack([view.sum(dim=0) for view in teacher]).sum(dim=0))
        count: int | Tensor = sum(len(view) for view in teacher)
        if ranks.size > 1:  # ranks may differ in it, and have none: masked patches do
            count = ranks.total(total.new_tensor(float(count))).clamp(min=1)
        elif count == 0:
            return
        now = total / count * (1 - self.centre_momentum)
        self.centre = now + self.centre_momentum * self.centre.to(now) if len(self.centre) else now

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self.centre = resized(self.centre, state_dict.get(prefix + "centre"))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """The settings, for print."""
        temperatures = ("temperature", "target_temperature", "first_target_temperature", "warmup")
        names = (*temperatures, "balance", "centre_momentum", "iterations")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
