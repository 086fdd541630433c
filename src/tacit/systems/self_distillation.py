"""Self-distillation of images and of their hidden patches: iBOT, and with KoLeo and Sinkhorn-Knopp DINOv2."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import find, part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import EncoderSpec, HeadSpec, ObjectiveSpec, Role, Spec
from tacit.core.values import Batch, Facts, Features
from tacit.ops.precision import full, without_autocast
from tacit.ops.prototypes import koleo, prototype_cross_entropy
from tacit.systems.joint_embedding import JointEmbedding, demand_samples, pairs_of, stacked

__all__ = ["SelfDistillation"]

_ENCODER, _HEAD = Spec("encoder", "vit"), Spec("head", "dino", prototypes=8192, gain="trained")
_DINO = Spec("objective", "dino", target_temperature=0.07, warmup=0.0375)
_EMA = Spec("teacher", "ema")
Weight = Annotated[float, Ge(0)]


@part("system", "self-distillation")
class SelfDistillation(JointEmbedding):
    """The student sees views with patches hidden, and must say of image and hidden patches what its teacher says of the whole view.

        loss = image_weight * mean over pairs (student view u, whole teacher view v != u) of objective(z_u, t_v)
             + patch_weight * mean over large views and samples of mean over hidden patches of -sum_k P_k log p_k
             + spread * sum over large views of KoLeo(pooled feature of the student)

    z, t are scores of `projector` on the pooled feature, p, P those of `patch_projector` on patch tokens after the final norm, or of
    the same head where that is left out (iBOT shares, DINOv2 from 22k images on does not); P by the target rule of `patch_objective`: its
    temperature, its centre (over hidden patches, as in DINOv2; iBOT's is over all) or Sinkhorn-Knopp over the hidden patches of all ranks.
    An image without hidden patches counts as 0, as in both codes. KoLeo looks at one rank's views, one view at a time.
    Views come from `masked`: `View.how['mask']`. The token in the place of hidden patches is the system's.

    layer_decay: the rate of block i of l is multiplied by layer_decay^(l - i), that of what comes before the blocks by
    layer_decay^(l + 1). patch_rate: the patches' linear map is slower by this factor besides (DINOv2: 0.9 and 0.2).

    Source: iBOT (arXiv 2111.07832), weights 1, 1, 0; DINOv2 (arXiv 2304.07193), weights 1, 1, 0.1.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        projector: HeadSpec = _HEAD,
        patch_projector: HeadSpec | None = None,
        objective: ObjectiveSpec = _DINO,
        patch_objective: ObjectiveSpec = _DINO,
        teacher: Annotated[Spec, Role("teacher")] = _EMA,
        image_weight: Weight = 1.0,
        patch_weight: Weight = 1.0,
        spread: Weight = 0.0,
        layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0,
        patch_rate: Annotated[float, Gt(0), Le(1)] = 1.0,
        weights: str = "",
    ) -> None:
        super().__init__(facts, encoder=encoder, projector=projector, objective=objective, weights=weights)
        if "mask" not in inspect.signature(self.encoder.forward).parameters:
            raise RecipeError(
                f"system 'self-distillation' hides patches, and encoder {encoder.kind!r} has none: set encoder=vit, or use system "
                "'joint-embedding' with objective 'dino'"
            )
        self.patch_projector = patch_projector.build(self.encoder.dim) if patch_projector else None
        self.patch_objective = patch_objective.build()
        self.mask_token = nn.Parameter(torch.zeros(self.encoder.dim))
        self.teacher = teacher.build(self.encoder, self._heads())
        self.image_weight, self.patch_weight, self.spread = image_weight, patch_weight, spread
        self.layer_decay, self.patch_rate = layer_decay, patch_rate

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Compositions that mean nothing are refused."""
        yield from JointEmbedding.check_settings({**settings, "predictor": None, "labels": ""})
        if settings["teacher"].kind != "ema":
            yield (
                f"system 'self-distillation' needs a teacher that sees whole views beside the student's, found "
                f"teacher={settings['teacher'].kind}: set teacher=ema"
            )
        for name in ("objective", "patch_objective"):
            kind = settings[name].kind
            if kind != "dino":
                yield f"{name}: system 'self-distillation' compares by the rule of objective 'dino', found {kind!r}: set {name}=dino"
        head = settings["patch_projector"]
        if head is not None and not hasattr(find("head", head.kind), "embedding"):
            yield f"patch_projector: patches are compared by scores of prototypes, and head {head.kind!r} ends in none: take dino"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG004
        """Nothing is idle: every weight may be set."""
        return {}

    def _heads(self) -> nn.ModuleDict:
        """Both heads as the teacher copies and follows them; one, where it is shared."""
        own = {"image": self.projector}
        return nn.ModuleDict(own if self.patch_projector is None else {**own, "patch": self.patch_projector})

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """The groups of a joint embedding, parted by the rate of the layer."""
        names = {id(p): name for name, p in self.named_parameters()}
        for group in super().groups():
            parted: dict[float, list[nn.Parameter]] = {}
            for p in group["params"]:
                parted.setdefault(self._rate(names[id(p)]), []).append(p)
            for rate in sorted(parted, reverse=True):
                yield {**group, "params": parted[rate], "scale": rate}

    def _rate(self, name: str) -> float:
        """What the learning rate of a parameter is multiplied by."""
        depth = len(self.encoder.blocks)
        room, _, rest = name.partition(".")
        if room == "mask_token" or (room == "encoder" and rest.partition(".")[0] not in ("blocks", "norm")):
            own = self.patch_rate if rest.startswith("patch_embed") else 1.0
            return own * self.layer_decay ** (depth + 1)
        if room == "encoder" and rest.startswith("blocks"):
            return float(self.layer_decay ** (depth - int(rest.split(".")[1])))
        return 1.0

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The three weighted terms and their sum under 'loss'."""
        demand_samples("self-distillation", batch, ranks)
        pairs = pairs_of(batch.views)
        x = {name: stacked(name, view) for name, view in batch.views.items()}
        whole = [name for name in x if not name.startswith("local")]
        masks = {name: self._mask(batch, name) for name in whole}
        seen: dict[str, Features] = {
            name: self.encoder(one, mask=masks[name], token=self.mask_token) if name in masks else self.encoder(one)
            for name, one in x.items()
        }
        heads = self.teacher.projector  # type: ignore[union-attr]
        with torch.no_grad():
            known = {name: self.teacher.encoder(x[name]) for name in whole}  # type: ignore[union-attr, operator]
            t = {name: heads["image"](one.pooled) for name, one in known.items()}  # type: ignore[index, operator]
        z = {name: self.projector(one.pooled, progress) for name, one in seen.items()}
        targets = {name: self.objective.target(one, ranks, progress) for name, one in t.items()}
        directed = [(u, v) for pair in pairs for u, v in (pair, pair[::-1]) if v in t]
        found = [self.objective.compare(z[u], targets[v], ranks)["loss"] for u, v in directed]
        terms = {"image": self.image_weight * torch.stack(found).mean()}
        at = torch.cat([mask.flatten() for mask in masks.values()]).nonzero()[:, 0]
        hidden = torch.cat([seen[name].tokens.flatten(0, 1) for name in whole])[at]  # type: ignore[union-attr]
        aims = torch.cat([known[name].tokens.flatten(0, 1) for name in whole])[at]  # type: ignore[union-attr]
        share = torch.cat([mask / mask.sum(dim=1, keepdim=True).clamp(min=1) for mask in masks.values()])
        terms["patch"] = self._patches(hidden, aims, share.flatten()[at] / len(share), progress, ranks)
        if self.spread:
            with without_autocast(seen[whole[0]].pooled):
                apart = torch.stack([koleo(full(seen[name].pooled)) for name in whole]).sum()
            terms["spread"] = self.spread * ranks.total(apart) / ranks.size
        if self.training:
            self.objective.remember(list(t.values()), ranks)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _patches(self, hidden: Tensor, aims: Tensor, weights: Tensor, progress: float, ranks: Ranks) -> Tensor:
        """The term of hidden patches [m d] under weights [m] that sum to at most one."""
        head = self.projector if self.patch_projector is None else self.patch_projector
        heads = self.teacher.projector  # type: ignore[union-attr]
        with torch.no_grad():
            t = full((heads["image"] if self.patch_projector is None else heads["patch"])(aims))  # type: ignore[index, operator]
        s, rule = full(head(hidden, progress)), self.patch_objective
        aim = rule.target(t, ranks, progress)
        with without_autocast(s):
            local = prototype_cross_entropy(s, aim, rule.temperature, full(weights))
        if self.training:
            rule.remember([t], ranks)
        return self.patch_weight * ranks.total(local) / ranks.size

    def _mask(self, batch: Batch, name: str) -> Bool[Tensor, "n k"]:
        view = batch.views[name]
        if "mask" not in view.how:
            raise DataError(
                f"system 'self-distillation' needs to know which patches of view {name!r} are hidden, and the views do not say: use "
                "views=masked with masks=blocks"
            )
        mask = view.how["mask"]
        grid = self.encoder.grid_of(*view.data.shape[2:])  # type: ignore[union-attr]
        if mask.shape[1] != grid[0] * grid[1]:
            raise DataError(
                f"the views hide some of {mask.shape[1]} patches, and the encoder cuts {grid[0] * grid[1]}: set views.patch to the "
                "encoder's patch"
            )
        return mask.to(view.data.device)  # type: ignore[union-attr, no-any-return]

    def project(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The embedding before the prototypes."""
        return self.projector.embedding(self.embed(x).pooled)  # type: ignore[no-any-return]

    def after_step(self, progress: float) -> None:
        """Prototypes back to their form, then the teacher after the student."""
        for head in self._heads().values():
            head.after_step()  # type: ignore[operator]
        self.teacher.after_step(self.encoder, self._heads(), progress)  # type: ignore[union-attr]
