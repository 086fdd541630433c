"""Encoders that see only some tokens, predictors of the others, attentive pooling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tacit.core.errors import DataError, RecipeError
from tacit.core.laws import check_encoder
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models.attentive import AttentivePooler, AttentiveProbe
from tacit.models.transformer import run_blocks

CLIPS = Facts(channels=2, shape=(4, 16, 16))
IMAGES = Facts(channels=2, shape=(16, 16))
TINY = {"patch": 4, "width": 24, "heads": 2, "depth": 2, "mlp_ratio": 2.0, "pooling": "mean", "class_token": False}


def encoder(facts=CLIPS, **settings):
    torch.manual_seed(0)
    tubelet = 2 if len(facts.shape) == 3 else None
    return Spec("encoder", "vit", tubelet=tubelet, **{**TINY, **settings}).resolve().build(facts).eval()


def predictor(**settings):
    torch.manual_seed(1)
    spec = Spec(
        "masked-predictor", "transformer", **{"width": 16, "depth": 2, "heads": 2, "mask_tokens": 2, **settings}
    )
    return spec.resolve().build(24, 24, (2, 4, 4)).eval()


@pytest.fixture
def clip(rng):
    return torch.randn(3, 2, 4, 16, 16, generator=rng)


@pytest.mark.parametrize("positions", ["sincos", "rope"])
def test_an_encoder_of_clips_obeys_the_laws_of_encoders(positions):
    def factory(facts):
        return Spec("encoder", "vit", tubelet=2, positions=positions, **TINY).resolve().build(facts)

    check_encoder(lambda facts: factory(CLIPS), facts=Facts(channels=2, shape=(4, 16, 16)))


@pytest.mark.parametrize("positions", ["sincos", "rope"])
@pytest.mark.parametrize("class_token", [False, True])
def test_all_tokens_by_name_are_no_mask_and_an_order_of_ids_is_an_order_of_tokens(clip, positions, class_token):
    model = encoder(positions=positions, class_token=class_token)
    order = torch.stack([torch.randperm(32) for _ in range(3)])
    with torch.no_grad():
        whole, named, mixed = model(clip), model(clip, torch.arange(32).expand(3, -1)), model(clip, order)
    assert whole.grid == (2, 4, 4) and named.grid is None
    torch.testing.assert_close(named.tokens, whole.tokens)
    torch.testing.assert_close(
        mixed.tokens, whole.tokens.gather(1, order[:, :, None].expand(-1, -1, 24)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("positions", ["sincos", "rope"])
@pytest.mark.parametrize("class_token", [False, True])
def test_seeing_some_tokens_is_a_block_mask_of_the_whole(clip, positions, class_token):
    """Visible tokens alone = all tokens, where no visible one may look at a hidden one."""
    model = encoder(positions=positions, class_token=class_token)
    keep = torch.stack([torch.randperm(32)[:9] for _ in range(3)])
    seen = torch.zeros(3, 32, dtype=torch.bool).scatter(1, keep, True)
    seen = F.pad(seen, (int(class_token), 0), value=True)
    with torch.no_grad():
        alone = model(clip, keep).tokens
        tokens = run_blocks(model.blocks, model.tokens(clip), model.rotary(clip), seen[:, None, None, :], False)
    whole = model.norm(tokens)[:, int(class_token) :]
    torch.testing.assert_close(alone, whole.gather(1, keep[:, :, None].expand(-1, -1, 24)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("class_token", [False, True])
def test_fillings_change_nothing(clip, class_token):
    model = encoder(positions="rope", class_token=class_token)
    keep = torch.stack([torch.randperm(32)[:9] for _ in range(3)])
    filled = torch.cat([keep, keep.new_full((3, 4), -1)], dim=1)
    with torch.no_grad():
        alone, padded = model(clip, keep), model(clip, filled, padded=True)
    torch.testing.assert_close(padded.tokens[:, :9], alone.tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded.pooled, alone.pooled, rtol=1e-4, atol=1e-5)


def test_saving_memory_changes_no_gradient(clip):
    slopes = []
    for save in (False, True):
        model = encoder(positions="rope", save_memory=save).train()
        model(clip).pooled.square().sum().backward()
        slopes.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))


def test_a_still_image_is_a_clip_of_one_tubelet(clip):
    model = encoder(positions="rope")
    image = clip[:, :, 0]
    with torch.no_grad():
        assert torch.equal(model(image).tokens, model(image[:, :, None].expand(-1, -1, 2, -1, -1)).tokens)
    assert model(image).grid == (1, 4, 4)


def test_more_frames_continue_the_positions_of_fewer(clip):
    """No frame is stretched: the first tubelet of a longer clip has the positions it had."""
    model = encoder(positions="sincos")
    with torch.no_grad():
        short, long = model.tokens(clip[:, :, :2]), model.tokens(clip)
    torch.testing.assert_close(short, long[:, :16])


def test_odd_frames_and_images_without_a_tubelet_are_refused(clip):
    with pytest.raises(
        DataError, match=r"tubelets of 2 frames, which do not divide 3 frames: choose another number of frames"
    ):
        encoder()(clip[:, :, :3])
    with pytest.raises(
        DataError,
        match=r"with tubelet=None takes images, found samples of shape \[4, 16, 16\]: set tubelet=2 for clips",
    ):
        encoder(IMAGES)(clip)
    with pytest.raises(RecipeError, match="turns pairs of channels and needs heads of even width, found 3"):
        Spec("encoder", "vit", positions="rope", width=12, heads=4).resolve()
    with pytest.raises(RecipeError, match="has learned positions for images alone"):
        Spec("encoder", "vit", positions="learned", tubelet=2).resolve()


def test_tapped_layers_end_in_the_output_and_branches_add_up(clip):
    model = encoder(positions="rope")
    with torch.no_grad():
        tokens, taps, branches = model(clip).tokens, model.layer_tokens(clip, [0, 1]), model.branches(clip, 2)
        assert torch.equal(taps[1], tokens) and not torch.equal(taps[0], taps[1])
        x, rotary = model.tokens(clip), model.rotary(clip)
        x = model.blocks[0](x, rotary)
        middle = x + model.blocks[1].attn(model.blocks[1].norm1(x), rotary)
        torch.testing.assert_close(model.norm(middle + branches[1]), tokens)


@pytest.mark.parametrize(("name", "millions"), [("large", 303.9), ("huge", 632), ("giant", 1012), ("giant22", 1012)])
def test_sizes_are_the_published_ones(name, millions):
    with torch.device("meta"):
        model = Spec("encoder", "vit", size=name, tubelet=2, positions="rope", pooling="mean", class_token=False).build(
            Facts(channels=3, shape=(16, 256, 256))
        )
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(("init", "stds"), [("normal", (0.02, 0.02)), ("rescaled", (0.0141, 0.01))])
def test_the_last_maps_of_deeper_blocks_start_smaller_where_they_are_rescaled(init, stds):
    model = encoder(width=96, depth=2, init=init)
    for block, std in zip(model.blocks, stds, strict=True):
        assert float(block.mlp.fc2.weight.detach().std()) == pytest.approx(std, rel=0.05)
        assert float(block.mlp.fc1.weight.detach().std()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("positions", ["sincos", "rope"])
def test_a_predictor_does_not_mind_the_order_of_what_it_sees_and_keeps_that_of_what_it_predicts(rng, positions):
    model = predictor(positions=positions, token_init="normal")
    places = torch.stack([torch.randperm(32, generator=rng) for _ in range(2)])
    at, to = places[:, :20], places[:, 20:]
    tokens, order = torch.randn(2, 20, 24, generator=rng), torch.randperm(20)
    with torch.no_grad():
        first = model(tokens, at, to)
        torch.testing.assert_close(model(tokens[:, order], at[:, order], to), first, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(tokens, at, to.flip(1)), first.flip(1), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(model(tokens, at, to, mask_index=1), first)
        filled = F.pad(tokens, (0, 0, 0, 3), value=9.0), F.pad(at, (0, 3), value=-1), F.pad(to, (0, 2), value=-1)
        torch.testing.assert_close(model(*filled, padded=True)[:, :12], first, rtol=1e-4, atol=1e-5)


def test_a_predictor_sees_tokens_without_a_place(rng):
    model = predictor(positions="rope", token_init="normal")
    tokens, extra = torch.randn(2, 5, 24, generator=rng), torch.randn(2, 1, 24, generator=rng)
    at, to = torch.arange(5).expand(2, -1), torch.arange(5, 9).expand(2, -1)
    with torch.no_grad():
        assert not torch.allclose(model(tokens, at, to, extra=extra), model(tokens, at, to, extra=-extra))


@pytest.mark.compile
def test_encoder_and_predictor_compile_without_graph_breaks(clip):
    model, head = encoder(positions="rope", compat="official"), predictor(positions="rope", token_init="normal")
    keep, to = torch.arange(0, 20).expand(3, -1), torch.arange(20, 32).expand(3, -1)

    def both(x, keep, to):
        return head(model(x, keep).tokens, keep, to)

    with torch.no_grad():
        found = torch.compile(both, backend="eager", fullgraph=True)(clip, keep, to)
        torch.testing.assert_close(found, both(clip, keep, to))


def direct(pooler, x):
    """The cross-attention as it is written in the papers: keys and values of every token."""
    block, heads = pooler.cross_attention_block, pooler.cross_attention_block.heads
    n, t, d = x.shape
    q = block.xattn.q(pooler.query_tokens.expand(n, -1, -1)).reshape(n, -1, heads, d // heads).transpose(1, 2)
    k, v = block.xattn.kv(block.norm1(x)).reshape(n, t, 2, heads, d // heads).permute(2, 0, 3, 1, 4)
    out = pooler.query_tokens + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1, d)
    return out + block.mlp(block.norm2(out))


@pytest.mark.parametrize("queries", [1, 3])
def test_folding_the_key_map_into_the_query_is_the_same_attention(rng, queries):
    torch.manual_seed(0)
    pooler = AttentivePooler(24, 4, queries=queries).double()
    for p in pooler.parameters():
        torch.nn.init.normal_(p, std=0.4)
    x = torch.randn(3, 11, 24, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(pooler(x), direct(pooler, x))
    assert pooler(x).shape == (3, queries, 24)


@pytest.mark.parametrize("depth", [1, 3])
def test_pooling_does_not_mind_the_order_of_tokens_nor_those_that_are_masked(rng, depth):
    torch.manual_seed(0)
    pooler = AttentivePooler(24, 4, depth)
    x = torch.randn(3, 11, 24, generator=rng)
    torch.testing.assert_close(pooler(x.flip(1)), pooler(x), rtol=1e-4, atol=1e-5)
    mask = torch.arange(11).expand(3, -1) < 7
    torch.testing.assert_close(pooler(x, mask), pooler(x[:, :7]), rtol=1e-4, atol=1e-5)


def test_a_probe_of_several_tasks_reads_one_query_a_task(rng):
    probe = AttentiveProbe(24, {"verb": 3, "noun": 5}, heads=4)
    found = probe(torch.randn(2, 7, 24, generator=rng))
    assert {task: logits.shape for task, logits in found.items()} == {"verb": (2, 3), "noun": (2, 5)}
    assert {"pooler.query_tokens", "verb_classifier.weight", "pooler.cross_attention_block.xattn.kv.bias"} <= set(
        probe.state_dict()
    )


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(
        RecipeError, match="found width 24, heads 5, depth 1, queries 1: choose heads that divide the width"
    ):
        AttentivePooler(24, 5)
