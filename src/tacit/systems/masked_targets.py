"""What hidden tokens are compared with. A target carries no gradient. Legend: n samples, N tokens, o numbers a token."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.values import Facts
from tacit.training.ema import follow, momentum_at

__all__ = ["Pixels", "TokenTeacher"]

Momentum = Annotated[float, Ge(0), Le(1)]


@part("target", "pixels")
class Pixels(nn.Module):
    """The pixels of each patch or tubelet, as (frame, row, column, channel), of the normalised view.

    standardise: minus the patch's mean, over the root of its unbiased variance + 1e-6 (MAE, arXiv 2111.06377); else as they are (SimMIM).
    """

    def __init__(self, facts: Facts, encoder: nn.Module, *, standardise: bool = True) -> None:
        super().__init__()
        self.standardise = standardise
        patch, tubelet = int(encoder.patch), encoder.tubelet  # type: ignore[arg-type]
        self.sides: tuple[int, ...] = (int(tubelet), patch, patch) if tubelet else (patch, patch)  # type: ignore[arg-type]
        self.dim = facts.channels * math.prod(self.sides)

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n N o"]:
        """Of images [n c h w] or clips [n c f h w]."""
        n, channels = x.shape[:2]
        split = [part for size, side in zip(x.shape[2:], self.sides, strict=True) for part in (size // side, side)]
        dims = len(self.sides)
        order = [0, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2), 1]
        patches = x.reshape(n, channels, *split).permute(order).reshape(n, -1, self.dim)
        if not self.standardise:
            return patches
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()

    def after_step(self, encoder: nn.Module, progress: float) -> None:
        """Pixels do not change."""


@part("target", "teacher")
class TokenTeacher(nn.Module):
    """The tokens of a copy of the encoder that follows it, m <- m copy + (1 - m) encoder after every step, and sees everything.

        m(p) = momentum + (final - momentum) p / stretch         path 'linear' (I-JEPA 0.996 to 1; V-JEPA 0.998 to 1, stretch 1.25)
        m(p) = final - (final - momentum) (cos(pi p) + 1) / 2    path 'cosine', p / stretch as well

    momentum = final holds it (V-JEPA 2: 0.99925). Each token's features are normalised to mean 0 and variance 1 (eps 1e-5).
    layers > 1 averages what the second branches of the last blocks add, each normalised (data2vec, arXiv 2202.03555).
    centred: first the mean over a sample's tokens is taken away from each. What all tokens of a sample share is the easiest to predict, and
    where few things differ within a sample the features become that alone; data2vec takes it away for the same reason in speech.
    Sources: arXiv 2301.08243, 2404.08471, 2506.09985.
    """

    def __init__(
        self,
        facts: Facts,  # noqa: ARG002
        encoder: nn.Module,
        *,
        momentum: Momentum = 0.996,
        final: Momentum = 1.0,
        path: Literal["linear", "cosine"] = "linear",
        stretch: Annotated[float, Ge(1)] = 1.0,
        layers: Annotated[int, Ge(1)] = 1,
        centred: bool = False,
    ) -> None:
        super().__init__()
        if layers > len(encoder.blocks):  # type: ignore[arg-type]
            raise RecipeError(
                f"target 'teacher' averages layers={layers} blocks, the encoder has {len(encoder.blocks)}: take fewer"  # type: ignore[arg-type]
            )
        self.momentum, self.final, self.path, self.stretch, self.layers = momentum, final, path, stretch, layers
        self.centred = centred
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.dim = int(encoder.dim)  # type: ignore[arg-type]

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["momentum"] > settings["final"]:
            yield (
                f"target 'teacher' follows ever more slowly, found momentum={settings['momentum']} above "
                f"final={settings['final']}: swap them, or set both alike"
            )
        if settings["momentum"] == 1:
            yield "target 'teacher' with momentum 1 never moves from the first weights: take a momentum below 1, for example 0.996"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """A constant momentum has no path."""
        if settings["momentum"] != settings["final"]:
            return {}
        return dict.fromkeys(("path", "stretch"), "momentum and final are the same")

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "n c *s"]) -> Float[Tensor, "n N d"]:
        """Normalised tokens of the whole input, in evaluation mode."""
        self.encoder.eval()
        if self.layers == 1:
            return self._normal(self.encoder(x).tokens)
        added = self.encoder.branches(x, self.layers)  # type: ignore[operator]
        total: Tensor = sum(self._normal(branch) for branch in added)  # type: ignore[assignment]
        return total / self.layers

    def _normal(self, tokens: Tensor) -> Tensor:
        own = tokens - tokens.mean(dim=1, keepdim=True) if self.centred else tokens
        return F.layer_norm(own, (self.dim,))

    def momentum_now(self, progress: float) -> float:
        """m at `progress` in [0, 1]."""
        p = progress / self.stretch
        if self.path == "cosine":
            return momentum_at(p, self.momentum, self.final)
        return self.momentum + (self.final - self.momentum) * p

    def after_step(self, encoder: nn.Module, progress: float) -> None:
        """Follow the encoder."""
        follow(self.encoder, encoder, self.momentum_now(progress))

    def extra_repr(self) -> str:
        """The settings, for print."""
        said = f"momentum={self.momentum}, final={self.final}, path={self.path}, stretch={self.stretch}, layers={self.layers}"
        return f"{said}, centred={self.centred}"
