"""Joint embedding: two views of one thing, one encoder, one projector, one criterion between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import EncoderSpec, HeadSpec, ObjectiveSpec, Spec
from tacit.core.values import Batch, Facts, Features, View
from tacit.models.weights import load_weights

__all__ = ["JointEmbedding"]

_ENCODER, _PROJECTOR, _OBJECTIVE = Spec("encoder", "resnet"), Spec("head", "mlp"), Spec("objective", "vicreg")
_TOKENS = ("cls_token", "pos_embed", "reg_token", "mask_token")  # learned inputs, not weights of a map


@part("system", "joint-embedding")
class JointEmbedding(nn.Module):
    """Train an encoder so that views of one sample meet in embedding space: z = projector(encoder(x)).

        loss = mean over pairs of views (u, v) of objective(z_u, z_v)

    Every pair counts that has a global view in it; views whose name begins with 'local' (small crops) meet only global ones.
    Each view goes through the network by itself, so that batch norms see one view at a time, as in the authors' code of
    VICReg, Barlow Twins and BYOL. The representation `embed` is the encoder's, before the projector.

    `weights`: a file to start the encoder from, under its published names. Labels in `batch.facts` are never read.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        projector: HeadSpec = _PROJECTOR,
        objective: ObjectiveSpec = _OBJECTIVE,
        weights: str = "",
    ) -> None:
        super().__init__()
        self.encoder = encoder.build(facts)
        self.projector = projector.build(self.encoder.dim)
        self.objective = objective.build()
        if weights:
            load_weights(self.encoder, weights)

    def embed(self, x: Float[Tensor, "n c h w"]) -> Features:
        """The representation: what is kept, probed and exported."""
        return self.encoder(x)  # type: ignore[no-any-return]

    def project(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The embedding that the loss sees."""
        return self.projector(self.embed(x).pooled)  # type: ignore[no-any-return]

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """The terms of the objective, each the mean over pairs of views. `progress` does not matter here."""
        pairs = pairs_of(batch.views)
        z = {name: self.project(_stacked(name, view)) for name, view in batch.views.items()}
        found = [self.objective(z[u], z[v], ranks) for u, v in pairs]
        return {name: sum(terms[name] for terms in found) / len(pairs) for name in found[0]}

    def forward(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The same as `loss`, so that DDP and FSDP can wrap the system."""
        return self.loss(batch, progress, ranks)

    def energy(
        self, x: Float[Tensor, "n c h w"], action: Tensor | None, y: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, " n"]:
        """How little y looks like another view of x, lower is better: the distance of their embeddings.

        The distance is the objective's own, `objective.energy(a, b)`, where it has one, else the mean squared difference.
        """
        if action is not None:
            raise RecipeError(
                "system 'joint-embedding' predicts nothing from an action: its energy compares two views. "
                "Pass action=None, or use a system that predicts"
            )
        distance = getattr(self.objective, "energy", _mean_squared_difference)
        return distance(self.project(x), self.project(y))  # type: ignore[no-any-return]

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """Weights of linear maps and convolutions with decay; biases, norms and learned tokens without."""
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        decayed = [p for name, p in trained if _decays(name, p)]
        spared = [p for name, p in trained if not _decays(name, p)]
        found = ((decayed, True), (spared, False))
        return [{"params": params, "decay": decay, "scale": 1.0} for params, decay in found if params]

    def after_step(self, progress: float) -> None:
        """Nothing: there is no second network to move."""


def _stacked(name: str, view: View) -> Tensor:
    if isinstance(view.data, Tensor):
        return view.data
    sizes = sorted({tuple(image.shape) for image in view.data})
    raise DataError(
        f"system 'joint-embedding' needs the images of view {name!r} in one tensor, found a list of {len(sizes)} sizes: "
        "crop or resize them to one size in the views"
    )


def _mean_squared_difference(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=-1)


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and name.rpartition(".")[2] not in _TOKENS


def pairs_of(views: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of views that meet: every unordered pair with at least one global view in it."""
    names = list(views)
    pairs = [(u, v) for u, v in combinations(names, 2) if not (u.startswith("local") and v.startswith("local"))]
    if not pairs:
        raise DataError(
            f"system 'joint-embedding' needs at least two views, one of them global; found {', '.join(names) or 'none'}: "
            "use views that make 'a' and 'b'"
        )
    return pairs
