"""MoCo: find the teacher's embedding of another view of the same sample among many keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from tacit.core.parts import part
from tacit.core.ranks import Ranks
from tacit.objectives.distillation import Distillation, Queue
from tacit.ops.contrast import log_sum_exp
from tacit.ops.similarity import unit

__all__ = ["MoCo", "MoCoV3"]


@part("objective", "moco")
class MoCo(Distillation):
    """Contrast each query with its key against a queue of the teacher's earlier keys.

        loss = mean_i [ -q_i . k_i / t + log( exp(q_i . k_i / t) + sum_j exp(q_i . queue_j / t) ) ],  unit rows, t the temperature

    The keys of all views and ranks enter the queue after the step's comparisons; it starts with random directions. The
    authors compare one view's queries with the other's keys and shuffle samples between ranks for their batch norms; here both
    directions count, as in ports, and batch norms see all ranks.

    Source: arXiv 1911.05722 (temperature 0.07), 2003.04297 (v2: 0.2); 65,536 keys, teacher's momentum 0.999.
    """

    kind: ClassVar[str] = "moco"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.2, keys: Annotated[int, Gt(0)] = 65536) -> None:
        super().__init__()
        self.temperature = temperature
        self.queue = Queue(keys)

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        return unit(teacher)

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:
        n, q = len(student), unit(student)
        columns = torch.cat([target, self.queue.read(target, ranks)])
        row = torch.arange(n, device=q.device)
        others = (row[:, None] + torch.arange(1, n, device=q.device)) % n  # keys of this batch, but for a row's own
        return {"loss": log_sum_exp(q, columns, others, self.temperature, bounded=True, partner=row) / n}

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        for view in teacher:
            self.queue.push(view, ranks)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}, keys={self.queue.size}"


@part("objective", "moco-v3")
class MoCoV3(Distillation):
    """Contrast each prediction with its key against the keys of the whole batch.

        loss = over both directions, 2 t * mean_i [ -q_i . k_i / t + log sum_j exp(q_i . k_j / t) ],  unit rows, t the temperature

    The keys are the teacher's, of all ranks, without gradient; the factor 2 t belongs to the loss. A system gives the mean over
    directions: over 'sum', the authors', counts the two directions of a pair of views fully, 'mean' once.
    Wants a predictor and a teacher. Source: arXiv 2104.02057; temperature 1.0 (ResNet-50) or 0.2 (ViT).
    """

    kind: ClassVar[str] = "moco-v3"
    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.2, over: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self.temperature, self.over = temperature, over

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        return unit(teacher)

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:
        n, q = len(student), unit(student)
        own = torch.arange(n, device=q.device) + ranks.rank * n
        entropy = (
            log_sum_exp(q, ranks.gather(target), own[:, None][:, :0], self.temperature, bounded=True, partner=own) / n
        )
        return {"loss": (2 if self.over == "sum" else 1) * 2 * self.temperature * entropy}

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        """Nothing."""

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}, over={self.over!r}"
