"""Fixed positions at another size: computed anew, or interpolated so that they span the range of the encoder's own grid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.ops.positions import resample_grid, sincos_grid


def vit(resize, frames=8, size=32):
    torch.manual_seed(0)
    encoder = Spec(
        "encoder",
        "vit",
        patch=8,
        tubelet=2,
        width=24,
        depth=1,
        heads=2,
        pooling="mean",
        class_token=False,
        resize=resize,
    )
    return encoder.resolve().build(Facts(channels=1, shape=(frames, size, size))).eval()


def test_resampling_keeps_what_varies_linearly_and_the_same_grid():
    t, h, w = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), torch.arange(4.0), indexing="ij")
    table = torch.stack([t, h + w], dim=-1).flatten(0, 2)
    assert torch.equal(resample_grid(table, (4, 4, 4), (4, 4, 4)), table)
    wide = resample_grid(table, (4, 4, 4), (8, 4, 4)).reshape(8, 4, 4, 2)
    torch.testing.assert_close(
        wide[1:-1, 0, 0, 0], (torch.arange(8.0)[1:-1] + 0.5) / 2 - 0.5
    )  # places of half the distance
    assert torch.allclose(wide[..., 1], (h + w)[:1].expand(8, -1, -1))
    plane = torch.stack([h[0], w[0]], dim=-1).flatten(0, 1)
    assert resample_grid(plane, (4, 4), (6, 8)).shape == (48, 2)


@pytest.mark.parametrize("resize", ["anew", "interpolated"])
@torch.no_grad()
def test_an_encoder_takes_longer_and_larger_clips_by_its_rule(resize):
    network, x = vit(resize), torch.randn(2, 1, 16, 48, 48)
    grid, own = (8, 6, 6), (4, 4, 4)
    table = sincos_grid(grid, 24)
    if resize == "interpolated":
        volume = sincos_grid(own, 24).T.reshape(1, 24, *own)
        table = (
            F.interpolate(volume, scale_factor=(2.0, 1.5, 1.5), mode="trilinear")[0].flatten(1).T
        )  # as V-JEPA's code
    torch.testing.assert_close(network.tokens(x), network.patch_embed(x) + table)
    assert network(x).grid == grid
    small = torch.randn(2, 1, 8, 32, 32)
    assert torch.equal(network(small).tokens, vit("anew")(small).tokens)  # at its own size there is one rule


@torch.no_grad()
def test_a_predictor_follows_its_encoder():
    spec = Spec("masked-predictor", "transformer", width=24, depth=1, heads=2)
    at, to = torch.arange(10)[None], torch.arange(10, 20)[None]
    tokens, found = torch.randn(1, 10, 24), {}
    for resize in ("anew", "interpolated"):
        torch.manual_seed(0)
        predictor = spec.change(resize=resize).resolve().build(24, 24, (4, 4, 4)).eval()
        found[resize] = predictor(tokens, at, to, grid=(8, 4, 4))
        found[f"{resize} own"] = predictor(tokens, at, to)
    assert torch.equal(found["anew own"], found["interpolated own"]) and not torch.allclose(
        found["anew"], found["interpolated"]
    )
