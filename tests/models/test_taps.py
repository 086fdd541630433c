"""Taps: any module's output from one pass, pooled to rows, by names and globs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tacit.core.errors import RecipeError, UnknownNameError
from tacit.core.values import Facts, Features
from tacit.models.convnet import ConvNet
from tacit.models.heads import MLP
from tacit.models.resnet import ResNet
from tacit.models.taps import Taps, default_cuts, matching, pooled
from tacit.models.vit import ViT


class System(nn.Module):
    """Encoder and projector as systems have them."""

    def __init__(self, encoder, widths=(6, 5, 4)):
        super().__init__()
        self.encoder, self.projector, self.calls = encoder, MLP(encoder.dim, widths=widths), 0
        self.unused = nn.Linear(2, 2)

    def project(self, x):
        self.calls += 1
        return self.projector(self.encoder(x).pooled)


@pytest.fixture
def system():
    torch.manual_seed(0)
    return System(ConvNet(Facts(channels=1, shape=(8, 8)), widths=(4, 6, 8))).eval()


def test_all_layers_come_from_one_pass_and_equal_the_parts_run_by_hand(system):
    x = torch.rand(3, 1, 8, 8)
    taps = Taps(system, "project")
    names = ["encoder.stages.0", "encoder", "projector.2", "projector.1", "projector"]
    with torch.no_grad():
        found = dict(zip(names, taps.layers(x, names), strict=True))
        assert system.calls == 1
        h = system.encoder(x).pooled
        torch.testing.assert_close(found["encoder.stages.0"], system.encoder.stages[0](x).mean(dim=(2, 3)))
        torch.testing.assert_close(found["encoder"], h)
        normed = system.projector[1](system.projector[0](h))
        torch.testing.assert_close(found["projector.1"], normed)  # although the next module rectifies it in place
        torch.testing.assert_close(found["projector.2"], normed.relu())
        torch.testing.assert_close(found["projector"], system.project(x))
    assert not any(module._forward_hooks for module in system.modules())


def test_names_are_those_of_the_pass_in_its_order_with_widths(system):
    names = Taps(system, "project").names(torch.rand(2, 1, 8, 8))
    assert "unused" not in names
    assert list(names)[-1] == "projector"
    assert list(names).index("encoder") > list(names).index("encoder.stages.2")
    assert (names["encoder.stages.1"], names["encoder"], names["projector.5"], names["projector"]) == (6, 8, 5, 4)


def test_default_cuts_are_stages_backbone_hidden_layers_and_embedding(system):
    known = list(Taps(system, "project").names(torch.rand(2, 1, 8, 8)))
    assert default_cuts(system, known) == [
        "encoder.stages.0", "encoder.stages.1", "encoder", "projector.2", "projector.5", "projector",
    ]  # fmt: skip
    resnet = System(ResNet(Facts(channels=3, shape=(32, 32)), depth=18, width=0.125)).eval()
    known = list(Taps(resnet, "project").names(torch.rand(2, 3, 32, 32)))
    assert default_cuts(resnet, known)[:5] == [
        "encoder.maxpool", "encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder",
    ]  # fmt: skip


def test_a_tree_that_names_no_layers_is_cut_along_its_largest_chain():
    class Odd(nn.Module):
        dim = 4

        def __init__(self):
            super().__init__()
            self.small = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
            self.trunk = nn.ModuleList(nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 4)) for _ in range(3))

        def forward(self, x):
            x = self.small(x)
            for block in self.trunk:
                x = block(x)
            return Features(x)

    odd = System(Odd()).eval()
    known = list(Taps(odd, "project").names(torch.rand(2, 1, 8, 8)))
    assert default_cuts(odd, known)[:4] == ["encoder.trunk.0", "encoder.trunk.1", "encoder.trunk.2", "encoder"]
    plain = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    known = list(Taps(plain).names(torch.rand(2, 3)))
    assert default_cuts(plain, known) == known == ["0", "1", "2"]


def test_globs_match_parts_of_names():
    known = ["encoder.blocks.0.attn", "encoder.blocks.0", "encoder.blocks.1", "encoder", "projector.0"]
    assert matching(["encoder.blocks.*"], known) == ["encoder.blocks.0", "encoder.blocks.1"]
    assert matching(["encoder.**"], known) == known[:3]
    assert matching(["projector.?", "encoder"], known) == ["encoder", "projector.0"]
    with pytest.raises(UnknownNameError) as error:
        matching(["encoder.block.*"], known)
    assert str(error.value).startswith("no layer named 'encoder.block.*'. Did you mean 'encoder.blocks.1'? Known: ")


def test_every_kind_of_output_becomes_rows():
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    torch.testing.assert_close(pooled(tokens), tokens.mean(dim=1))
    torch.testing.assert_close(pooled(tokens, "first"), tokens[:, 0])
    torch.testing.assert_close(pooled((tokens, None)), tokens.mean(dim=1))
    torch.testing.assert_close(pooled({"last": tokens}), tokens.mean(dim=1))
    clip = torch.rand(2, 3, 4, 5, 6)
    torch.testing.assert_close(pooled(clip), clip.mean(dim=(2, 3, 4)))
    assert pooled(torch.ones(3)) is None
    assert pooled(torch.ones(3, 2, dtype=torch.int64)) is None
    assert pooled("text") is None


def test_modules_that_are_not_there_or_not_run_are_refused(system):
    taps = Taps(system, "project")
    with pytest.raises(UnknownNameError, match=r"no layer named .projector\.9."):
        taps.layers(torch.rand(2, 1, 8, 8), ["projector.9"])
    with pytest.raises(RecipeError) as error:
        taps.layers(torch.rand(2, 1, 8, 8), ["unused"])
    assert (
        str(error.value) == "layer 'unused' gave no rows: the pass does not run it, or it returns no tensor of samples"
    )


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_every_block_of_a_vit_is_cut_as_the_encoder_pools_it(pooling):
    vit = ViT(
        Facts(channels=1, shape=(8, 8)),
        patch=4,
        width=16,
        depth=3,
        heads=2,
        pooling=pooling,
        class_token=pooling == "class",
    )
    system = System(vit).eval()
    x = torch.rand(2, 1, 8, 8)
    taps = Taps(system, "project", "first" if pooling == "class" else "mean")
    known = list(taps.names(x))
    cuts = default_cuts(system, known)
    assert cuts[:4] == ["encoder.blocks.0", "encoder.blocks.1", "encoder.blocks.2", "encoder"]
    assert matching(["encoder.blocks.*"], known) == cuts[:3]
    with torch.no_grad():
        found = taps.layers(x, cuts[:4])
        own = [*vit.layers(x, ["blocks.0", "blocks.1", "blocks.2"]), vit(x).pooled]
    for a, b in zip(found, own, strict=True):
        torch.testing.assert_close(a, b)
