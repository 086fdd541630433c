"""V-JEPA 2-AC: a frozen encoder of pictures, and a predictor of its tokens under the actions of a robot's hand.

Legend: n clips, p contexts, s action sequences, t frames, k tokens of a picture, d features, h steps of a plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import EncoderSpec, Role, Spec
from tacit.core.values import Batch, Facts
from tacit.models.block_causal import Past
from tacit.models.weights import load_weights
from tacit.ops.pose import STATE, moved

__all__ = ["ActionConditioned", "Seen"]

_ENCODER = Spec("encoder", "vit", size="giant22", tubelet=2, pooling="mean", class_token=False, positions="rope")
_PREDICTOR = Spec("action-predictor", "block-causal")
_REMEMBERED = 1 << 29  # bytes of tokens of frames seen before


@dataclass(frozen=True)
class Seen:
    """What a plan begins from: the last frame and those before it, with the actions between them.

    z [p t k d] tokens, states [p t 7], actions [p t-1 7], cameras [p t 6] or None.
    """

    z: Tensor
    states: Tensor
    actions: Tensor
    cameras: Tensor | None = None

    def __post_init__(self) -> None:
        frames = (self.z.shape[1], self.states.shape[1], self.actions.shape[1] + 1)
        if len(set(frames)) > 1:
            raise DataError(
                f"t frames have t states and t - 1 actions, found {frames[0]}, {frames[1]} and {frames[2] - 1}"
            )

    def rows(self, own: slice) -> Seen:
        """Some of the contexts."""
        return Seen(
            self.z[own], self.states[own], self.actions[own], None if self.cameras is None else self.cameras[own]
        )


@part("system", "action-conditioned")
class ActionConditioned(nn.Module):
    """Predict the tokens of the next picture from those so far, the actions taken and the states of the hand; the encoder stays as it is.

        z_k = layernorm(encoder(x_k)), each frame alone       P = layernorm(predictor)
        loss = mean_k |P(a_1..k, s_1..k, z_1..k) - z_{k+1}|                           teacher forcing
             + mean_{k <= rollout} |y_{k+1} - z_{k+1}|,  y_1 = z_1, y_{k+1} = P(a_1..k, s_1..k, y_1..k)     its own predictions fed back

    The layer norms have no parameters (`normalise` false leaves them out). A clip's `state` [n t 7] is read from its facts, and `camera`
    [n t 6] where the predictor has a token for it; states are those recorded, in roll-outs too. compat 'official': y_2 is y_3 of the first
    term, as in the first public code, so that a frame is predicted from the one after it; the published weights were trained so.
    weights: a file or an export folder to take the encoder from; without it the encoder is random, and frozen.

    `energy` and `goal_energy` are mean |predicted - wanted| over tokens and features. Source: arXiv 2506.09985, section 3.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        predictor: Annotated[Spec, Role("action-predictor")] = _PREDICTOR,
        rollout: Annotated[int, Ge(1)] = 2,
        normalise: bool = True,
        weights: str = "",
        compat: Literal["correct", "official"] = "correct",
    ) -> None:
        super().__init__()
        if facts.action_dim != STATE:
            raise DataError(
                f"system 'action-conditioned' takes actions of {STATE} numbers (place, Euler angles, gripper), these data have "
                f"{facts.action_dim}: for others take system=world-model"
            )
        side = facts.shape and facts.shape[-2:]
        if not side:
            raise DataError("system 'action-conditioned' needs pictures of one known size: resize them in the views")
        tubelet = encoder.resolve().get("tubelet")
        self.encoder = encoder.build(replace(facts, shape=(tubelet, *side) if tubelet else side))
        if not hasattr(self.encoder, "grid_of"):
            raise RecipeError(
                f"system 'action-conditioned' predicts the patches of its encoder, and {encoder.kind!r} has none: take encoder=vit"
            )
        if weights:
            path = Path(weights)
            load_weights(self.encoder, path / "model.safetensors" if path.is_dir() else path)
        self.encoder.requires_grad_(False).eval()
        grid = self.encoder.grid_of(*((tubelet, *side) if tubelet else side))
        self.predictor = predictor.build(self.encoder.dim, grid[-2:])
        self.rollout, self.normalise, self.compat = rollout, normalise, compat
        self._known: dict[bytes, Tensor] = {}

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Compositions that mean nothing are refused."""
        if settings["compat"] == "official" and settings["rollout"] == 1:
            yield "compat='official' differs in what is fed back, and rollout=1 feeds nothing back: set rollout=2 or compat=correct"

    def _settled(self, z: Tensor) -> Tensor:
        return F.layer_norm(z.float(), z.shape[-1:]) if self.normalise else z.float()

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n *t k d"]:
        """Tokens [n k d] of pictures [n c h w], or [n t k d] of clips [n c t h w], whose frames are encoded one by one."""
        clips = x.ndim == 5
        tokens = self.encoder(x.transpose(1, 2).flatten(0, 1) if clips else x).tokens
        z = self._settled(tokens)
        return z.unflatten(0, (len(x), -1)) if clips else z

    @torch.no_grad()
    def _remembered(self, x: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n t k d"]:
        """The same, of frames seen before without the encoder, known by their bits: clips overlap and come again, and it never changes.

        Only on a processor, and one frame at a time, so that tokens do not depend on its neighbours and a resumed run repeats its bits.
        """
        if x.device.type != "cpu":
            return self.encode(x)
        rows = []
        for frame in x.transpose(1, 2).flatten(0, 1):
            name = hashlib.blake2b(frame.contiguous().numpy().data, digest_size=16).digest()
            if name not in self._known:
                tokens = self.encode(frame.unsqueeze(0))[0]
                if (len(self._known) + 1) * tokens.nbytes > _REMEMBERED:
                    self._known.clear()
                self._known[name] = tokens
            rows.append(self._known[name])
        return torch.stack(rows).unflatten(0, (len(x), -1))

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """'loss', and its parts 'teacher' and 'rollout'; means over clips, frames, tokens and features."""
        x, actions, states, cameras = self.clips(batch)
        z = self._remembered(x)
        told = self._settled(
            self.predictor(z[:, :-1], actions[:, :-1], states[:, :-1], None if cameras is None else cameras[:, :-1])
        )
        teacher = (told - z[:, 1:]).abs().mean()
        y = torch.cat([z[:, :1], told[:, 1:2] if self.compat == "official" else told[:, :1]], 1)
        for n in range(2, self.rollout + 1):
            following = self.predictor(y, actions[:, :n], states[:, :n], None if cameras is None else cameras[:, :n])
            y = torch.cat([y, self._settled(following[:, -1:])], 1)
        rolled = (y[:, 1:] - z[:, 1 : self.rollout + 1]).abs().mean()
        return {"loss": teacher + rolled, "teacher": teacher.detach(), "rollout": rolled.detach()}

    def clips(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Pictures [n c t h w], actions [n t 7], states [n t 7] and the camera's poses [n t 6] of a batch."""
        x = batch.views["image"].data
        if not isinstance(x, Tensor) or x.ndim != 5:
            raise DataError(
                "system 'action-conditioned' learns from clips [n c t h w] of one size: take a source of clips"
            )
        if batch.action is None or "state" not in batch.facts:
            raise DataError(
                "system 'action-conditioned' needs the actions of a clip and the fact 'state' [n t 7], the place, angles and gripper of "
                "the hand: take data=arm, data=droid or data=trajectories with an array `state`"
            )
        state, camera = batch.facts["state"].float(), batch.facts.get("camera")
        if state.shape != (len(x), x.shape[2], STATE):
            raise DataError(f"states must be [n t {STATE}], found {list(state.shape)} for {x.shape[2]} frames")
        if x.shape[2] < max(self.rollout + 1, 3):
            raise DataError(
                f"rollout={self.rollout} needs clips of {max(self.rollout + 1, 3)} frames, found {x.shape[2]}: lengthen them (data.frames)"
            )
        seen = self.predictor.sees_camera and camera is not None
        return x, batch.action.float(), state, camera.float() if seen and camera is not None else None

    def forward(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The same as `loss`, so that DDP and FSDP can wrap the system."""
        return self.loss(batch, progress, ranks)

    # what planning asks for

    def remember(self, seen: Seen) -> Past | None:
        """What the frames before the last leave behind: computed once for all action sequences; None if there is only one frame."""
        if seen.z.shape[1] == 1:
            return None
        cameras = None if seen.cameras is None else seen.cameras[:, :-1]
        return self.predictor.step(seen.z[:, :-1], seen.actions, seen.states[:, :-1], cameras)[1]  # type: ignore[no-any-return]

    def imagine(
        self, seen: Seen, actions: Float[Tensor, "s h 7"], past: Past | None = None
    ) -> Float[Tensor, "s h k d"]:
        """The tokens after each of the actions; the hand moves as the actions say. s is a multiple of p, context 0's sequences first.

        past: what `remember` gave for `seen`, so that it is not computed again.
        """
        past = self.remember(seen) if past is None else past
        each = len(actions) // len(seen.z)
        state = seen.states[:, -1].repeat_interleave(each, 0)
        camera = None if seen.cameras is None else seen.cameras[:, -1:].repeat_interleave(each, 0)
        z, found = seen.z[:, -1:], []
        for action in actions.unbind(1):
            following, past = self.predictor.step(z, action.unsqueeze(1), state.unsqueeze(1), camera, past=past)
            z = self._settled(following)
            found.append(z[:, 0])
            state = moved(state, action)
        return torch.stack(found, 1)

    def goal_energy(
        self, seen: Seen, goal: Float[Tensor, "p k d"], *, over: Literal["last", "sum"] = "last", rows: int = 256
    ) -> Any:
        """A planner's cost of actions [s h 7]: mean |imagined - goal| at the end of the plan, or its mean over the plan's steps.

        The context is computed here, once. rows: sequences imagined at a time.
        """
        contexts = len(seen.z)
        with torch.no_grad():
            past = self.remember(seen)

        def cost(actions: Tensor) -> Tensor:
            each = len(actions) // contexts
            some = max(1, rows // each)
            parts = []
            for at in range(0, contexts, some):
                own = slice(at, at + some)
                part_ = seen.rows(own)
                wanted = goal[own]
                for chunk in _chunks(actions[at * each : (at + some) * each], len(wanted), each, rows):
                    y = self.imagine(part_, chunk, _slice(past, own))
                    y = y[:, -1:] if over == "last" else y
                    parts.append(
                        (y - wanted.repeat_interleave(len(chunk) // len(wanted), 0).unsqueeze(1)).abs().mean((1, 2, 3))
                    )
            return torch.cat(parts)

        return cost

    def energy(self, seen: Seen, action: Float[Tensor, "n h 7"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """How badly picture y follows from what was seen, after the actions: mean |imagined - encoded|."""
        return (self.imagine(seen, action)[:, -1] - self.encode(y)).abs().mean((1, 2))

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """The predictor alone: maps with decay, biases and norms without."""
        found: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for p in self.predictor.parameters():
            if p.requires_grad:
                found[p.ndim > 1].append(p)
        return [{"params": params, "decay": decay, "scale": 1.0} for decay, params in found.items() if params]

    def train(self, mode: bool = True) -> ActionConditioned:
        """The frozen encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def after_step(self, progress: float) -> None:
        """Nothing moves but the optimiser."""


def _slice(past: Past | None, own: slice) -> Past | None:
    if past is None:
        return None
    return Past(tuple(tuple((k[own], v[own]) for k, v in segment) for segment in past.segments), past.frames)


def _chunks(actions: Tensor, contexts: int, each: int, rows: int) -> Iterable[Tensor]:
    """Sequences of one context in pieces of `rows`; those of several are few enough already."""
    return actions.split(rows) if contexts == 1 and each > rows else [actions]
