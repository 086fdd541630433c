"""TiCo: invariance between views, and contrast against the covariance of embeddings seen so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Lt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.objectives.pairs import demand_pairs
from tacit.ops.gradients import known, wanted
from tacit.ops.precision import full, without_autocast
from tacit.ops.similarity import cosine, unit

__all__ = ["TiCo"]


@part("objective", "tico")
class TiCo(nn.Module):
    """Pull two views together and push the first out of the directions that embeddings have filled before.

        loss = 1 - mean_i cosine(a_i, b_i) + rho * mean_i u_i^T C u_i,  u = a / ||a||
        C <- beta * C + (1 - beta) * stop-gradient(mean_i u_i u_i^T), moved before it is used

    The moment C [d d] of all ranks is state: it moves at every call in train mode and is saved with the run; in eval mode
    it stays, and the loss is that of the next move. Only the first view is contrasted, as published. Source: arXiv 2206.10698;
    rho 8, beta 0.9.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]] = "global"
    moment: Tensor

    def __init__(self, *, rho: Annotated[float, Ge(0)] = 8.0, beta: Annotated[float, Ge(0), Lt(1)] = 0.9) -> None:
        super().__init__()
        self.rho, self.beta = rho, beta
        self.register_buffer("moment", torch.zeros(0, 0))  # its width is that of the first embeddings

    def forward(
        self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], ranks: Ranks = ALONE
    ) -> dict[str, Float[Tensor, ""]]:
        """Invariance and contrast over all ranks, the same on each, and their sum under 'loss'."""
        demand_pairs("tico", a, b, ranks)
        with without_autocast(a):
            a, b = full(a), full(b)
            m, u = a.shape[0] * ranks.size, unit(a)
            keep = wanted(u)
            with torch.no_grad():
                moment = ranks.total(u.T @ u) * ((1 - self.beta) / m)
                if len(self.moment):
                    moment = moment.add_(self.moment.to(moment), alpha=self.beta)
                along = u @ moment
                share = (along * u).sum()
            if self.training:
                self.moment = moment
            apart = 1 - ranks.total((u * unit(b)).sum()) / m
            filled = self.rho * ranks.total(known("tico", share, *([(u, 2 * along)] if keep else []))) / m
            return {"loss": apart + filled, "invariance": apart, "contrast": filled}

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(prefix + "moment")
        if saved is not None:
            self.moment = torch.zeros(saved.shape, dtype=saved.dtype, device=self.moment.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def energy(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """How far apart two embeddings are by this criterion: 1 - cosine, in [0, 2]."""
        return 1 - cosine(full(a), full(b))

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"rho={self.rho}, beta={self.beta}"
