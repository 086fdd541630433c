"""Heads that end in prototypes: an embedding of length one, and its score with each prototype. Legend: k prototypes."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from annotated_types import Ge, Gt, Le, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.models.heads import MLP
from tacit.ops.similarity import unit

__all__ = ["DINOHead", "PrototypeHead", "Prototypes"]

PositiveInt = Annotated[int, Gt(0)]
Fraction = Annotated[float, Ge(0), Le(1)]


@runtime_checkable
class PrototypeHead(Protocol):
    """A head whose output [n k] are scores, with the embedding [n d] before them."""

    dim: int

    def __call__(self, x: Tensor, progress: float = ...) -> Tensor:
        """Scores; `progress` of the run decides whether the prototypes learn yet."""
        ...

    def embedding(self, x: Tensor) -> Tensor:
        """What label-free criteria judge."""
        ...

    def scores(self, z: Tensor, progress: float = ...) -> Tensor:
        """Scores of such embeddings."""
        ...

    def after_step(self) -> None:
        """Bring the prototypes back to their form after an update."""
        ...


@part("head", "dino")
class DINOHead(nn.Module):
    """DINO's head: three linear maps with GELU between them, length one, then weight-normalised prototypes.

    scores = unit(mlp(x)) . gain_k v_k / ||v_k||. The gain of each prototype starts at 1 and stays there if `gain` is 'fixed', so
    that scores are cosines; DINOv2 trains it. still: the fraction of the run at whose beginning the prototypes get no
    gradient (the authors: one epoch). Weights have the names of the authors' files: mlp.0, .2, .4, last_layer.weight_g, weight_v.

    norm: 'batch' puts a batch norm before each GELU (the authors' use_bn_in_head; MSN's head, with 1,024 prototypes).
    deviation: of the first weights of the three maps. 0.02 is about 1/sqrt(2048); narrower heads want 1/sqrt(hidden), for with less
    GELU is nearly linear and all embeddings begin, and long stay, in one direction.

    Source: arXiv 2104.14294; 65,536 prototypes, hidden 2048, bottleneck 256.
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden: PositiveInt = 2048,
        bottleneck: PositiveInt = 256,
        prototypes: PositiveInt = 65536,
        gain: Literal["fixed", "trained"] = "fixed",
        still: Fraction = 0.0,
        norm: Literal["none", "batch"] = "none",
        deviation: Annotated[float, Gt(0)] = 0.02,
    ) -> None:
        super().__init__()
        self.dim, self.still = prototypes, still
        between = [[nn.BatchNorm1d(hidden), nn.GELU()] if norm == "batch" else [nn.GELU()] for _ in range(2)]
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), *between[0], nn.Linear(hidden, hidden), *between[1], nn.Linear(hidden, bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)
        self.last_layer = _WeightNormalised(bottleneck, prototypes, trained=gain == "trained")

    def embedding(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        """The bottleneck at length one."""
        return unit(self.mlp(x))

    def forward(self, x: Float[Tensor, "n c"], progress: float = 1.0) -> Float[Tensor, "n k"]:
        """Scores with the prototypes."""
        return self.scores(self.embedding(x), progress)

    def scores(self, z: Float[Tensor, "n d"], progress: float = 1.0) -> Float[Tensor, "n k"]:
        """Scores of embeddings of length one."""
        return self.last_layer(z, progress < self.still)  # type: ignore[no-any-return]

    def after_step(self) -> None:
        """Nothing: the weight norm is part of the map."""


class _WeightNormalised(nn.Module):
    def __init__(self, d: int, k: int, *, trained: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(k, 1), requires_grad=trained)
        self.weight_v = nn.Parameter(nn.init.trunc_normal_(torch.empty(k, d), std=0.02))

    def forward(self, z: Tensor, still: bool) -> Tensor:
        weight = self.weight_g * unit(self.weight_v)
        return nn.functional.linear(z, _without_gradient(weight) if still else weight)


@part("head", "prototypes")
class Prototypes(nn.Module):
    """SwAV's head: a projector, length one, then the cosine with each prototype.

    scores = unit(mlp(x)) . c_k; every update is followed by bringing the c_k back to length one. still: the fraction of the run at
    whose beginning the prototypes get no gradient (the authors: one epoch).
    Source: arXiv 2006.09882; projector 2048-128, 3,000 prototypes (1,024 of width 256 in MSN).
    """

    def __init__(
        self,
        dim: int,
        *,
        widths: Annotated[tuple[PositiveInt, ...], MinLen(1)] = (2048, 128),
        prototypes: PositiveInt = 3000,
        still: Fraction = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.still = prototypes, still
        self.projection_head = MLP(dim, widths=widths, last="bias")
        self.prototypes = nn.Linear(widths[-1], prototypes, bias=False)
        self.after_step()

    def embedding(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        """The projection at length one."""
        return unit(self.projection_head(x))

    def forward(self, x: Float[Tensor, "n c"], progress: float = 1.0) -> Float[Tensor, "n k"]:
        """Cosines with the prototypes."""
        return self.scores(self.embedding(x), progress)

    def scores(self, z: Float[Tensor, "n d"], progress: float = 1.0) -> Float[Tensor, "n k"]:
        """Cosines of embeddings of length one."""
        weight = self.prototypes.weight
        return nn.functional.linear(z, _without_gradient(weight) if progress < self.still else weight)

    @torch.no_grad()
    def after_step(self) -> None:
        """Every prototype back to length one."""
        self.prototypes.weight.copy_(unit(self.prototypes.weight))


def _without_gradient(weight: Tensor) -> Tensor:
    """The weight with a gradient of zero: still in the graph, where data-parallel wrappers look for every parameter."""
    return weight.detach() + 0.0 * weight
