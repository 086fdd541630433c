"""Residual networks from maps to maps of the same size: the encoder and the predictor of EB-JEPA's video example."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.stages import demand_all_tokens, features_of_map, run

__all__ = ["ResidualMap", "ResidualUNet"]

PositiveInt = Annotated[int, Gt(0)]


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width)


class _Block(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + x), the x through a 1x1 convolution and a norm where shapes differ."""

    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), _norm(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), _norm(out)
        same = stride == 1 and into == out
        self.shortcut = nn.Sequential(*(() if same else (nn.Conv2d(into, out, 1, stride, bias=False), _norm(out))))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


@part("encoder", "residual-map")
class ResidualMap(nn.Module):
    """A stem and three residual blocks of stride 1: [n c h w] to a map of `width` channels at every pixel.

    89,280 parameters for one channel, hidden 32 and width 16. Tokens are the places of the map, pooled their mean.
    Source: the 'ResNet5' of EB-JEPA (arXiv 2602.03604).
    """

    def __init__(self, facts: Facts, *, hidden: PositiveInt = 32, width: PositiveInt = 16) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(facts.channels, hidden, 3, 1, 1, bias=False), _norm(hidden)
        self.layer1, self.layer2, self.layer3 = (
            _Block(hidden, hidden),
            _Block(hidden, 2 * hidden),
            _Block(2 * hidden, width),
        )
        self.dim = width

    def _stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n dim], and every pixel as a token."""
        demand_all_tokens("residual-map", keep)
        return features_of_map(self.layer3(self.layer2(self.layer1(self._stem(x)))))

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Mean over places of the named stages."""
        chain: list[Callable[[Tensor], Tensor]] = [self._stem, self.layer1, self.layer2, self.layer3]
        return run(dict(zip(self.layer_names(), chain, strict=True)), x, which)

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return ["stem", "layer1", "layer2", "layer3"]


@part("dynamics", "residual-unet")
class ResidualUNet(nn.Module):
    """A small U-net over the maps of two frames, the last two, and their actions as planes; its output is the next map.

    Residual blocks of `hidden` times 1, 2, 4, 8 channels with stride 2 between them, transposed convolutions and skips back.
    2,032,496 parameters for maps of 16 channels and hidden 32. States are the places of a square map.
    Source: the 'ResUNet' of EB-JEPA (arXiv 2602.03604), whose input is z_{t-1} and z_t along the channels.
    """

    context, lead = 2, 1

    def __init__(self, dim: int, actions: int, places: int, *, hidden: PositiveInt = 32) -> None:
        super().__init__()
        self.side = math.isqrt(places)
        if self.side**2 != places or self.side < 8:
            raise RecipeError(
                f"dynamics 'residual-unet' moves square maps of at least 8 x 8 places, the states have {places}: set state=tokens and take "
                "an encoder that keeps a square map, for example residual-map"
            )
        h = hidden
        self.conv1, self.bn1 = nn.Conv2d(2 * dim + actions, h, 3, 1, 1, bias=False), _norm(h)
        self.enc1, self.enc2, self.enc3 = _Block(h, h), _Block(h, 2 * h, 2), _Block(2 * h, 4 * h, 2)
        self.bott = _Block(4 * h, 8 * h, 2)
        self.up3, self.dec3 = nn.ConvTranspose2d(8 * h, 4 * h, 2, 2), _Block(8 * h, 4 * h)
        self.up2, self.dec2 = nn.ConvTranspose2d(4 * h, 2 * h, 2, 2), _Block(4 * h, 2 * h)
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * h, h, 2, 2), _Block(2 * h, h)
        self.head = nn.Conv2d(h, dim, 1)

    def _map(self, x: Tensor) -> Tensor:
        s1 = self.enc1(F.relu(self.bn1(self.conv1(x))))
        s2 = self.enc2(s1)
        s3 = self.enc3(s2)
        y = self.bott(s3)
        for up, fuse, skip in ((self.up3, self.dec3, s3), (self.up2, self.dec2, s2), (self.up1, self.dec1, s1)):
            y = up(y)
            if y.shape[-2:] != skip.shape[-2:]:
                y = F.interpolate(y, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            y = fuse(torch.cat([y, skip], 1))
        return self.head(y)  # type: ignore[no-any-return]

    def forward(self, states: Float[Tensor, "n t k d"], actions: Float[Tensor, "n t a"]) -> Float[Tensor, "n u k d"]:
        """What follows the second and every later frame: u = t - 1."""
        n, t, _, d = states.shape
        maps = states.transpose(2, 3).unflatten(3, (self.side, self.side))
        planes = actions[:, 1:, :, None, None].expand(-1, -1, -1, self.side, self.side)
        y = self._map(torch.cat([maps[:, :-1], maps[:, 1:], planes], 2).flatten(0, 1))
        return y.flatten(2).transpose(1, 2).reshape(n, t - 1, -1, d)
