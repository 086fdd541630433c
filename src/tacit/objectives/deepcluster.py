"""DeepCluster-v2: the class of a sample is the cluster in which the last epoch's embeddings left it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt, MinLen
from jaxtyping import Float, Int
from torch import Tensor

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.distillation import Distillation, resized
from tacit.objectives.pairs import demand_pairs
from tacit.ops.clustering import nearest_centroid, spherical_kmeans
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import unit

__all__ = ["DeepCluster"]

PositiveInt = Annotated[int, Gt(0)]


@part("objective", "deepcluster")
class DeepCluster(Distillation):
    """Classify every view by the cluster of its sample, in several clusterings at once.

        loss = mean over heads h of mean_i [ -s_i,y_h(i) + log sum_k exp s_ik ],  s_ik = unit(z_i) . c_hk / temperature

    The memory holds the unit embeddings of the last `memory` samples, by their ids, one for each of the first two global views.
    Whenever `memory` new rows have come in (an epoch, if it is the number of samples), spherical k-means of the rows of view h mod 2 gives
    head h its centroids c_h, which get no gradient, and each sample its cluster y_h; the first time as soon as there are as many
    rows as centroids. A sample that the clustering has not seen takes the centroid nearest to its embedding now.

    The teacher is the 'twin'. Every rank holds the whole memory, `memory` x 2 x d numbers, and clusters it by itself; the authors share
    it out and fill it in a pass before training.
    Source: arXiv 2006.09882 section 3 and its code; temperature 0.1, three heads of 3,000, 10 iterations, ImageNet.
    """

    kind: ClassVar[str] = "deepcluster"
    wants = frozenset({"ids", "place"})
    rows: Tensor
    names: Tensor
    centroids: Tensor
    known: Tensor
    clusters: Tensor
    seen: Tensor
    fresh: Tensor

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0)] = 0.1,
        prototypes: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (3000, 3000, 3000),
        memory: PositiveInt = 1_281_167,
        iterations: PositiveInt = 10,
    ) -> None:
        super().__init__()
        self.temperature, self.prototypes, self.memory, self.iterations = temperature, prototypes, memory, iterations
        for name in ("rows", "centroids"):  # widths are those of the first embeddings
            self.register_buffer(name, torch.zeros(0, 0))
        for name in ("names", "known"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))
        self.register_buffer("clusters", torch.zeros(0, 0, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fresh", torch.zeros((), dtype=torch.int64))  # rows since the last clustering

    def heads(self, like: Tensor) -> list[Tensor]:
        """The centroids of each head [k d]; before the first clustering fixed directions, the same in every process."""
        kept = self.centroids.to(like) if len(self.centroids) else _scattered(sum(self.prototypes), like)
        return list(kept.split(list(self.prototypes)))

    @torch.no_grad()
    def target(
        self,
        teacher: Float[Tensor, "n d"],
        ranks: Ranks = ALONE,  # noqa: ARG002
        progress: float = 1.0,  # noqa: ARG002
        ids: Int[Tensor, " n"] | None = None,
        place: int = 0,  # noqa: ARG002
    ) -> Int[Tensor, "n h"]:
        """The cluster of each sample under each head."""
        with without_autocast(teacher):
            z = unit(full(teacher))
            now = torch.stack([nearest_centroid(z, c) for c in self.heads(z)], dim=1)
            if ids is None or not len(self.known):
                return now
            at = torch.searchsorted(self.known, ids).clamp(max=len(self.known) - 1)
            return torch.where((self.known[at] == ids)[:, None], self.clusters[at], now)

    def compare(
        self, student: Float[Tensor, "n d"], target: Int[Tensor, "n h"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """The mean cross entropy over the heads and all ranks, under 'loss'."""
        with without_autocast(student):
            z = unit(full(student))
            heads = self.heads(z)
            losses = [
                torch.nn.functional.cross_entropy(z @ c.T / self.temperature, target[:, h]) for h, c in enumerate(heads)
            ]
            return {"loss": ranks.total(torch.stack(losses).mean()) / ranks.size}

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE, progress: float = 1.0
    ) -> dict[str, Float[Tensor, ""]]:
        """`a` the student's embedding, `b` that whose clusters are asked for: no gradient goes to it."""
        demand_pairs(self.kind, a, b, ranks)
        return self.compare(a, self.target(b, ranks, progress), ranks)

    @torch.no_grad()
    def remember(
        self,
        teacher: Sequence[Float[Tensor, "n d"]],
        ranks: Ranks = ALONE,
        ids: Int[Tensor, " n"] | None = None,
    ) -> None:
        """Take this step's embeddings into the memory, and cluster when it is full of new ones."""
        views = [unit(full(view)) for view in teacher[:2]]
        mine = torch.arange(len(views[0]), device=views[0].device) if ids is None else ids
        new, names = ranks.gather(torch.stack([views[0], views[-1]], dim=1)), ranks.gather(mine)
        if not len(self.rows):
            self.rows = new.new_zeros(self.memory, *new.shape[1:])
            self.names = names.new_full((self.memory,), -1)
        new, names = new[-self.memory :], names[-self.memory :]
        places = (self.seen + torch.arange(len(new), device=new.device)) % self.memory
        self.rows.index_copy_(0, places, new.to(self.rows))
        self.names.index_copy_(0, places, names)
        self.seen, self.fresh = self.seen + len(new), self.fresh + len(new)
        due = self.memory if len(self.known) else min(self.memory, max(self.prototypes))
        if int(self.fresh) >= due:
            self._cluster(ranks)

    def _cluster(self, ranks: Ranks) -> None:
        there = min(int(self.seen), self.memory)
        oldest = int(self.seen) % self.memory if there == self.memory else 0
        rows, names = (x[:there].roll(-oldest, 0) for x in (self.rows, self.names))  # from the oldest to the newest
        found = [
            spherical_kmeans(rows[:, h % 2].contiguous(), k, self.iterations, ranks)
            for h, k in enumerate(self.prototypes)
        ]
        self.centroids = torch.cat([c for c, _ in found])
        order = torch.argsort(names, stable=True)
        last = torch.ones(
            there, dtype=torch.bool, device=rows.device
        )  # of a sample that is there twice the newest counts
        last[:-1] = names[order][1:] != names[order][:-1]
        self.known = names[order][last]
        self.clusters = torch.stack([own for _, own in found], dim=1)[order[last]]
        self.fresh = torch.zeros_like(self.fresh)

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:
        return self.target(teacher, ranks, progress)

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:
        return self.compare(student, target, ranks)

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        self.remember(teacher, ranks)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("rows", "names", "centroids", "known", "clusters"):
            setattr(self, name, resized(getattr(self, name), state_dict.get(prefix + name)))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """The settings, for print."""
        words = ("temperature", "prototypes", "memory", "iterations")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in words)


def _scattered(k: int, like: Tensor) -> Tensor:
    """k unit directions [k d] without order: a quadratic congruence over the places, so that no generator is asked."""
    place = torch.arange(1, k * like.shape[1] + 1, device=like.device)
    numbers = (place * place % 1_000_003) * 7_368_787 % 1_000_003
    return unit((numbers.to(like) / 1_000_003 - 0.5).view(k, like.shape[1]))
