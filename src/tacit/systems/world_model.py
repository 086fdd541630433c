"""A world model in representation space: encode, roll forward under actions, keep the states spread.

Legend: n clips, t frames, s the shape of a state (d, or k places of d), h steps of a plan, a action width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import DynamicsSpec, EncoderSpec, HeadSpec, InverseSpec, RegulariserSpec, Spec
from tacit.core.values import Batch, Facts, Features
from tacit.models.impala import image_size
from tacit.models.weights import load_weights
from tacit.ops.precision import full
from tacit.systems.after_past import imagine_after

__all__ = ["WorldModel"]

Weight = Annotated[float, Ge(0)]
_ENCODER, _PREDICTOR = Spec("encoder", "impala"), Spec("dynamics", "gru")
_REGULARISER, _INVERSE = Spec("regulariser", "vc"), Spec("inverse", "mlp")


@part("system", "world-model")
class WorldModel(nn.Module):
    """Train an encoder and a predictor so that the state imagined under the recorded actions meets the state that was seen.

        z_t = encoder(o_t);  y_0 = z_0,  y_{i+1} = predictor(y_i, a_i)
        loss = mean over `steps` of (y_i - z_i)^2 + regulariser(z) + similarity * mean (z_{t+1} - z_t)^2
             + inverse_weight * mean (inverse(z_t, z_{t+1}) - a_t)^2

    There is no stopped gradient and no teacher: the encoder learns through both sides, and the regulariser keeps it from collapse.
    Action i leads from frame i to frame i + 1; the last one of a clip leads out of it and is not used.

    starts 'first' rolls out from the first frame; 'every' from all frames at once, iteration by iteration, so that after i of them
    frame t holds a prediction i steps old. compat 'official' then counts the known first frames, whose error is 0, as the public code does.
    norm: predictions pass the encoder's own final norm ('tied', as published), one of their own, or none.
    state: the encoder's pooled feature or its tokens. projector: of the state itself ('state', LeWM: a head after the predictor too), or
    only where errors are measured ('loss', video JEPA). target 'detached' stops the gradient into what was seen. frozen: the encoder
    does not learn (DINO-WM). weights: a file to start the encoder from, under its published names.

    `embed` of a clip is that of its first frame. Source: EB-JEPA (arXiv 2602.03604) and PLDM (2502.14819); defaults: its Two Rooms.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        predictor: DynamicsSpec = _PREDICTOR,
        projector: HeadSpec | None = None,
        projects: Literal["state", "loss"] = "loss",
        regulariser: RegulariserSpec | None = _REGULARISER,
        inverse: InverseSpec | None = _INVERSE,
        steps: Annotated[int, Gt(0)] = 8,
        starts: Literal["first", "every"] = "first",
        similarity: Weight = 12.0,
        inverse_weight: Weight = 1.0,
        state: Literal["pooled", "tokens"] = "pooled",
        norm: Literal["tied", "own", "none"] = "tied",
        target: Literal["live", "detached"] = "live",
        frozen: bool = False,
        weights: str = "",
        compat: Literal["correct", "official"] = "correct",
    ) -> None:
        super().__init__()
        self.encoder = encoder.build(replace(facts, shape=facts.shape and facts.shape[-2:]))
        if weights:
            load_weights(self.encoder, weights)
        dim = self.encoder.dim
        head: Any = projector.build(dim) if projector else None
        self.projector, self.projects = head, projects if projector else "nothing"
        if self.projects == "state":
            dim = head.dim
        self.places = self._places(facts, state)
        self.predictor = predictor.build(dim, facts.action_dim, self.places)
        self.after = projector.build(dim) if projector and self.projects == "state" else None
        if norm == "tied" and not isinstance(getattr(self.encoder, "norm", None), nn.Module):
            raise RecipeError(
                f"norm: encoder {encoder.kind!r} has no final norm to share with the predictor: set norm=own or none"
            )
        self.norm = nn.LayerNorm(dim) if norm == "own" else None
        self.tied = norm == "tied"
        self.regulariser = regulariser.build() if regulariser else None
        self.inverse = inverse.build(dim, facts.action_dim) if inverse else None
        self.similarity, self.inverse_weight = similarity, inverse_weight
        self.steps, self.starts, self.state = steps, starts, state
        self.detached, self.frozen, self.compat = target == "detached", frozen, compat
        self.action_dim, self.dim = facts.action_dim, dim
        if frozen:
            self.encoder.requires_grad_(False)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Compositions that mean nothing are refused."""
        state = settings["projector"] is not None and settings["projects"] == "state"
        if state and settings["norm"] == "tied":
            yield "norm='tied' shares the encoder's norm, and the projector stands behind it: set norm=own or none"
        if state and settings["state"] == "tokens":
            yield "a projector of the state takes pooled states: set state=pooled or projects=loss"
        if settings["inverse"] is not None and settings["state"] == "tokens":
            yield "inverse dynamics compare pooled states: set state=pooled or inverse=null"
        if settings["regulariser"] is None and not settings["frozen"]:
            yield "without a regulariser every state collapses to one point: choose vc or sigreg, or set frozen=true"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Settings that others switch off."""
        found = {}
        if settings["projector"] is None:
            found["projects"] = "there is no projector"
        if settings["inverse"] is None:
            found["inverse_weight"] = "no inverse dynamics are learned"
        if settings["starts"] == "first":
            found["compat"] = "the public code differs only where starts=every"
        return found

    @torch.no_grad()
    def _places(self, facts: Facts, state: str) -> int:
        """Of a state: 1, or the number of the encoder's tokens."""
        if state == "pooled":
            return 1
        height, width = image_size("world-model", facts)
        tokens = self.encoder.eval()(torch.zeros(1, facts.channels, height, width)).tokens
        self.encoder.train()
        if tokens is None:
            raise RecipeError("state='tokens': this encoder has no tokens; set state=pooled")
        return int(tokens.shape[1])

    # what is seen, and what is imagined

    def encode(self, x: Tensor) -> Tensor:
        """States [n *s] of pictures [n c h w], or [n t *s] of clips [n c t h w]: frames are encoded one by one, as a batch."""
        clips = x.ndim == 5
        frames = x.transpose(1, 2).flatten(0, 1) if clips else x
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            seen = self.encoder(frames)
        z = seen.pooled if self.state == "pooled" else seen.tokens
        if self.projects == "state":
            z = self.projector(z)
        return z.unflatten(0, (len(x), -1)) if clips else z

    def settle(self, y: Tensor) -> Tensor:
        """What a prediction passes on its way to be a state: the head after the predictor and the norm."""
        if self.after is not None:
            y = self.after(y.flatten(0, -2)).view_as(y)
        if self.tied:
            return self.encoder.norm(y)  # type: ignore[no-any-return]
        return y if self.norm is None else self.norm(y)

    def follow(self, states: Float[Tensor, "n t *s"], actions: Float[Tensor, "n t a"]) -> Float[Tensor, "n u *s"]:
        """What follows the states from number `predictor.lead` on, each under the action beside it."""
        return self.settle(self.predictor(states, actions))

    def unroll(
        self, z: Float[Tensor, "n t *s"], actions: Float[Tensor, "n u a"], steps: int
    ) -> Float[Tensor, "n v *s"]:
        """Roll out from the first frames: y_{i+1} = predictor(.., y_i, a_i). The known frames, then `steps` predictions."""
        known = self.predictor.lead + 1
        if actions.shape[1] < known - 1 + steps:
            raise DataError(
                f"a roll-out of {steps} steps needs {known - 1 + steps} actions, these clips have {actions.shape[1]}: "
                "lengthen the clips or lower system.steps"
            )
        y = z[:, :known]
        for _ in range(steps):
            t, w = y.shape[1], min(y.shape[1], self.predictor.context)
            y = torch.cat([y, self.follow(y[:, -w:], actions[:, t - w : t])[:, -1:]], 1)
        return y

    def unroll_every(self, z: Float[Tensor, "n t *s"], actions: Float[Tensor, "n t a"], steps: int) -> Iterable[Tensor]:
        """Roll out from all frames at once. After iteration i [n t *s], the predictions of frame t are min(i, t - lead) steps old."""
        y, known = z, self.predictor.lead + 1
        for _ in range(steps):
            y = torch.cat([z[:, :known], self.follow(y[:, :-1], actions[:, : y.shape[1] - 1])], 1)
            yield y

    def imagine(self, z0: Float[Tensor, "s ..."], actions: Float[Tensor, "s h a"]) -> Float[Tensor, "s h ..."]:
        """The states after each of the actions, from one state: what planners ask for."""
        if actions.shape[-1] != self.action_dim:
            raise DataError(
                f"this world model was trained on actions of {self.action_dim} numbers, these have {actions.shape[-1]}"
            )
        if hasattr(self.predictor, "extend"):
            return imagine_after(self, z0.unsqueeze(1), actions[:, :0], actions)
        if not hasattr(self.predictor, "cell"):
            return self.unroll(z0.unsqueeze(1), actions, actions.shape[1])[:, 1:]
        move, given, states = self.predictor.step, actions.transpose(0, 1), []
        if given.device.type != "cpu":  # all inputs in one product; on a processor a step finds its own in the cache
            move, given = self.predictor.cell, self.predictor.inputs(given)
        for one in given:
            z0 = self.settle(move(z0, one))
            states.append(z0)
        return torch.stack(states, 1)

    # what is learned

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted terms and their sum; the prediction counts once. All are means over the clips of all ranks."""
        return self.terms(*self._clips(batch), ranks)

    def terms(
        self, z: Float[Tensor, "n t *s"], actions: Float[Tensor, "n t a"], ranks: Ranks = ALONE
    ) -> dict[str, Tensor]:
        """The same of states and the actions between them."""
        terms = {"prediction": self.prediction_error(z, actions)}
        if self.similarity:
            terms["similarity"] = self.similarity * _squared(z[:, 1:], z[:, :-1])
        if self.inverse is not None:
            found = self.inverse(z[:, :-1], z[:, 1:])
            terms["inverse"] = self.inverse_weight * _squared(found, actions[:, : z.shape[1] - 1])
        terms = {name: ranks.total(term) / ranks.size for name, term in terms.items()}
        if self.regulariser is not None:
            terms |= self.regulariser(self._read(z), ranks)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x = batch.views["image"].data
        if not isinstance(x, Tensor) or x.ndim != 5:
            raise DataError("system 'world-model' learns from clips [n c t h w] of one size: take a source of clips")
        needed = self.predictor.lead + 1 + (self.steps if self.starts == "first" else 1)
        if x.shape[2] < needed:
            raise DataError(
                f"system 'world-model' needs {needed} frames a clip for steps={self.steps}, found {x.shape[2]}: "
                "lengthen the clips (data.frames) or lower system.steps"
            )
        action = batch.action
        if action is None:
            if self.action_dim:
                raise DataError(
                    f"system 'world-model' was built for actions of {self.action_dim} numbers, this batch has none"
                )
            action = x.new_zeros(len(x), x.shape[2], 0)
        elif action.shape[-1] != self.action_dim:
            raise DataError(
                f"system 'world-model' was built for actions of {self.action_dim} numbers, this batch has {action.shape[-1]}"
            )
        return self.encode(x), action

    def prediction_error(self, z: Tensor, actions: Tensor) -> Tensor:
        """Mean squared error of the roll-out, each step's mean over clips and entries, averaged over the steps."""
        known, seen = self.predictor.lead + 1, z.detach() if self.detached else z
        if self.starts == "first":
            y = self.unroll(z, actions, self.steps)
            return _squared(self._read(y[:, known:]), self._read(seen[:, known : known + self.steps]))
        counted = 0 if self.compat == "official" else known
        errors = [
            _squared(self._read(y[:, counted:]), self._read(seen[:, counted:]))
            for y in self.unroll_every(z, actions, self.steps)
        ]
        return torch.stack(errors).mean()

    def _read(self, z: Tensor) -> Tensor:
        """States as the errors and the regulariser see them."""
        return self.projector(z.flatten(0, -2)).unflatten(0, z.shape[:-1]) if self.projects == "loss" else z

    def forward(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The same as `loss`, so that DDP and FSDP can wrap the system."""
        return self.loss(batch, progress, ranks)

    # what others ask for

    def embed(self, x: Tensor) -> Features:
        """The representation: of a clip that of its first frame."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.encoder(x[:, :, 0] if x.ndim == 5 else x)  # type: ignore[no-any-return]

    def project(self, x: Tensor) -> Float[Tensor, "n d"]:
        """The state that the regulariser sees, places averaged; of a clip that of its first frame."""
        z = self._read(self.encode(x[:, :, 0] if x.ndim == 5 else x).unsqueeze(1))[:, 0]
        return z if z.ndim == 2 else z.mean(1)

    def energy(self, x: Tensor, action: Tensor | None, y: Tensor) -> Float[Tensor, " n"]:
        """How badly picture y follows from x under an action [n a] or several [n h a]: mean squared error of the imagined state.

        x: pictures [n c h w], or clips that hold as many frames as the predictor needs; the first action follows the last of them.
        """
        seen = self.encode(x)
        seen = seen if x.ndim == 5 else seen.unsqueeze(1)
        if action is None:
            action = x.new_zeros(len(x), 1, 0)
        given = action if action.ndim == 3 else action.unsqueeze(1)
        if given.shape[-1] != self.action_dim:
            raise DataError(
                f"this world model was trained on actions of {self.action_dim} numbers, these have {given.shape[-1]}"
            )
        known = self.predictor.lead + 1
        before = given.new_zeros(len(x), known - 1, given.shape[-1])
        last = self.unroll(seen[:, -known:], torch.cat([before, given], 1), given.shape[1])[:, -1]
        return (full(last) - full(self.encode(y))).square().flatten(1).mean(1)

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """Weights of maps with decay; biases, norms and learned tokens without."""
        found: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for p in self.parameters():
            if p.requires_grad:
                found[p.ndim > 1].append(p)
        return [{"params": params, "decay": decay, "scale": 1.0} for decay, params in found.items() if params]

    def train(self, mode: bool = True) -> WorldModel:
        """A frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def after_step(self, progress: float) -> None:
        """Nothing moves but the optimiser."""


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (full(a) - full(b)).square().mean()
