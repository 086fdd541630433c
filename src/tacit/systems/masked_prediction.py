"""Masked prediction: hide a part of the input, predict what a target says of it from the rest.

Legend: n samples, N tokens, k of them seen, b blocks of m predicted, d the encoder's features, o numbers a target token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import EncoderSpec, Role, Spec
from tacit.core.values import Batch, Facts, Features
from tacit.models.weights import load_weights

__all__ = ["MaskedPrediction"]

_ENCODER = Spec("encoder", "vit", pooling="mean", class_token=False)
_PREDICTOR, _TARGET = Spec("masked-predictor", "transformer"), Spec("target", "teacher")
_TOKENS_OF = ("grid_of", "patch", "blocks")


@part("system", "masked-prediction")
class MaskedPrediction(nn.Module):
    """Predict hidden tokens from visible ones: MAE, SimMIM, data2vec, I-JEPA and V-JEPA by their target, masks and predictor.

        z = encoder(x, only the tokens in C)        h = target(x), all tokens, no gradient
        loss = mean over masks i of mean over tokens in T_i of mean over channels |predictor(z, C_i, T_i) - h|

    C_i and T_i come with the batch, from the views 'context-target'. `hidden`: what stands for hidden tokens. 'dropped': the encoder
    never sees them, the predictor 'transformer' puts mask tokens in their places (MAE, data2vec 2, I-JEPA, V-JEPA). 'replaced': the
    encoder itself sees a mask token there and the predictor 'linear' reads its tokens (SimMIM, data2vec 1).
    `distance`: 'l1', 'l2' (squared), or 'smooth-l1' that turns at `beta`. Masks count equally, whatever the number of their tokens,
    and so do samples. `mask_tokens`: 'one' uses mask token 0 for all masks (V-JEPA 2), 'each' number i for mask i (V-JEPA).
    `spread` weighs V-JEPA's regulariser (0 in all releases): mean relu(1 - sqrt(var over tokens of the prediction + 1e-4)).
    `weights`: a file to start the encoder from. Labels in `batch.facts` are never read.

    The representation `embed` is the encoder's; with targets of a teacher, the teacher's copy of it is `target.encoder`.
    Sources: arXiv 2111.06377, 2111.09886, 2202.03555, 2212.07525, 2301.08243, 2404.08471, 2506.09985.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        predictor: Annotated[Spec, Role("masked-predictor")] = _PREDICTOR,
        target: Annotated[Spec, Role("target")] = _TARGET,
        hidden: Literal["dropped", "replaced"] = "dropped",
        distance: Literal["l1", "l2", "smooth-l1"] = "smooth-l1",
        beta: Annotated[float, Gt(0)] = 1.0,
        mask_tokens: Literal["one", "each"] = "one",
        spread: Annotated[float, Ge(0)] = 0.0,
        weights: str = "",
    ) -> None:
        super().__init__()
        self.encoder = encoder.build(facts)
        if not all(hasattr(self.encoder, name) for name in _TOKENS_OF):
            raise RecipeError(
                f"system 'masked-prediction' hides tokens from its encoder, and {encoder.kind!r} has none to hide: take encoder=vit"
            )
        if weights:
            load_weights(self.encoder, weights)
        grid = None if facts.shape is None else self.encoder.grid_of(*facts.shape)
        self.target = target.build(facts, self.encoder)
        self.predictor = predictor.build(self.encoder.dim, self.target.dim, grid)
        self.hidden, self.distance, self.beta, self.spread = hidden, distance, beta, spread
        self.token_each = mask_tokens == "each"
        self.mask_token = nn.Parameter(torch.zeros(self.encoder.dim)) if hidden == "replaced" else None
        if self.mask_token is not None:
            nn.init.trunc_normal_(self.mask_token, std=0.02)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Compositions that mean nothing are refused."""
        hidden, predictor = settings["hidden"], settings["predictor"].kind
        if (predictor == "linear") != (hidden == "replaced"):
            yield (
                f"predictor {predictor!r} with hidden={hidden!r}: a linear map has only the encoder's own tokens to read, so the two go "
                "together: set predictor=linear hidden=replaced, or predictor=transformer hidden=dropped"
            )
        if settings["mask_tokens"] == "each" and settings["predictor"].get("mask_tokens", 1) == 1:
            yield "mask_tokens='each' gives every mask a token of its own, and the predictor has one: set predictor.mask_tokens"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """What nothing reads under other settings."""
        found = {}
        if settings["distance"] != "smooth-l1":
            found["beta"] = "only distance='smooth-l1' turns somewhere"
        if settings["hidden"] == "replaced":
            found["mask_tokens"] = "the encoder has one mask token"
        if settings["mask_tokens"] == "one" and settings["predictor"].get("mask_tokens", 1) == 1:
            found["mask_tokens"] = "the predictor has one"
        return found

    def embed(self, x: Float[Tensor, "n c *s"]) -> Features:
        """The representation: what is kept, probed and exported."""
        return self.encoder(x)  # type: ignore[no-any-return]

    def project(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n d"]:
        """The pooled representation: there is no projector, and label-free criteria judge the encoder itself."""
        return self.embed(x).pooled

    def predict(
        self,
        x: Float[Tensor, "n c *s"],
        context: Int[Tensor, "n k"],
        target: Int[Tensor, "n b m"],
        *,
        mask_index: int = 0,
        padded: bool = False,
        packed: bool = False,
        features: Features | None = None,
    ) -> Float[Tensor, "n b m o"]:
        """What is thought to stand at `target`, from the tokens of x in `context` alone.

        `padded`: ids of -1 are fillings; `packed`: fillings are not computed. `features`: the encoder's of the context, if they are known.
        """
        if self.mask_token is not None:
            total = self._total(x)
            hidden = torch.ones(len(x), total + 1, dtype=torch.bool, device=x.device)
            hidden = hidden.scatter(1, context.where(context >= 0, total), False)[:, :total]
            out = self.predictor(self.encoder(x, mask=hidden, token=self.mask_token).tokens, target.flatten(1))
            return out.unflatten(1, target.shape[1:])  # type: ignore[no-any-return]
        found: Any = features or self.encoder(x, context, padded=padded, packed=packed)
        tokens, at, blocks = found.tokens, context, target.shape[1]
        extra = found.pooled[:, None] if self.encoder.pooling == "class" else None
        if blocks > 1:
            tokens, at = (value.repeat_interleave(blocks, dim=0) for value in (tokens, at))
            extra = None if extra is None else extra.repeat_interleave(blocks, dim=0)
        out = self.predictor(
            tokens, at, target.flatten(0, 1), grid=self.encoder.grid_of(*_shape(x, self.encoder)), mask_index=mask_index,
            extra=extra, padded=padded, packed=packed,
        )  # fmt: skip
        return out.unflatten(0, target.shape[:2])  # type: ignore[no-any-return]

    def _total(self, x: Tensor) -> int:
        return math.prod(self.encoder.grid_of(*_shape(x, self.encoder)))

    def _error(self, predicted: Tensor, wanted: Tensor) -> Tensor:
        """[n b m]: the distance of each token, the mean over its channels."""
        if self.distance == "l1":
            return (predicted - wanted).abs().mean(dim=-1)
        if self.distance == "l2":
            return (predicted - wanted).square().mean(dim=-1)
        return F.smooth_l1_loss(predicted, wanted, reduction="none", beta=self.beta).mean(dim=-1)

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """'loss', the part of each mask under 'mask.i' if there are several, and the spread of predictions if it is weighed."""
        x, how = _stacked(batch), batch.views["image"].how
        if "hidden.0" not in how:
            raise DataError(
                "system 'masked-prediction' needs masks with the view, 'context.0' and 'target.0' in its parameters: use "
                "views=context-target"
            )
        if how["hidden.0"].shape[1] != self._total(x):
            raise DataError(
                f"the masks are made for {how['hidden.0'].shape[1]} tokens a sample and the encoder makes {self._total(x)}: give the "
                "views and the encoder the same patch and tubelet"
            )
        wanted = self.target(x)
        masks = range(sum(name.startswith("context.") for name in how))
        contexts, targets = ([how[f"{kind}.{i}"] for i in masks] for kind in ("context", "target"))
        padded, packed = "lengths.0" in how, "packed.0" in how
        at_once = len(masks) > 1 and not padded and self.hidden == "dropped"
        seen = self.encoder.together(x, contexts) if at_once else [None] * len(masks)
        errors, spreads = [], []
        for i, context, at, features in zip(masks, contexts, targets, seen, strict=True):
            predicted = self.predict(
                x, context, at, mask_index=i if self.token_each else 0, padded=padded, packed=packed, features=features
            ).float()
            error = self._error(predicted, _at(wanted, at).float())
            if padded:  # each sample counts alike, however many of its tokens are real
                real = (at >= 0).to(error.dtype)
                errors.append(((error * real).sum(dim=(1, 2)) / real.sum(dim=(1, 2))).mean())
            else:
                errors.append(error.mean())
            if self.spread:
                spreads.append(torch.relu(1 - (predicted.flatten(1, 2).var(dim=1) + 1e-4).sqrt()).mean())
        terms = {"loss": torch.stack(errors).mean()}
        if len(errors) > 1:
            terms |= {f"mask.{i}": error.detach() for i, error in enumerate(errors)}
        if spreads:
            terms["spread"] = torch.stack(spreads).mean()
            terms["loss"] = terms["loss"] + self.spread * terms["spread"]
        return terms

    def forward(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The same as `loss`, so that DDP and FSDP can wrap the system."""
        return self.loss(batch, progress, ranks)

    def energy(
        self,
        x: Float[Tensor, "n c *s"],
        action: Int[Tensor, "n m"] | Int[Tensor, " m"] | None,
        y: Float[Tensor, "n c *s"],
    ) -> Float[Tensor, " n"]:
        """How ill the tokens `action` of y fit what is predicted there from the other tokens of x: surprise, if y goes on where x ends.

        The distance is the loss's, the target sees the whole of y. `action`: ids of the hidden tokens, the same number for each sample.
        """
        if action is None:
            raise RecipeError(
                "system 'masked-prediction' predicts hidden tokens: pass their ids as the action, for example those of the last frames"
            )
        hidden = action if action.ndim == 2 else action.expand(len(x), -1)
        free = torch.ones(len(x), self._total(x), dtype=torch.bool, device=x.device).scatter(1, hidden, False)
        context = free.nonzero()[:, 1].reshape(len(x), -1)
        predicted = self.predict(x, context, hidden[:, None])
        return self._error(predicted.float(), _at(self.target(y), hidden[:, None]).float()).mean(dim=(1, 2))

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """All that has two axes or more decays, mask tokens included, as in the published codes; biases, norms and vectors do not."""
        learning = [p for p in self.parameters() if p.requires_grad]
        for decay in (True, False):
            yield {
                "params": [p for p in learning if (p.ndim > 1) == decay],
                "decay": decay,
                "scale": 1.0,
                "scheduled": True,
            }

    def after_step(self, progress: float) -> None:
        """The target after the encoder."""
        self.target.after_step(self.encoder, progress)


def _stacked(batch: Batch) -> Tensor:
    data = batch.views["image"].data
    if not isinstance(data, Tensor):
        raise DataError(
            "system 'masked-prediction' needs samples of one size, found a list: crop or resize them in the views"
        )
    return data


def _shape(x: Tensor, encoder: Any) -> tuple[int, ...]:
    """The shape of samples as the encoder reads them: a still image before an encoder of clips is one tubelet."""
    return (encoder.tubelet, *x.shape[2:]) if encoder.tubelet and x.ndim == 4 else tuple(x.shape[2:])


def _at(tokens: Tensor, at: Tensor) -> Tensor:
    """Tokens [n N o] at ids [n b m] -> [n b m o]."""
    flat = at.clamp(min=0).flatten(1)[:, :, None].expand(-1, -1, tokens.shape[2])
    return tokens.gather(1, flat).unflatten(1, at.shape[1:])
