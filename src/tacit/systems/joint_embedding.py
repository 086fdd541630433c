"""Joint embedding: two views of one thing, one encoder, one projector, one criterion between them; perhaps a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import find, part
from tacit.core.protocols import Distils
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import EncoderSpec, HeadSpec, ObjectiveSpec, Role, Spec
from tacit.core.values import Batch, Facts, Features, View
from tacit.models.prototypes import PrototypeHead
from tacit.models.weights import load_weights

__all__ = ["JointEmbedding", "demand_samples", "mean_terms", "pairs_of", "stacked"]

_ENCODER, _PROJECTOR, _OBJECTIVE = Spec("encoder", "resnet"), Spec("head", "mlp"), Spec("objective", "vicreg")
_TOKENS = ("cls_token", "pos_embed", "reg_token", "mask_token")  # learned inputs, not weights of a map


@part("system", "joint-embedding")
class JointEmbedding(nn.Module):
    """Train an encoder so that views of one sample meet in embedding space: z = projector(encoder(x)).

        loss = mean over pairs of views (u, v) of objective(z_u, z_v)

    Every pair counts that has a global view in it; views whose name begins with 'local' (small crops) meet only global ones. An
    objective of any number of views (LeJEPA, VISReg, MMCR, EMP, FroSSL) sees all of them at once.
    Each view goes through the network by itself, so that batch norms see one view at a time, as in the authors' code of
    VICReg, Barlow Twins and BYOL. The representation `embed` is the encoder's, before the projector.

    With a `teacher` the pairs have a direction, and each of the two counts:

        loss = mean over pairs (student view u, global teacher view v != u) of objective(predictor(z_u), teacher(v))

    Without a `predictor` z_u itself is compared. predictor_rate 'constant' keeps the predictor's learning rate at its peak (SimSiam). An
    objective with a memory (a queue, a centre) takes in the teacher's embeddings after the comparisons of a step. Of a head that
    ends in prototypes the objective reads the scores, while `project` and `energy` stop at the embedding before them. A view of
    which only some patches are visible (`View.keep`: MSN) is the student's alone, as small crops are.

    `weights`: a file to start the encoder from, under its published names. `labels`: the entry of `batch.facts` that objective
    'supcon' reads; for every other objective it must stay empty, and nothing in `batch.facts` is read.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        projector: HeadSpec = _PROJECTOR,
        objective: ObjectiveSpec = _OBJECTIVE,
        teacher: Annotated[Spec, Role("teacher")] | None = None,
        predictor: HeadSpec | None = None,
        predictor_rate: Literal["scheduled", "constant"] = "scheduled",
        weights: str = "",
        labels: str = "",
    ) -> None:
        super().__init__()
        self.encoder = encoder.build(facts)
        self.projector = projector.build(self.encoder.dim)
        self.objective = objective.build()
        if weights:
            load_weights(self.encoder, weights)
        self.predictor = predictor.build(self.projector.dim) if predictor else None
        if self.predictor is not None and self.predictor.dim != self.projector.dim:
            raise RecipeError(
                f"predictor: it must end in the {self.projector.dim} features of the projector that it predicts, found "
                f"{self.predictor.dim}: change its last width"
            )
        self.teacher = teacher.build(self.encoder, self.projector) if teacher else None
        self.distils, self.scores = isinstance(self.objective, Distils), isinstance(self.projector, PrototypeHead)
        self.predictor_rate, self.labels = predictor_rate, labels
        self.wants: frozenset[str] = getattr(self.objective, "wants", frozenset())

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Compositions that mean nothing are refused."""
        kind, head = settings["objective"].kind, settings["projector"].kind
        objective, ends_in_scores = find("objective", kind), hasattr(find("head", head), "embedding")
        reads_scores = getattr(objective, "reads", "embeddings") == "scores"
        if "labels" in getattr(objective, "wants", ()):
            if not settings["labels"]:
                yield (
                    f"objective {kind!r} contrasts classes and reads no labels by itself: name the entry of the batch's facts that "
                    "holds them, labels=label, or use objective 'simclr', which needs none"
                )
            if settings["teacher"] is not None:
                yield f"objective {kind!r} contrasts the views of one batch and takes no teacher: leave out the teacher"
        elif settings["labels"]:
            yield f"objective {kind!r} reads no labels, found labels={settings['labels']!r}: leave it empty, or use objective 'supcon'"
        if hasattr(objective, "remember") and settings["teacher"] is None:
            yield (
                f"objective {kind!r} compares a student with a teacher, and there is none: set teacher=ema for a copy that "
                "follows slowly, or teacher=twin for the same weights with the gradient stopped"
            )
        if settings["predictor"] is not None and settings["teacher"] is None:
            yield "a predictor predicts a teacher's embedding, and there is none: set teacher=ema or twin, or lengthen the projector"
        if settings["predictor"] is not None and reads_scores:
            yield f"objective {kind!r} compares scores of prototypes, which no predictor maps: leave out the predictor"
        if reads_scores and not ends_in_scores:
            yield (
                f"objective {kind!r} reads scores of prototypes, and projector {head!r} ends in none: set projector=dino or "
                "projector=prototypes"
            )
        if ends_in_scores and not reads_scores:
            yield (
                f"projector {head!r} ends in scores of prototypes, and objective {kind!r} compares embeddings: take projector=mlp, or "
                "an objective that reads scores, for example dino or swav"
            )

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Without a predictor there is no rate of it."""
        return {} if settings["predictor"] else {"predictor_rate": "there is no predictor"}

    def embed(self, x: Float[Tensor, "n c h w"]) -> Features:
        """The representation: what is kept, probed and exported."""
        return self.encoder(x)  # type: ignore[no-any-return]

    def project(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The embedding that the loss sees; before the prototypes, if the projector ends in them."""
        h = self.embed(x).pooled
        return self.projector.embedding(h) if self.scores else self.projector(h)  # type: ignore[no-any-return]

    def _student(self, view: View, x: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """The output that is compared, and the embedding before the prototypes, the same where there are none."""
        h = self.encoder(x).pooled if view.keep is None else self.encoder(x, view.keep).pooled
        if not self.scores:
            z = self.projector(h)
            return z, z
        e = self.projector.embedding(h)
        return self.projector.scores(e, progress), e

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The terms of the objective, each the mean over pairs of views. `progress` drives what an objective or a head schedules."""
        demand_samples("joint-embedding", batch, ranks)
        pairs = pairs_of(batch.views)
        x = {name: stacked(name, view) for name, view in batch.views.items()}
        z = {name: self._student(batch.views[name], image, progress) for name, image in x.items()}
        if self.teacher is not None:
            return self._taught(batch, x, z, pairs, progress, ranks)
        if hasattr(self.objective, "of_views"):
            sides = [[z[name][0] for name in z if name.startswith("local") == small] for small in (False, True)]
            return self.objective.of_views(*sides, ranks)  # type: ignore[no-any-return, operator]
        given = {"labels": self._labels(batch)} if "labels" in self.wants else {}
        return mean_terms([self.objective(z[u][0], z[v][0], ranks, **given) for u, v in pairs])

    def _labels(self, batch: Batch) -> Tensor:
        if self.labels not in batch.facts:
            raise DataError(
                f"objective {type(self.objective).__name__.lower()!r} reads labels={self.labels!r}, and these samples come with "
                f"{', '.join(sorted(batch.facts)) or 'no facts at all'}: train on data with labels, or name another entry"
            )
        return batch.facts[self.labels]

    def _taught(
        self,
        batch: Batch,
        x: Mapping[str, Tensor],
        z: Mapping[str, tuple[Tensor, Tensor]],
        pairs: Iterable[tuple[str, str]],
        progress: float,
        ranks: Ranks,
    ) -> dict[str, Tensor]:
        """The terms over all pairs of a student's view and another, global and whole view of the teacher."""
        whole = [name for name, view in batch.views.items() if not name.startswith("local") and view.keep is None]
        ids = {"ids": batch.ids} if "ids" in self.wants else {}
        given: dict[str, dict[str, Any]] = {name: {**ids} for name in whole}
        kept: dict[str, Any] = {**ids}
        if "embedding" in self.wants:  # the scores of earlier embeddings are asked for as well
            head = self.teacher.head(self.projector)  # type: ignore[union-attr, operator]
            e = {name: self.teacher.embedding(x[name], z[name][1]) for name in whole}  # type: ignore[union-attr, operator]
            with torch.no_grad():
                t = {name: head.scores(e[name]) for name in whole}
            given = {name: {**one, "scores": head.scores} for name, one in given.items()}
            kept["embeddings"] = list(e.values())
        else:
            t = {name: self.teacher(x[name], z[name][0]) for name in whole}  # type: ignore[misc]
        if "place" in self.wants:
            given = {name: {**given[name], "place": i} for i, name in enumerate(whole)}
        q = {name: one if self.predictor is None else self.predictor(one) for name, (one, _) in z.items()}
        directed = [(u, v) for pair in pairs for u, v in (pair, pair[::-1]) if v in t]
        if not directed:
            raise DataError(
                "system 'joint-embedding' has no pair of a student's view and another whole, global one for the teacher: found "
                f"{', '.join(batch.views)}; leave one of the large views unmasked"
            )
        if not self.distils:
            return mean_terms([self.objective(q[u], t[v], ranks) for u, v in directed])
        targets = {name: self.objective.target(one, ranks, progress, **given[name]) for name, one in t.items()}
        if self.objective.joined:
            u, v = (
                torch.cat([side[i] for i in names])
                for side, names in zip((q, targets), zip(*directed, strict=True), strict=True)
            )
            found = [self.objective.compare(u, v, ranks)]
        else:
            found = [self.objective.compare(q[u], targets[v], ranks) for u, v in directed]
        if self.training:
            self.objective.remember(list(t.values()), ranks, **kept)
        return mean_terms(found)

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
        constant = self.predictor_rate == "constant"
        found: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, p in self.named_parameters():
            if p.requires_grad:
                found.setdefault((_decays(name, p), not (constant and name.startswith("predictor."))), []).append(p)
        return [
            {"params": found[key], "decay": key[0], "scale": 1.0, "scheduled": key[1]}
            for key in sorted(found, reverse=True)
        ]

    def after_step(self, progress: float) -> None:
        """Prototypes back to their form, then the teacher after the student."""
        if self.scores:
            self.projector.after_step()
        if self.teacher is not None:
            self.teacher.after_step(self.encoder, self.projector, progress)


def demand_samples(kind: str, batch: Batch, ranks: Ranks) -> None:
    """A batch of one sample is refused before the batch norms of a projector meet it."""
    n = len(batch.ids) * ranks.size
    if n < 2:
        raise RecipeError(
            f"system {kind!r} sets samples apart from one another and was given a batch of {n}: choose batch=2 or more, and with "
            "accumulate at least twice as much"
        )


def stacked(name: str, view: View) -> Tensor:
    """The images of a view in one tensor [n c h w]; a list of several sizes is refused."""
    if isinstance(view.data, Tensor):
        return view.data
    sizes = sorted({tuple(image.shape) for image in view.data})
    raise DataError(
        f"system 'joint-embedding' needs the images of view {name!r} in one tensor, found a list of {len(sizes)} sizes: "
        "crop or resize them to one size in the views"
    )


def mean_terms(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each term over pairs of views."""
    return {name: sum(terms[name] for terms in found) / len(found) for name in found[0]}  # type: ignore[misc]


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
