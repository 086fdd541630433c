"""Fourier neural operators as steppers: v <- sigma(W v + F^-1(R F v)), arXiv 2010.08895."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.parts import part
from tacit.models.steppers.layers import NumberEmbedding, SpectralConvolution, convolution
from tacit.models.steppers.ports import Ports, constant_channels, frames, stacked

__all__ = ["ConditionedFourierStepper", "FourierStepper"]

Count = Annotated[int, Gt(0)]


@part("stepper", "fno")
class FourierStepper(nn.Module):
    """The Fourier neural operator on a line or in a periodic plane: lift, blocks, project.

        h = fc0(u);  h = GELU(spectral_i(h) + conv1x1_i(h)) for each layer;  out = fc2(GELU(fc1(h)))

    Condition and action are appended as constant channels. The defaults are the network of LPSDA on a line (arXiv
    2202.07643): 10,856,084 weights if a complex one counts once. No absolute coordinate is read, so a shifted history
    gives shifted frames.
    """

    def __init__(
        self, ports: Ports, *, width: Count = 256, modes: Count = 32, depth: Count = 5, last: Count = 128
    ) -> None:
        super().__init__()
        conv = convolution(ports.axes)
        self.ports = ports
        self.fc0 = conv(ports.into + ports.numbers, width, 1)
        self.fourier_layers = nn.ModuleList(SpectralConvolution(width, width, modes, ports.axes) for _ in range(depth))
        self.conv_layers = nn.ModuleList(conv(width, width, 1) for _ in range(depth))
        self.fc1, self.fc2 = conv(width, last, 1), conv(last, ports.out, 1)

    def forward(self, history: Tensor, condition: Tensor | None = None, action: Tensor | None = None) -> Tensor:
        """The next frames [n c horizon *space]."""
        self.ports.check(history, condition, action)
        h = self.fc0(constant_channels(stacked(history), action, condition))
        for spectral, local in zip(self.fourier_layers, self.conv_layers, strict=True):
            h = functional.gelu(spectral(h) + local(h))
        return frames(self.fc2(functional.gelu(self.fc1(h))), self.ports)


@part("stepper", "fno-conditioned")
class ConditionedFourierStepper(nn.Module):
    """The conditioned operator of PDEArena (FNO-128-16m, arXiv 2209.15616), "spatial-spectral" in its tables.

    e = MLP(sinusoids(action)) + MLP(condition); blocks h = GELU(spectral2(g) + conv2(g)), g = GELU(spectral1(h; e) +
    conv1(h) + Linear(e)), where e also multiplies every kept mode. `pad`: zeros added behind each axis, for walls; 0 on
    a periodic domain. sinusoid=False reads the condition by a linear map (for representations).
    """

    def __init__(
        self,
        ports: Ports,
        *,
        width: Count = 128,
        modes: Count = 16,
        depth: Count = 4,
        pad: Annotated[int, Ge(0)] = 9,
        sinusoid: bool = True,
    ) -> None:
        super().__init__()
        conv = convolution(ports.axes)
        self.ports, self.pad = ports, pad
        self.time_embed = NumberEmbedding(ports.action, width) if ports.action else None
        self.pde_emb = NumberEmbedding(ports.condition, width, sinusoid) if ports.condition else None
        self.conv_in1, self.conv_in2 = conv(ports.into, width, 1), conv(width, width, 1)
        self.layers = nn.ModuleList(
            _Block(width, modes, ports.axes, 4 * width if ports.numbers else 0) for _ in range(depth)
        )
        self.conv_out1, self.conv_out2 = conv(width, width, 1), conv(width, ports.out, 1)

    def forward(self, history: Tensor, condition: Tensor | None = None, action: Tensor | None = None) -> Tensor:
        """The next frames [n c horizon *space]."""
        self.ports.check(history, condition, action)
        e = embedded(self.time_embed, action, self.pde_emb, condition)
        h = functional.gelu(self.conv_in2(functional.gelu(self.conv_in1(stacked(history)))))
        size = h.shape[2:]
        h = functional.pad(h, [0, self.pad] * len(size))
        for block in self.layers:
            h = block(h, e)
        for axis, points in enumerate(size, start=2):
            h = h.narrow(axis, 0, points)
        return frames(self.conv_out2(functional.gelu(self.conv_out1(h))), self.ports)


class _Block(nn.Module):
    def __init__(self, width: int, modes: int, axes: int, embedding: int) -> None:
        super().__init__()
        conv = convolution(axes)
        self.fourier1 = SpectralConvolution(width, width, modes, axes, embedding)
        self.fourier2 = SpectralConvolution(width, width, modes, axes)
        self.conv1, self.conv2 = conv(width, width, 1), conv(width, width, 1)
        self.cond_emb = nn.Linear(embedding, width) if embedding else None

    def forward(self, h: Tensor, e: Tensor | None) -> Tensor:
        g = self.fourier1(h, e) + self.conv1(h)
        if self.cond_emb is not None and e is not None:
            g = g + self.cond_emb(e).reshape(*g.shape[:2], *(1,) * (g.ndim - 2))
        g = functional.gelu(g)
        return functional.gelu(self.fourier2(g) + self.conv2(g))


def embedded(
    of_action: NumberEmbedding | None,
    action: Tensor | None,
    of_condition: NumberEmbedding | None,
    condition: Tensor | None,
) -> Tensor | None:
    """The sum of the two embeddings, of what there is: [n e] or None."""
    found = [
        embed(value)
        for embed, value in ((of_action, action), (of_condition, condition))
        if embed is not None and value is not None
    ]
    return sum(found[1:], found[0]) if found else None
