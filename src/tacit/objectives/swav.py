"""SwAV and MSN: swapped assignments to prototypes, kept even over the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.parts import part
from tacit.core.ranks import Ranks
from tacit.objectives.distillation import Distillation
from tacit.ops.prototypes import prototype_cross_entropy
from tacit.ops.transport import sinkhorn

__all__ = ["MSN", "SwAV"]

Temperature = Annotated[float, Gt(0)]


@part("objective", "swav")
class SwAV(Distillation):
    """Predict from one view the balanced assignment of another view to prototypes.

        loss = mean_i -sum_k Q_ik log softmax(s_i / temperature)_k,  Q = Sinkhorn(t / code_temperature) over the m samples of all ranks

    s and t [n k] are cosines with the prototypes of a head 'prototypes', from two views and the same weights (teacher 'twin'): no
    gradient goes through the codes Q. A system gives the mean over pairs of a global view's codes and another view. The
    queue of embeddings that the authors add at small batches is not part of it, so m should be several times k.

    Values: log k for equal scores. Source: arXiv 2006.09882; temperature 0.1, codes at 0.05 with 3 iterations.
    """

    kind: ClassVar[str] = "swav"
    reads: ClassVar[Literal["embeddings", "scores"]] = "scores"

    def __init__(
        self,
        *,
        temperature: Temperature = 0.1,
        code_temperature: Temperature = 0.05,
        iterations: Annotated[int, Gt(0)] = 3,
    ) -> None:
        super().__init__()
        self.temperature, self.code_temperature, self.iterations = temperature, code_temperature, iterations

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        return sinkhorn(teacher, self.code_temperature, self.iterations, ranks)

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:  # noqa: ARG002
        return {"loss": prototype_cross_entropy(student, target, self.temperature)}

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        """Nothing."""

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}, code_temperature={self.code_temperature}, iterations={self.iterations}"


@part("objective", "msn")
class MSN(Distillation):
    """Match a view's distribution over prototypes with the teacher's sharpened one, and use all prototypes on average.

        loss = mean_i -sum_k P_ik log p_ik + spread * ( log k - H(mean_i p_i) ),  p = softmax(s / temperature)
        P = softmax(t / temperature)^(1 / sharpening), rows at sum one

    s and t [n k] are cosines with prototypes; the entropy H is of the mean over the samples of all ranks ('me-max'). Masking
    the student's view belongs to the views and the encoder. Source: arXiv 2204.07141; sharpening 0.25, spread 1.
    """

    kind: ClassVar[str] = "msn"
    reads: ClassVar[Literal["embeddings", "scores"]] = "scores"

    def __init__(
        self,
        *,
        temperature: Temperature = 0.1,
        sharpening: Temperature = 0.25,
        spread: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.temperature, self.sharpening, self.spread = temperature, sharpening, spread

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        return torch.softmax(teacher / (self.temperature * self.sharpening), dim=1)

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:
        mean = ranks.total(torch.softmax(student / self.temperature, dim=1).mean(dim=0)) / ranks.size
        entropy = -torch.xlogy(mean, mean.clamp(min=torch.finfo(mean.dtype).tiny)).sum()
        return {
            "match": prototype_cross_entropy(student, target, self.temperature),
            "spread": self.spread * (math.log(student.shape[1]) - entropy),
        }

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        """Nothing."""

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}, sharpening={self.sharpening}, spread={self.spread}"
