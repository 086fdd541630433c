"""What encoders share: running a chain of named stages, pooling maps, refusing what an encoder cannot do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from tacit.core.errors import RecipeError, UnknownNameError, unknown
from tacit.core.values import Features

__all__ = ["demand_all_tokens", "demand_layers", "features_of_map", "pool_map", "run"]


def demand_layers(which: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names of layers that are not there."""
    for name in which:
        if name not in known:
            raise UnknownNameError(unknown("layer", name, known))


def demand_all_tokens(kind: str, keep: Tensor | None) -> None:
    """Refuse `keep` in an encoder that has no tokens to drop."""
    if keep is not None:
        raise RecipeError(
            f"encoder {kind!r} sees whole images and cannot drop tokens: leave `keep` out, or use encoder 'vit'"
        )


def pool_map(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
    """Mean over the places of a map."""
    return x.mean(dim=(2, 3))


def features_of_map(x: Float[Tensor, "n c h w"]) -> Features:
    """A map as Features: pooled by the mean, its places as tokens in row-major order."""
    return Features(pool_map(x), x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]))


def run(
    stages: Mapping[str, Callable[[Tensor], Tensor]],
    x: Tensor,
    which: Sequence[str],
    pool: Callable[[Tensor], Tensor] = pool_map,
) -> list[Tensor]:
    """Pooled outputs [n d_l] of the stages named in `which`, in that order; stops after the last one that is asked for."""
    demand_layers(which, list(stages))
    wanted = set(which)
    found: dict[str, Tensor] = {}
    for name, stage in stages.items():
        if not wanted - set(found):
            break
        x = stage(x)
        if name in wanted:
            found[name] = pool(x)
    return [found[name] for name in which]
