"""Supervised contrast: every view of every sample of one's own class is a partner."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.contrast import log_sum_exp
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine, unit

__all__ = ["SupCon"]


@part("objective", "supcon")
class SupCon(nn.Module):
    """Contrast each view with all views of its class against all others: SimCLR with labels, and SimCLR where all labels differ.

        loss = mean over the 2m rows i of both views of [ -mean_{p in P(i)} s_ip + log sum_{j != i} exp s_ij ],  s = cosine / temperature

    P(i): the other rows of i's class, its own other view among them, over all ranks. This is L_out of the paper, with the sum over
    partners outside the logarithm; the weaker L_in, inside it, is what some ports compute under this name. The system must name
    the labels (`labels=label`): they are the one thing here that no other method of this family may see.

    Values: log(2m - 1) when all embeddings are equal. Source: arXiv 2004.11362 eq. 2; temperature 0.1 (its ImageNet code: 0.07).
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "gather"
    wants: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __init__(self, *, temperature: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self,
        a: Float[Tensor, "n d"],
        b: Float[Tensor, "n d"],
        ranks: Ranks = ALONE,
        labels: Int[Tensor, " n"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The mean over all ranks, the same on each, under 'loss'."""
        demand_pairs("supcon", a, b, ranks)
        if labels is None:
            raise RecipeError(
                "objective 'supcon' contrasts classes and was given no labels: name them, system.labels=label, or use "
                "objective 'simclr', which needs none"
            )
        with without_autocast(a):
            n, u = len(a), unit(torch.cat([full(a), full(b)]))
            everyone = u if ranks.size == 1 else torch.cat(
                ranks.gather(torch.cat([u[:n], u[n:]], dim=1)).chunk(2, dim=1)
            )  # fmt: skip
            known = ranks.gather(labels)
            m = len(known)
            own = torch.arange(n, device=u.device) + ranks.rank * n
            itself = torch.cat([own, own + m])[:, None]
            # the sum over partners is that of the class less the row itself: no matrix of pairs is held
            first = (known[:, None] == known[None, :]).to(torch.uint8).argmax(dim=1)  # of each sample's class
            total = torch.zeros_like(everyone[:m]).index_add(0, first.repeat(2), everyone)
            count = torch.zeros_like(everyone[:m, 0]).index_add(0, first, torch.ones_like(everyone[:m, 0]))
            squares = everyone.detach().square().sum(dim=1)  # one, or zero, whatever moves
            alone = squares / (2 * count[first] - 1).repeat(2)
            pull = (total.square().sum(dim=1) / (2 * count - 1).clamp(min=1)).sum() - alone.sum()
            push = log_sum_exp(u, everyone if ranks.size > 1 else None, itself, self.temperature, bounded=True)
            return {"loss": ranks.total(push - pull / (ranks.size * self.temperature)) / (2 * m)}

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return 1 - cosine(full(a), full(b))

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"temperature={self.temperature}"
