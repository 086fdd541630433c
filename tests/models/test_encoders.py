"""Encoders: the laws of their role, and equality with the independent implementations whose weights they take."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision

from tacit.core.errors import DataError, MissingExtraError, RecipeError, UnknownNameError
from tacit.core.laws import check_encoder
from tacit.core.spec import Spec
from tacit.core.values import Facts

RGB = Facts(channels=3, shape=(32, 32))
TINY = {"patch": 8, "width": 32, "heads": 2, "depth": 3}


def make(kind, facts=RGB, **settings):
    torch.manual_seed(0)
    return Spec("encoder", kind, **settings).build(facts)


def randomise(module):
    """Random weights and running statistics everywhere, also where the initialisation is zero or one."""
    generator = torch.Generator().manual_seed(5)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            draw = torch.randn(value.shape, generator=generator)
            value.copy_(draw.abs() + 0.5 if name.endswith("running_var") else 0.1 * draw)
    return module.eval()


@pytest.mark.parametrize(
    ("kind", "settings", "channels"),
    [
        ("resnet", {"depth": 18, "stem": "cifar", "width": 0.125}, 3),
        ("resnet", {"depth": 50, "width": 0.125, "zero_init": False}, 1),
        ("convnet", {}, 1),
        ("convnet", {"widths": (8,)}, 3),
        ("vit", TINY, 1),
        ("vit", {**TINY, "pooling": "mean", "class_token": False}, 3),
        ("vit", {**TINY, "pooling": "mean", "positions": "learned", "drop_path": 0.2}, 3),
        ("timm", {"name": "resnet10t"}, 1),
        ("timm", {"name": "vit_tiny_patch16_224"}, 3),
    ],
)
def test_it_obeys_the_laws_of_encoders(kind, settings, channels):
    if kind == "timm":
        pytest.importorskip("timm")

    def factory(facts):
        return Spec("encoder", kind, **settings).build(facts)

    check_encoder(factory, facts=Facts(channels=channels, shape=(32, 32)))


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_equals_torchvision_under_its_names(depth, rng):
    theirs = randomise(getattr(torchvision.models, f"resnet{depth}")(weights=None))
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    theirs.fc = torch.nn.Identity()
    ours = make("resnet", depth=depth).eval()
    ours.load_state_dict(state, strict=True)
    x = torch.randn(2, 3, 64, 64, generator=rng)
    with torch.no_grad():
        found, expected = ours(x), theirs(x)
    torch.testing.assert_close(found.pooled, expected, rtol=1e-5, atol=1e-5)
    assert ours.dim == expected.shape[1] == {18: 512, 50: 2048}[depth]


def test_resnet_101_has_torchvisions_names_and_shapes():
    with torch.device("meta"):
        ours = Spec("encoder", "resnet", depth=101).build(RGB)
        theirs = torchvision.models.resnet101(weights=None)
    shapes = {name: value.shape for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes


def test_resnet_starts_each_block_as_the_identity():
    """zero_init: the residual branch is zero, so a block returns relu(shortcut)."""
    block = make("resnet", depth=18, stem="cifar", width=0.25).layer1[0].eval()
    x = torch.rand(2, 16, 8, 8)
    torch.testing.assert_close(block(x), x)
    assert not torch.equal(make("resnet", depth=18, width=0.25, zero_init=False).layer1[0].eval()(x), x)


def test_resnet_width_multiplies_every_stage():
    with torch.device("meta"):
        assert Spec("encoder", "resnet", depth=50, width=2.0).build(RGB).dim == 4096
    x = torch.rand(2, 3, 16, 16)
    widths = [layer.shape[1] for layer in _all_layers(make("resnet", depth=18, stem="cifar", width=0.25), x)]
    assert widths == [16, 16, 32, 64, 128]


def _all_layers(encoder, x):
    return encoder.eval().layers(x, encoder.layer_names())


def test_the_cifar_stem_keeps_the_places_of_small_images():
    x = torch.rand(1, 3, 32, 32)
    assert make("resnet", depth=18, stem="cifar", width=0.125).eval()(x).grid == (4, 4)
    assert make("resnet", depth=18, stem="imagenet", width=0.125).eval()(x).grid == (1, 1)


@pytest.mark.parametrize("kind", ["resnet", "convnet", "vit", "timm"])
def test_the_last_layer_is_the_pooled_feature(kind):
    settings = {
        "resnet": {"depth": 18, "width": 0.125},
        "vit": TINY,
        "timm": {"name": "resnet10t"},
    }.get(kind, {})
    encoder = make(kind, **settings).eval()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(encoder.layers(x, encoder.layer_names()[-1:])[0], encoder(x).pooled)


def test_an_unknown_layer_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        make("resnet", depth=18, width=0.125).layers(torch.rand(1, 3, 32, 32), ["layer44"])
    assert str(caught.value) == (
        "no layer named 'layer44'. Did you mean 'layer4'? Known: layer1, layer2, layer3, layer4, stem."
    )


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_vit_equals_timm_under_its_names(pool, rng):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=64, patch_size=16, global_pool=pool, fc_norm=False
    )
    randomise(theirs)
    ours = make(
        "vit",
        Facts(channels=3, shape=(64, 64)),
        patch=16,
        size="tiny",
        positions="learned",
        pooling={"token": "class", "avg": "mean"}[pool],
    ).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64, generator=rng)
    with torch.no_grad():
        torch.testing.assert_close(ours(x).pooled, theirs(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours(x).tokens, theirs.forward_features(x)[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 5.5), ("small", 21.7), ("base", 85.8)])
def test_vit_sizes_are_the_published_ones(size, millions):
    with torch.device("meta"):
        vit = Spec("encoder", "vit", size=size, positions="learned").build(Facts(channels=3, shape=(224, 224)))
    assert sum(p.numel() for p in vit.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("positions", ["sincos", "learned"])
def test_vit_takes_other_image_sizes(positions):
    vit = make("vit", **TINY, positions=positions).eval()
    assert vit(torch.rand(2, 3, 48, 24)).grid == (6, 3)


def test_vit_without_positions_would_not_see_where_patches_are():
    """Swapping two patches of the image changes the class token, so the positions are in."""
    vit = make("vit", **TINY).eval()
    x = torch.rand(1, 3, 32, 32)
    swapped = x.clone()
    swapped[..., :8, :8], swapped[..., 8:16, 8:16] = x[..., 8:16, 8:16], x[..., :8, :8]
    assert (vit(x).pooled - vit(swapped).pooled).abs().max() > 1e-4


def test_vit_keeps_only_the_tokens_that_are_asked_for():
    vit = make("vit", **TINY).eval()
    x = torch.rand(2, 3, 32, 32)
    everything = torch.arange(16).expand(2, 16)
    torch.testing.assert_close(vit(x, everything).pooled, vit(x).pooled)
    keep = torch.tensor([[0, 5, 9], [2, 3, 15]])
    found = vit(x, keep)
    assert found.tokens.shape == (2, 3, 32) and found.grid is None
    hidden = x.clone()
    hidden[0, :, 24:, 24:] = 0  # patch 15, which image 0 does not keep and image 1 does
    hidden[1, :, 24:, 24:] = 0
    moved = (vit(hidden, keep).pooled - found.pooled).abs().amax(dim=1)
    assert moved[0] == 0 and moved[1] > 0


def test_drop_path_acts_in_training_only():
    vit = make("vit", **TINY, drop_path=0.5)
    x = torch.rand(8, 3, 32, 32)
    torch.manual_seed(0)
    assert not torch.equal(vit(x).pooled, vit(x).pooled)
    vit.eval()
    assert torch.equal(vit(x).pooled, vit(x).pooled)


def test_vit_settings_that_do_not_fit_are_refused_together():
    with pytest.raises(RecipeError) as caught:
        Spec("encoder", "vit", width=30, heads=4, pooling="class", class_token=False).resolve()
    assert caught.value.faults == (
        "encoder: encoder 'vit' splits width=30 among heads=4, which does not divide it: choose a divisor",
        "encoder: encoder 'vit' with positions='sincos' needs a width that is a multiple of 4, found 30",
        "encoder: encoder 'vit' with pooling='class' needs class_token=true; without one use pooling='mean'",
    )


def test_an_image_that_does_not_divide_into_patches_is_refused():
    with pytest.raises(DataError) as caught:
        make("vit", **TINY)(torch.rand(1, 3, 30, 32))
    assert str(caught.value) == (
        "encoder 'vit' cuts images into patches of 8 pixels, which do not divide 30 x 32: "
        "resize or crop in the views, or choose another patch"
    )


def test_learned_positions_need_one_image_size():
    with pytest.raises(RecipeError, match=r"^encoder 'vit': positions='learned' needs images of one known size"):
        make("vit", Facts(channels=3), **TINY, positions="learned")


@pytest.mark.parametrize("kind", ["resnet", "convnet"])
def test_convolutions_cannot_drop_tokens(kind):
    with pytest.raises(RecipeError) as caught:
        make(kind)(torch.rand(1, 3, 32, 32), torch.zeros(1, 1, dtype=torch.int64))
    assert str(caught.value) == (
        f"encoder '{kind}' sees whole images and cannot drop tokens: leave `keep` out, or use encoder 'vit'"
    )


def test_timm_is_the_timm_model_itself(rng):
    timm = pytest.importorskip("timm")
    ours = make("timm", name="resnet10t").eval()
    theirs = timm.create_model("resnet10t", num_classes=0).eval()
    theirs.load_state_dict(ours.published.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=rng)
    assert torch.equal(ours(x).pooled, theirs(x))


def test_an_unknown_timm_model_is_answered_with_the_nearest():
    pytest.importorskip("timm")
    with pytest.raises(UnknownNameError, match=r"^no timm model named 'resnett18'\. Did you mean 'resnet18'\?"):
        make("timm", name="resnett18")


def test_without_timm_the_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError) as caught:
        make("timm", name="resnet18")
    assert str(caught.value) == (
        "encoder 'timm' with name='resnet18' needs the package 'timm', which is not installed: pip install 'tacit[vision]'"
    )
