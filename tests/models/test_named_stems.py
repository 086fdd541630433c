"""The stems of CIFAR ResNets: padding 1, and solo-learn's padding 2, under the same names and shapes of weights."""

from __future__ import annotations

import torch

from tacit.core.values import Facts
from tacit.models.resnet import ResNet


def test_solo_learns_stem_has_wider_maps_and_the_same_weights():
    facts = Facts(channels=3, shape=(32, 32))
    plain, wide = (ResNet(facts, depth=18, width=0.125, stem=stem).eval() for stem in ("cifar", "solo-learn"))
    wide.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert plain.conv1(x).shape[-2:] == (32, 32)
    assert wide.conv1(x).shape[-2:] == (34, 34)
    torch.testing.assert_close(wide.conv1(x)[:, :, 1:-1, 1:-1], plain.conv1(x))
    assert wide(x).grid == (5, 5)
    assert plain(x).grid == (4, 4)
    assert not torch.allclose(wide(x).pooled, plain(x).pooled)
