"""SwAV and MSN: swapped assignments to prototypes, kept even over the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.distillation import Distillation, Queue
from tacit.ops.precision import full, without_autocast
from tacit.ops.prototypes import prototype_cross_entropy
from tacit.ops.transport import sinkhorn

__all__ = ["MSN", "SwAV"]

Temperature = Annotated[float, Gt(0)]


@part("objective", "swav")
class SwAV(Distillation):
    """Predict from one view the balanced assignment of another view to prototypes.

        loss = mean_i -sum_k Q_ik log softmax(s_i / temperature)_k,  Q = Sinkhorn(t / code_temperature) over the m samples of all ranks

    s and t [n k] are cosines with the prototypes of a head 'prototypes', from two views and the same weights (teacher 'twin'): no
    gradient goes through the codes Q. A system gives the mean over pairs of a global view's codes and another view.

    queue: at batches that are not several times k, the scores of the last `queue` embeddings of the same view, with the prototypes of now,
    join the m in Sinkhorn's balance (0: none; the authors 3,840 at batch 256). They join from `queue_from` on, a fraction of the
    run, once the queue is full (the authors: epoch 15). Each rank takes an equal share of them.

    Values: log k for equal scores. Source: arXiv 2006.09882; temperature 0.1, codes at 0.05 with 3 iterations.
    """

    kind: ClassVar[str] = "swav"
    reads: ClassVar[Literal["embeddings", "scores"]] = "scores"
    taken: Tensor

    def __init__(
        self,
        *,
        temperature: Temperature = 0.1,
        code_temperature: Temperature = 0.05,
        iterations: Annotated[int, Gt(0)] = 3,
        queue: Annotated[int, Ge(0)] = 0,
        queue_from: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__()
        self.temperature, self.code_temperature, self.iterations = temperature, code_temperature, iterations
        self.queue, self.queue_from = queue, queue_from
        self.queues = nn.ModuleList(Queue(queue) for _ in range(2 if queue else 0))  # one for each global view
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))  # rows that have come into each
        self.wants = frozenset({"embedding", "place"}) if queue else frozenset()

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Without a queue there is no time at which it joins."""
        return {} if settings["queue"] else {"queue_from": "queue is 0"}

    def target(
        self,
        teacher: Float[Tensor, "n k"],
        ranks: Ranks = ALONE,
        progress: float = 1.0,
        scores: Callable[[Tensor], Tensor] | None = None,
        place: int = 0,
    ) -> Float[Tensor, "n k"]:
        """The codes; `scores` gives those of queued embeddings, `place` is the number of the view."""
        if scores is None or place >= len(self.queues) or progress < self.queue_from or self.taken < self.queue:
            return super().target(teacher, ranks, progress)
        if self.queue % ranks.size:
            raise RecipeError(
                f"objective 'swav' shares its queue of {self.queue} among {ranks.size} processes: choose a multiple of them"
            )
        with torch.no_grad(), without_autocast(teacher):
            kept: Tensor = self.queues[place].rows  # type: ignore[assignment]
            mine = full(scores(kept[ranks.rank :: ranks.size].to(teacher)))
            return self._target(torch.cat([mine, full(teacher)]), ranks, progress)[len(mine) :]

    @torch.no_grad()
    def remember(
        self,
        teacher: Sequence[Float[Tensor, "n k"]],  # noqa: ARG002
        ranks: Ranks = ALONE,
        embeddings: Sequence[Float[Tensor, "n d"]] = (),
    ) -> None:
        """Take the embeddings of this step's global views into their queues."""
        for queue, view in zip(self.queues, embeddings, strict=False):
            queue.push(full(view), ranks)  # type: ignore[operator]
        if self.queue and embeddings:
            self.taken = (self.taken + len(embeddings[0]) * ranks.size).clamp(max=self.queue)

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        return sinkhorn(teacher, self.code_temperature, self.iterations, ranks)

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:  # noqa: ARG002
        return {"loss": prototype_cross_entropy(student, target, self.temperature)}

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        """Nothing of scores."""

    def extra_repr(self) -> str:
        """The settings, for print."""
        words = ("temperature", "code_temperature", "iterations", "queue", "queue_from")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in words)


@part("objective", "msn")
class MSN(Distillation):
    """Match a view's distribution over prototypes with the teacher's sharpened one, and use all prototypes on average.

        loss = mean_i -sum_k P_ik log p_ik + spread * ( log k - H(mean_i p_i) ),  p = softmax(s / temperature)
        P = softmax(t / temperature)^(1 / sharpening), rows at sum one

    s and t [n k] are cosines with prototypes; the entropy H is of the mean over the anchors of all views, samples and ranks ('me-max').
    balance 'sinkhorn' makes the targets use the prototypes evenly too, by `iterations` of Sinkhorn-Knopp on P, as the authors'
    released settings do. Masking the student's view belongs to the views (`views=masked`) and the encoder (one with tokens).
    Source: arXiv 2204.07141; sharpening 0.25, spread 1; 1,024 prototypes of width 256.
    """

    kind: ClassVar[str] = "msn"
    reads: ClassVar[Literal["embeddings", "scores"]] = "scores"
    joined: ClassVar[bool] = True  # all pairs of views are compared at once: the entropy is of all anchors

    def __init__(
        self,
        *,
        temperature: Temperature = 0.1,
        sharpening: Temperature = 0.25,
        spread: Annotated[float, Ge(0)] = 1.0,
        balance: Literal["none", "sinkhorn"] = "none",
        iterations: Annotated[int, Gt(0)] = 3,
    ) -> None:
        super().__init__()
        self.temperature, self.sharpening, self.spread = temperature, sharpening, spread
        self.balance, self.iterations = balance, iterations

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Without a balance there are no iterations of it."""
        return {} if settings["balance"] == "sinkhorn" else {"iterations": "balance is 'none'"}

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        sharp = torch.log_softmax(teacher / (self.temperature * self.sharpening), dim=1)
        return sinkhorn(sharp, 1.0, self.iterations, ranks) if self.balance == "sinkhorn" else sharp.exp()

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
        words = ("temperature", "sharpening", "spread", "balance", "iterations")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in words)
