"""Residual networks, built from torchvision's blocks so that the names of the weights are torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.stages import demand_all_tokens, features_of_map, run

__all__ = ["ResNet"]

_PLANS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


@part("encoder", "resnet")
class ResNet(nn.Module):
    """ResNet-18, -34, -50 or -101 on [n c h w], without its classifier.

    `stem`: 'imagenet' is the 7x7 convolution of stride 2 and the max-pool; 'cifar' is one 3x3 convolution of stride 1
    (padding 1) and no pool; 'solo-learn' the same with padding 2, whose maps are two places wider (34 x 34 of 32 x 32): its
    published CIFAR weights and numbers depend on that. `width` multiplies every stage, stem included (2 gives VICReg's x2
    with 4096 features), unlike torchvision's wide_resnet, which widens inside the blocks. `zero_init`: the last norm of each
    block starts at zero, so that each block starts as the identity (arXiv 1706.02677). State-dict names equal torchvision's
    without `fc`.

    Pooled features are the mean over places, `dim` = 512 (18, 34) or 2048 (50, 101) times `width`. Source: arXiv 1512.03385.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        depth: Literal[18, 34, 50, 101] = 50,
        stem: Literal["cifar", "solo-learn", "imagenet"] = "imagenet",
        width: Annotated[float, Gt(0)] = 1.0,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        block, counts = _PLANS[depth]
        planes = max(1, round(64 * width))
        first = (
            nn.Conv2d(facts.channels, planes, 7, stride=2, padding=3, bias=False)
            if stem == "imagenet"
            else nn.Conv2d(facts.channels, planes, 3, stride=1, padding=2 if stem == "solo-learn" else 1, bias=False)
        )
        self.conv1, self.bn1, self.relu = first, nn.BatchNorm2d(planes), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        stages, into = [], planes
        for i, count in enumerate(counts):
            stages.append(_stage(block, into, planes << i, count, stride=1 if i == 0 else 2))
            into = (planes << i) * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.dim = into
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init and isinstance(module, BasicBlock | Bottleneck):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                nn.init.zeros_(last.weight)

    def _stem(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n dim], and the places of the last map as tokens."""
        demand_all_tokens("resnet", keep)
        return features_of_map(self.layer4(self.layer3(self.layer2(self.layer1(self._stem(x))))))

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Mean over places of the named stages; 'layer4' is the pooled feature itself."""
        stages: list[nn.Module | Callable[[Tensor], Tensor]] = [
            self._stem,
            self.layer1,
            self.layer2,
            self.layer3,
            self.layer4,
        ]
        return run(dict(zip(self.layer_names(), stages, strict=True)), x, which)

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return ["stem", "layer1", "layer2", "layer3", "layer4"]


def _stage(
    block: type[BasicBlock] | type[Bottleneck], into: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    out = planes * block.expansion
    shortcut = None
    if stride != 1 or into != out:
        shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
    return nn.Sequential(block(into, planes, stride, shortcut), *(block(out, planes) for _ in range(count - 1)))
