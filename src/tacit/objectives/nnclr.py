"""NNCLR: the positive is the nearest neighbour in a set of earlier embeddings."""

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

__all__ = ["NNCLR"]

_TILE = 1 << 26  # similarities held at once: 256 MiB in float32


@part("objective", "nnclr")
class NNCLR(Distillation):
    """Contrast the nearest earlier embedding of one view with the prediction from the other.

        loss = mean_i [ -s_ii + log sum_j exp s_ij ],  s_ij = neighbour(z_i) . p_j / temperature,  unit rows

    z_i is an embedding of one view without gradient (teacher 'twin'), neighbour(z) the row of a support set of largest cosine, p_j
    the predictions of all ranks from the other view. A system gives the mean over both directions. The support set is
    first in first out, starts with random directions and takes the embeddings of the first view after each step.

    Source: arXiv 2104.14548; temperature 0.1, 98,304 rows.
    """

    kind: ClassVar[str] = "nnclr"
    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1, support: Annotated[int, Gt(0)] = 98304) -> None:
        super().__init__()
        self.temperature = temperature
        self.queue = Queue(support)

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        support = self.queue.read(teacher, ranks)
        blocks = unit(teacher).split(max(1, _TILE // len(support)))
        return support[torch.cat([(block @ support.T).argmax(dim=1) for block in blocks])]

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:
        n, p = len(student), unit(student)
        own = torch.arange(n, device=p.device) + ranks.rank * n
        total = log_sum_exp(target, ranks.gather(p), own[:, None][:, :0], self.temperature, bounded=True, partner=own)
        return {"loss": total / n}

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        self.queue.push(teacher[0], ranks)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}, support={self.queue.size}"
