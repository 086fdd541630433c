"""What criteria between a student and its teacher share: full precision, one loss on all ranks, no gradient to the target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.normality import directions
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine, unit

__all__ = ["Distillation", "Queue", "resized"]


class Distillation(nn.Module):
    """A criterion of one direction: what a student makes of one view against what its teacher makes of another.

    `target` turns a teacher's output into what is aimed at, once a view; `compare` scores a student's output against it;
    `remember` is called once a step in train mode, after all comparisons, with the teacher's outputs of all views. A subclass
    is final and says the three in full precision.
    """

    kind: ClassVar[str]
    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"
    reads: ClassVar[Literal["embeddings", "scores"]] = "embeddings"
    wants: frozenset[str] = frozenset()  # what `target` and `remember` take besides: ids, place, embedding
    joined: ClassVar[bool] = False  # compare all pairs of views in one call

    @abstractmethod
    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor: ...

    @abstractmethod
    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:
        """Terms that add up to the loss, each a mean over this rank's samples."""

    @abstractmethod
    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None: ...

    @torch.no_grad()
    def target(
        self, teacher: Float[Tensor, "n d"], ranks: Ranks = ALONE, progress: float = 1.0
    ) -> Float[Tensor, "n d"]:
        """What a teacher's output asks of the student, at this progress of the run."""
        with without_autocast(teacher):
            return self._target(full(teacher), ranks, progress)

    def compare(
        self, student: Float[Tensor, "n d"], target: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms over all ranks, the same on each, with their sum under 'loss'."""
        demand_pairs(self.kind, student, target, ranks)
        with without_autocast(student):
            local = self._compare(full(student), target, ranks)
            terms = {name: ranks.total(term) / ranks.size for name, term in local.items()}
            return terms if "loss" in terms else {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE, progress: float = 1.0
    ) -> dict[str, Float[Tensor, ""]]:
        """`a` the student's output, `b` the teacher's: no gradient goes to `b`."""
        demand_pairs(self.kind, a, b, ranks)
        return self.compare(a, self.target(b, ranks, progress), ranks)

    @torch.no_grad()
    def remember(self, teacher: Sequence[Float[Tensor, "n d"]], ranks: Ranks = ALONE) -> None:
        """Take in what the teacher made of this step's views; afterwards the same on every rank."""
        with without_autocast(teacher[0]):
            self._remember([full(view) for view in teacher], ranks)

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are: 1 - cosine, in [0, 2]."""
        return 1 - cosine(full(a), full(b))


class Queue(nn.Module):
    """The last `size` unit rows of all ranks, first in first out; random unit rows, those of rank 0, until they are replaced.

    The width is that of the first rows, so the buffers are empty before the first use; they are saved with the run.
    """

    rows: Tensor
    at: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", torch.zeros(0, 0))
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))  # where the next row goes

    def read(self, like: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Float[Tensor, "size d"]:
        """All rows, in the dtype of `like`. In eval mode an empty queue is drawn and not kept."""
        if len(self.rows):
            return self.rows.to(like)
        drawn = directions(like.shape[1], self.size, like, ranks).T.contiguous()
        if self.training:
            self.rows = drawn
        return drawn

    @torch.no_grad()
    def push(self, rows: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> None:
        """Replace the oldest rows by `rows` of all ranks, in rank order, at length one; of more than `size` the last stay."""
        kept, new = self.read(rows, ranks), ranks.gather(unit(rows))[-self.size :]
        places = (self.at + torch.arange(len(new), device=new.device)) % self.size
        self.rows = kept.index_copy(0, places, new)
        self.at = (self.at + len(new)) % self.size

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self.rows = resized(self.rows, state_dict.get(prefix + "rows"))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def resized(buffer: Tensor, saved: Tensor | None) -> Tensor:
    """Room for a saved buffer whose width is known only after the first step."""
    return buffer if saved is None else torch.zeros(saved.shape, dtype=saved.dtype, device=buffer.device)
