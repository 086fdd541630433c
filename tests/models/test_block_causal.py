"""The action-conditioned predictor: causal over frames, as the published code computes it, and the same with a remembered past."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.models.block_causal import BlockCausal

N, T, GRID, D = 2, 4, (2, 3), 8


def made(**settings):
    torch.manual_seed(0)
    module = BlockCausal(D, GRID, width=32, depth=2, heads=2, **settings).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    return module


def given(rng, n=N, t=T, k=6):
    return torch.randn(n, t, k, D, generator=rng), *(torch.randn(n, t, 7, generator=rng) for _ in range(2))


def turned(x, place, size, official):
    """One channel segment at a position, number by number."""
    out = x.clone()
    for i in range(0, size, 2):
        angles = [
            place * 10000 ** -((c % (size // 2) if official else i // 2) / (size // 2)) for c in (i, i + 1)
        ]  # the published angles are tiled: two channels of a pair get different ones
        out[i] = x[i] * math.cos(angles[0]) - x[i + 1] * math.sin(angles[0])
        out[i + 1] = x[i + 1] * math.cos(angles[1]) + x[i] * math.sin(angles[1])
    return out


def plainly(model, z, a, s, e=None, official=False, scale=(1.0, 1.0), columns=3):
    """The whole predictor, token by token, with one dense mask."""
    n, t, k, _ = z.shape
    beside = [model.action(a), model.state(s)] + ([] if e is None else [model.camera(e)])
    c = len(beside)
    x = torch.cat([torch.stack(beside, 2), model.embed(z)], 2).flatten(1, 2)
    m, heads = c + k, model.heads
    mask = torch.tensor([[i // m >= j // m for j in range(t * m)] for i in range(t * m)])
    for block in model.blocks:
        y = F.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias, 1e-6)
        q, key, v = (y @ block.attn.qkv.weight.T + block.attn.qkv.bias).chunk(3, -1)
        q, key, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, key, v))
        size = 2 * (q.shape[-1] // 3 // 2)
        for one in (q, key):
            for i in range(t * m):
                frame, token = divmod(i, m)
                patch = token - c
                places = (
                    (frame, 0, 0) if patch < 0 else (frame, patch // columns * scale[0], patch % columns * scale[1])
                )
                for row in range(n):
                    for head in range(heads):
                        for axis, place in enumerate(places):
                            own = slice(axis * size, (axis + 1) * size)
                            one[row, head, i, own] = turned(one[row, head, i, own].clone(), place, size, official)
        scores = (q @ key.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask, -math.inf)
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ block.attn.proj.weight.T + block.attn.proj.bias
        x = x + block.mlp(block.norm2(x))
    return model.proj(model.norm(x.unflatten(1, (t, m))[:, :, c:]))


@torch.no_grad()
@pytest.mark.parametrize("compat", ["official", "correct"])
@pytest.mark.parametrize("camera", [False, True])
def test_equals_the_sum_written_out_token_by_token(rng, compat, camera):
    model, (z, a, s) = made(compat=compat, camera=camera), given(rng, t=3)
    e = torch.randn(N, 3, 6, generator=rng) if camera else None
    expected = plainly(model, z, a, s, e, official=compat == "official")
    torch.testing.assert_close(model(z, a, s, e), expected, rtol=0, atol=2e-5)


@torch.no_grad()
def test_rows_and_columns_count_in_units_of_the_grid_of_training(rng):
    model, (z, a, s) = made(), given(rng, n=1, t=2, k=24)
    found = model(z, a, s, grid=(4, 6))
    torch.testing.assert_close(found, plainly(model, z, a, s, scale=(0.5, 0.5), columns=6), rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("compat", ["official", "correct"])
def test_later_frames_actions_and_states_do_not_change_earlier_predictions(rng, compat):
    model, (z, a, s) = made(compat=compat), given(rng)
    whole = model(z, a, s)
    torch.testing.assert_close(model(z[:, :2], a[:, :2], s[:, :2]), whole[:, :2], rtol=0, atol=1e-5)
    for changed in (z, a, s):
        changed[:, 2] += 1
    again = model(z, a, s)
    torch.testing.assert_close(again[:, :2], whole[:, :2], rtol=0, atol=1e-5)
    assert (again[:, 2:] - whole[:, 2:]).abs().amin((0, 2, 3)).max() > 0


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 2])
def test_steps_that_remember_equal_the_whole(rng, window):
    model, (z, a, s) = made(window=window), given(rng)
    whole, past, found = model(z, a, s), None, []
    for part in (slice(0, 2), slice(2, 3), slice(3, 4)):
        out, past = model.step(z[:, part], a[:, part], s[:, part], past=past)
        found.append(out)
    assert past.length == T
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_context_stands_for_many_sequences_of_actions(rng):
    model, (z, a, s) = made(), given(rng)
    _, past = model.step(z[:, :2], a[:, :2], s[:, :2])
    many, states = (torch.randn(N * 5, 1, 7, generator=rng) for _ in range(2))
    shared, _ = model.step(z[:, 2:3], many, states, past=past)
    rows = [one.repeat_interleave(5, 0) for one in (z[:, :3], a[:, :2], s[:, :2])]
    whole = model(rows[0], torch.cat([rows[1], many], 1), torch.cat([rows[2], states], 1))
    torch.testing.assert_close(shared, whole[:, -1:], rtol=0, atol=1e-5)
    with pytest.raises(DataError, match="9 sequences of actions do not split over 2 contexts"):
        model.step(z[:, 2:3], many[:9], states[:9], past=past)


@torch.no_grad()
def test_a_window_hides_older_frames(rng):
    model, (z, a, s) = made(window=1), given(rng)
    z[:, 0] += 1
    alone, _ = model.step(z[:, :1], a[:, :1], s[:, :1])
    torch.testing.assert_close(model(z, a, s)[:, :1], alone, rtol=0, atol=1e-6)
    before = model(z, a, s)[:, 1:]
    z[:, 0] += 1
    assert torch.equal(model(z, a, s)[:, 1:], before)


def test_memory_saved_is_the_same_gradient(rng):
    grads = []
    for save in (False, True):
        model, (z, a, s) = made(save_memory=save).train(), given(torch.Generator().manual_seed(1))
        model(z, a, s).square().mean().backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(x, y, atol=1e-7) for x, y in zip(*grads, strict=True))


def test_the_published_size_and_the_map_that_nothing_uses():
    with torch.device("meta"):
        model = Spec("action-predictor", "block-causal", compat="official").build(1408, (16, 16))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(305, rel=0.002)
    assert not model.camera.weight.requires_grad and model.conditions == 2
    assert made().camera is None and made(state=False).conditions == 1


def test_what_does_not_fit_is_refused(rng):
    model, (z, a, s) = made(camera=True), given(rng)
    with pytest.raises(DataError, match=r"found 4 frames, 3 actions and 4 states"):
        model(z, a[:, 1:], s)
    with pytest.raises(
        DataError, match=r"has a token of the camera's pose and the data have none: set predictor.camera=false"
    ):
        model(z, a, s)
    with pytest.raises(RecipeError, match="splits width=30 among heads=4, which does not divide it"):
        Spec("action-predictor", "block-causal", width=30, heads=4).resolve()


@pytest.mark.compile
def test_compiles_without_a_graph_break(rng):
    model, (z, a, s) = made(), given(rng)
    found = torch.compile(model, backend="eager", fullgraph=True)(z, a, s)
    torch.testing.assert_close(found, model(z, a, s))
