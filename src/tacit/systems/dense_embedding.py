"""Dense embedding of images: views must meet as wholes and place by place (VICRegL)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import EncoderSpec, HeadSpec, ObjectiveSpec, Spec
from tacit.core.values import Batch, Facts, Features
from tacit.systems.joint_embedding import JointEmbedding, demand_samples, mean_terms, pairs_of, stacked
from tacit.views.places import places

__all__ = ["DenseEmbedding", "matched"]

_ENCODER, _PROJECTOR = Spec("encoder", "resnet"), Spec("head", "mlp", widths=(8192, 8192, 8192))
_LOCAL, _VICREG = Spec("head", "mlp", widths=(512, 512, 512)), Spec("objective", "vicreg", covariance=0.5)
Count = Annotated[int, Gt(0)]


def matched(distance: Float[Tensor, "n k l"], count: int) -> tuple[Int[Tensor, "n m"], Int[Tensor, "n m"]]:
    """The `count` cells (at most k) of one map that are nearest to any cell of another, ascending, and those cells."""
    nearest = distance.min(dim=2)
    best = nearest.values.argsort(dim=1, stable=True)[:, : min(count, distance.shape[1])].sort(dim=1).values
    return best, nearest.indices.gather(1, best)


@part("system", "dense-embedding")
class DenseEmbedding(JointEmbedding):
    """Joint embedding of the pooled features and of matched cells of the feature maps.

        loss = alpha * mean over pairs (u, v) of objective(z_u, z_v)
             + (1 - alpha) * mean over pairs of [ F(u, v) + F(v, u) + P(u, v) + P(v, u) ] / 2

    F(u, v): of map u the `matches[0]` cells (`matches[1]` if u is a small crop) whose embedding lies nearest to one of map v by squared
    distance, each paired with that one; P(u, v): the same by distance of their centres in the raw picture, from the recorded
    crops. Cells go through `local_projector`. The j-th pairs of all samples are compared by `local_objective`; mean over j.

    The authors' code halves VICReg's covariance term in both places (covariance 0.5 here), and in its released form keeps of the
    sum over pairs the last one alone, divided by their number; here all pairs count.
    Source: arXiv 2210.01571; alpha 0.75 or 0.9, maps of 7 x 7 with 20 matches and 3 x 3 with 4.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        projector: HeadSpec = _PROJECTOR,
        objective: ObjectiveSpec = _VICREG,
        local_projector: HeadSpec = _LOCAL,
        local_objective: ObjectiveSpec = _VICREG,
        alpha: Annotated[float, Ge(0), Le(1)] = 0.75,
        matches: tuple[Count, Count] = (20, 4),
        weights: str = "",
    ) -> None:
        super().__init__(facts, encoder=encoder, projector=projector, objective=objective, weights=weights)
        self.local_projector = local_projector.build(self.encoder.dim)
        self.local_objective = local_objective.build()
        self.alpha, self.matches = alpha, matches

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Compositions that mean nothing are refused."""
        alone = {"teacher": None, "predictor": None, "labels": ""}
        yield from JointEmbedding.check_settings({**settings, **alone})
        local = {**alone, "projector": settings["local_projector"], "objective": settings["local_objective"]}
        yield from (f"of cells: {fault}" for fault in JointEmbedding.check_settings(local))

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Without a share of cells their number is idle."""
        return {"matches": "alpha is 1"} if settings["alpha"] == 1 else {}

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """The terms 'image' and 'cells' and their sum under 'loss'."""
        demand_samples("dense-embedding", batch, ranks)
        pairs = pairs_of(batch.views)
        x = {name: stacked(name, view) for name, view in batch.views.items()}
        seen: dict[str, Features] = {name: self.encoder(one) for name, one in x.items()}
        z = {name: self.projector(one.pooled) for name, one in seen.items()}
        image = mean_terms([self.objective(z[u], z[v], ranks) for u, v in pairs])["loss"]
        terms = {"image": self.alpha * image}
        if self.alpha < 1:
            cells = {name: self._cells(name, one) for name, one in seen.items()}
            where = {name: places(batch.views[name].how, seen[name].grid).to(z[name].device) for name in x}  # type: ignore[arg-type]
            found = [self._met(pair, cells, where, ranks) for pair in pairs]
            terms["cells"] = (1 - self.alpha) * torch.stack(found).mean()
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _cells(self, name: str, seen: Features) -> Float[Tensor, "n k d"]:
        if seen.tokens is None or seen.grid is None or len(seen.grid) != 2:
            raise RecipeError(
                f"system 'dense-embedding' compares the cells of feature maps, and the encoder gives none for view {name!r}: use "
                "an encoder with a map or tokens, for example resnet or vit"
            )
        if seen.tokens.shape[1] < 2:
            raise DataError(
                f"system 'dense-embedding' needs maps of several cells, found {seen.grid[0]} x {seen.grid[1]} for view {name!r}: "
                "enlarge the views or take an encoder that reduces them less"
            )
        flat = self.local_projector(seen.tokens.flatten(0, 1))
        return flat.unflatten(0, seen.tokens.shape[:2])  # type: ignore[no-any-return]

    def _met(
        self, pair: tuple[str, str], cells: Mapping[str, Tensor], where: Mapping[str, Tensor], ranks: Ranks
    ) -> Float[Tensor, ""]:
        """The four matchings of two views."""
        found = []
        for u, v in (pair, pair[::-1]):
            count = self.matches[u.startswith("local")]
            with torch.no_grad():
                distances = (torch.cdist(cells[u].float(), cells[v].float()), torch.cdist(where[u], where[v]))
            for distance in distances:
                own, other = matched(distance, count)
                a, b = (
                    cells[name].gather(1, at[:, :, None].expand(-1, -1, cells[name].shape[2]))
                    for name, at in ((u, own), (v, other))
                )
                slots = [self.local_objective(a[:, j], b[:, j], ranks)["loss"] for j in range(a.shape[1])]
                found.append(torch.stack(slots).mean())
        return torch.stack(found).sum() / 2
