"""The U-Net of PDEArena as a stepper, conditioned through its norms (AdaGN), by addition or by constant channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.models.steppers.fno import embedded
from tacit.models.steppers.layers import NumberEmbedding, SpectralConvolution, convolution
from tacit.models.steppers.ports import Ports, constant_channels, frames, stacked

__all__ = ["UNetStepper"]

Count = Annotated[int, Gt(0)]
Edges = Literal["zeros", "circular"]


@part("stepper", "unet")
class UNetStepper(nn.Module):
    """Unetmod: a 3x3 stem, two residual blocks a level down, two in the middle, three a level up with joined skips.

    Block: g = conv1(GELU(GN(h))); conditioning="adagn": conv2(GELU(GN(g) (1 + scale) + shift)), (scale, shift) =
    Linear(e); "addition": conv2(GELU(GN(g + Linear(e)))); plus the shortcut. "concatenate" appends condition and action to
    the input as constant channels. conv2 and the last layer start at 0, so that the first prediction is exactly 0.
    The defaults (with a lead time as action and one coefficient, a frame of three fields) are Unetmod-64: 148,765,635
    weights, 146,594,499 with "addition". `edges`: 'zeros' as published, 'circular' on a periodic domain. sinusoid=False
    reads the condition by a linear map (for representations). `fourier`: in so many of the first levels down, a spectral
    convolution of `modes` modes beside a 1x1 one stands in place of each 3x3 one, half as many modes a level further, 4 at least
    (U-FNet; here the condition reaches every block, in the released code the spectral ones alone). Source: arXiv 2209.15616.
    """

    def __init__(
        self,
        ports: Ports,
        *,
        width: Count = 64,
        levels: Annotated[tuple[Count, ...], MinLen(1)] = (1, 2, 2, 4),
        blocks: Count = 2,
        conditioning: Literal["adagn", "addition", "concatenate"] = "adagn",
        sinusoid: bool = True,
        edges: Edges = "zeros",
        fourier: Annotated[int, Ge(0)] = 0,
        modes: Count = 16,
    ) -> None:
        super().__init__()
        joined = conditioning == "concatenate"
        self.ports, self.joined, self.smallest = ports, joined, 2 ** (len(levels) - 1)
        self.time_embed = NumberEmbedding(ports.action, width) if ports.action and not joined else None
        self.pde_emb = NumberEmbedding(ports.condition, width, sinusoid) if ports.condition and not joined else None
        into = ports.into + (ports.numbers if joined else 0)
        e = 4 * width if ports.numbers and not joined else 0

        def block(a: int, b: int, kept: int = 0) -> nn.Module:
            return _Block(a, b, e, ports.axes, conditioning == "adagn", edges, kept)

        self.image_proj = convolution(ports.axes)(into, width, 3, padding=1, padding_mode=edges)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        here, skips = width, [width]
        for level, times in enumerate(levels):
            kept = max(4, modes >> level) if level < fourier else 0
            for _ in range(blocks):
                self.down.append(block(here, here * times, kept))
                here, times = here * times, 1
                skips.append(here)
            if level < len(levels) - 1:
                self.down.append(_Down(here, ports.axes, edges))
                skips.append(here)
        self.middle = nn.ModuleList([block(here, here), block(here, here)])
        for level, times in reversed(list(enumerate(levels))):
            for _ in range(blocks):
                self.up.append(block(here + skips.pop(), here))
            below = here // times
            self.up.append(block(here + skips.pop(), below))
            here = below
            if level > 0:
                self.up.append(_Up(here, ports.axes, edges))
        self.norm = nn.GroupNorm(min(8, width), here)
        self.final = convolution(ports.axes)(here, ports.out, 3, padding=1, padding_mode=edges)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Without spectral levels there are no modes."""
        return {} if settings["fourier"] else {"modes": "fourier=0 has no spectral convolution"}

    def forward(self, history: Tensor, condition: Tensor | None = None, action: Tensor | None = None) -> Tensor:
        """The next frames [n c horizon *space]; each axis must halve len(levels) - 1 times."""
        self.ports.check(history, condition, action)
        if any(size % self.smallest for size in history.shape[3:]):
            raise DataError(
                f"this U-Net halves each axis to {self.smallest} times less, and {tuple(history.shape[3:])} does not divide:"
                " choose other points or fewer levels"
            )
        x = stacked(history)
        h = self.image_proj(constant_channels(x, action, condition) if self.joined else x)
        e = None if self.joined else embedded(self.time_embed, action, self.pde_emb, condition)
        skips = [h]
        for layer in self.down:
            h = layer(h, e)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, e)
        for layer in self.up:
            h = layer(h, e) if isinstance(layer, _Up) else layer(torch.cat([h, skips.pop()], 1), e)
        return frames(self.final(functional.gelu(self.norm(h))), self.ports)


class _Block(nn.Module):
    """modes > 0: each 3x3 convolution is a spectral one of so many modes and a 1x1 one."""

    def __init__(
        self, into: int, out: int, embedding: int, axes: int, adagn: bool, edges: Edges, modes: int = 0
    ) -> None:
        super().__init__()
        conv = convolution(axes)
        self.norm1, self.norm2 = nn.GroupNorm(1, into), nn.GroupNorm(1, out)
        near: dict[str, Any] = {"kernel_size": 1} if modes else {"kernel_size": 3, "padding": 1, "padding_mode": edges}
        self.conv1, self.conv2 = conv(into, out, **near), conv(out, out, **near)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)
        self.fourier1 = SpectralConvolution(into, out, modes, axes) if modes else None
        self.fourier2 = SpectralConvolution(out, out, modes, axes) if modes else None
        self.shortcut = conv(into, out, 1) if into != out else nn.Identity()
        self.adagn = adagn
        self.cond_emb = nn.Linear(embedding, out * (1 + adagn)) if embedding else None

    def forward(self, h: Tensor, e: Tensor | None) -> Tensor:
        g = functional.gelu(self.norm1(h))
        g = self.conv1(g) if self.fourier1 is None else self.conv1(g) + self.fourier1(g)
        if self.cond_emb is None or e is None:
            g = self.norm2(g)
        elif self.adagn:
            scale, shift = self.cond_emb(e).reshape(len(g), -1, *(1,) * (g.ndim - 2)).chunk(2, 1)
            g = self.norm2(g) * (1 + scale) + shift
        else:
            g = self.norm2(g + self.cond_emb(e).reshape(len(g), -1, *(1,) * (g.ndim - 2)))
        g = functional.gelu(g)
        g = self.conv2(g) if self.fourier2 is None else self.conv2(g) + self.fourier2(g)
        return g + self.shortcut(h)


class _Down(nn.Module):
    def __init__(self, width: int, axes: int, edges: Edges) -> None:
        super().__init__()
        self.conv = convolution(axes)(width, width, 3, stride=2, padding=1, padding_mode=edges)

    def forward(self, h: Tensor, e: Tensor | None) -> Tensor:  # noqa: ARG002
        return self.conv(h)  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Twice the points: a transposed convolution of 4 and stride 2, on a circle if the edges are."""

    def __init__(self, width: int, axes: int, edges: Edges) -> None:
        super().__init__()
        self.ring = 1 if edges == "circular" else 0
        self.axes = axes
        kind = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[axes]
        self.conv = kind(width, width, 4, stride=2, padding=1 + 2 * self.ring)

    def forward(self, h: Tensor, e: Tensor | None) -> Tensor:  # noqa: ARG002
        if self.ring:
            h = functional.pad(h, [1, 1] * self.axes, mode="circular")
        return self.conv(h)  # type: ignore[no-any-return]
