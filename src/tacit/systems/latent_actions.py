"""Latent actions: a world model whose actions nobody recorded. Legend: n clips, t frames, s the shape of a state, d latent numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import InverseSpec, Role, Spec, SystemSpec
from tacit.core.values import Batch, Facts, Features

__all__ = ["LatentActionModel"]

BottleneckSpec = Annotated[Spec, Role("bottleneck")]
_WORLD = Spec("system", "world-model", inverse=None, similarity=0.0, steps=1, starts="every")
_BOTTLENECK, _INVERSE = Spec("bottleneck", "noisy"), Spec("inverse", "mlp")


@part("system", "latent-action")
class LatentActionModel(nn.Module):
    """Infer what was done from two frames, and predict the second from the first and that.

        z_t = bottleneck(g(s_t, s_{t+1}));   s_{t+1} ~ world(s_t, z_t);   loss = that of the world model + the bottleneck's price

    world: a world model without its own inverse dynamics; its 'actions' are the latents. With a trained encoder its regulariser keeps
    states from collapse; a frozen one needs none. inverse: g. The bottleneck's capacity decides between detail and transfer. Recorded
    actions are never read. Source: LAWM (arXiv 2601.05230), after LAPO (2312.10812) and AdaWorld (2503.18938).
    """

    def __init__(
        self,
        facts: Facts,
        *,
        world: SystemSpec = _WORLD,
        bottleneck: BottleneckSpec = _BOTTLENECK,
        inverse: InverseSpec = _INVERSE,
    ) -> None:
        super().__init__()
        self.bottleneck = bottleneck.build()
        self.width = self.bottleneck.width
        self.world = world.build(replace(facts, action_dim=self.width))
        several = inverse.kind == "attention" and self.world.state == "tokens"
        places = (self.world.places,) if several else ()  # the others read one vector
        self.guess = inverse.build(self.world.dim, self.bottleneck.inputs, *places)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """The world inside must be one that takes latents."""
        world = settings["world"]
        if world.kind != "world-model":
            yield f"world: latent actions drive a system 'world-model', found {world.kind!r}"
        elif world["inverse"] is not None:
            yield "world.inverse: the inverse dynamics of latent actions are their own: set world.inverse=null"
        elif world["state"] != "pooled" and settings["inverse"].kind != "attention":
            yield "world.state: latents between states of tokens are inferred by attention: set inverse=attention or world.state=pooled"

    def infer(
        self, before: Float[Tensor, "*n s"], after: Float[Tensor, "*n s"], ranks: Ranks = ALONE
    ) -> tuple[Tensor, Any]:
        """The latent between two states, and the bottleneck's terms."""
        raw = self.guess(before, after)
        z, terms = self.bottleneck(raw.flatten(0, -2), ranks)
        return z.unflatten(0, raw.shape[:-1]), terms

    def sample(self, count: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Latents from the bottleneck's prior alone; the same seed gives the same."""
        device = next(self.parameters()).device
        with torch.no_grad():
            return self.bottleneck.sample(count, torch.Generator(device).manual_seed(seed))  # type: ignore[no-any-return]

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """The terms of the world model under the inferred latents, and the bottleneck's."""
        x = batch.views["image"].data
        if not isinstance(x, Tensor) or x.ndim != 5 or x.shape[2] < 2:
            raise DataError(
                "system 'latent-action' learns from clips [n c t h w] of at least two frames: take a source of clips"
            )
        states = self.world.encode(x)
        z, price = self.infer(states[:, :-1], states[:, 1:], ranks)
        last = z.new_zeros(len(z), 1, z.shape[2])  # leads out of the clip, not used
        terms = self.world.terms(states, torch.cat([z, last], 1), ranks)
        return {**terms, **price, "loss": terms["loss"] + sum(price.values())}

    def forward(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The same as `loss`, so that DDP and FSDP can wrap the system."""
        return self.loss(batch, progress, ranks)

    def encode(self, x: Tensor) -> Tensor:
        """States of pictures or clips."""
        return self.world.encode(x)  # type: ignore[no-any-return]

    def embed(self, x: Tensor) -> Features:
        """The representation of pictures, of a clip that of its first frame."""
        return self.world.embed(x)  # type: ignore[no-any-return]

    def project(self, x: Tensor) -> Float[Tensor, "n d"]:
        """The state that the regulariser sees."""
        return self.world.project(x)  # type: ignore[no-any-return]

    def imagine(self, z0: Tensor, actions: Tensor) -> Tensor:
        """The states after each of the latents [s h d]."""
        return self.world.imagine(z0, actions)  # type: ignore[no-any-return]

    def energy(self, x: Tensor, action: Tensor | None, y: Tensor) -> Float[Tensor, " n"]:
        """How badly y follows from x under a latent; without one, under the latent inferred from x and y."""
        if action is None:
            action, _ = self.infer(self.encode(x), self.encode(y))
        return self.world.energy(x, action, y)  # type: ignore[no-any-return]

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """Weights of maps with decay; biases, norms and codes without."""
        found: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, p in self.named_parameters():
            if p.requires_grad:
                found[p.ndim > 1 and not name.endswith("codebook")].append(p)
        return [{"params": params, "decay": decay, "scale": 1.0} for decay, params in found.items() if params]

    def after_step(self, progress: float) -> None:
        """The world model's own."""
        self.world.after_step(progress)
