"""Published JEPA files: strict key tables, both directions, and outputs equal to transformers where it computes the same thing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tacit.core.errors import CheckpointError, UnknownNameError
from tacit.models import editions
from tacit.models.attentive import AttentiveProbe
from tacit.models.editions import EDITIONS, Edition, find_edition, parts_of, recognise, system_spec, to_official
from tacit.models.editions_hub import is_hub_folder, read_hub, write_hub
from tacit.models.probes import probe_of
from tacit.models.weights import read_file

TINY = {"width": 36, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "patch": 8}
SMALL = {"width": 24, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
VIDEO = Edition("vjepa2", "tiny.pt", 32, TINY, SMALL, frames=4, tokens=3)
OLD = Edition("vjepa", "tiny.pth.tar", 32, TINY, SMALL, frames=4, tokens=2)
IMAGE = Edition("ijepa", "tiny.pth.tar", 32, TINY, SMALL)


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return module.eval()


def made(edition):
    """A system with random weights, and the content of the file that holds them in the published form."""
    system = randomise(system_spec(edition).build(editions.encoder_facts(edition)))
    state = system.state_dict()

    def under(prefix):
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

    parts = editions.Parts(edition, under("encoder."), under("target.encoder."), under("predictor."))
    content = to_official(parts)
    return system, {**content, "opt": {}, "epoch": 3, "loss": 0.5, "batch_size": 2, "world_size": 1, "lr": 0.1}


@pytest.mark.parametrize("edition", [VIDEO, OLD, IMAGE], ids=["vjepa2", "vjepa", "ijepa"])
def test_a_file_in_the_published_form_gives_back_every_tensor(edition, tmp_path):
    system, content = made(edition)
    torch.save(content, tmp_path / "file.pth.tar")
    parts = parts_of(read_file(tmp_path / "file.pth.tar"), edition, tmp_path / "file.pth.tar")
    other = system_spec(edition).build(editions.encoder_facts(edition))
    other.load_state_dict(parts.system(), strict=True)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in system.state_dict().items())
    assert set(parts.left) >= {"opt", "epoch"}
    assert torch.equal(parts.encoder()["norm.bias"], system.target.encoder.norm.bias)
    assert torch.equal(parts.encoder("student")["norm.bias"], system.encoder.norm.bias)


def test_the_names_are_those_of_the_published_files():
    names = set(made(OLD)[1]["predictor"])
    assert {"module.backbone.mask_tokens.1", "module.backbone.predictor_pos_embed"} <= names
    assert "module.backbone.predictor_blocks.0.attn.qkv.weight" in names
    image = made(IMAGE)[1]
    assert {"module.pos_embed", "module.patch_embed.proj.weight"} <= set(image["encoder"])
    assert {"module.mask_token", "module.predictor_embed.bias"} <= set(image["predictor"])
    assert "module.backbone.pos_embed" not in made(VIDEO)[1]["encoder"]


def test_v_jepa_2_files_may_hold_position_tables_that_nothing_reads():
    content = made(VIDEO)[1]
    content["encoder"]["module.backbone.pos_embed"] = torch.zeros(1, 3, 36)
    assert "encoder.pos_embed" in parts_of(content, VIDEO, Path("x.pt")).left


def test_another_architecture_is_refused_with_a_report():
    content = made(VIDEO)[1]
    deeper = Edition("vjepa2", "tiny.pt", 32, {**TINY, "depth": 3}, SMALL, frames=4, tokens=3)
    with pytest.raises(
        CheckpointError,
        match=r"28 of 40 tensors fit; 12 missing \(blocks\.2\.norm1\.weight; .*\); 0 unknown; 0 of another",
    ):
        parts_of(content, deeper, Path("x.pt"))
    wider = Edition("vjepa2", "tiny.pt", 32, {**TINY, "width": 48}, SMALL, frames=4, tokens=3)
    with pytest.raises(
        CheckpointError,
        match=r"of another shape \(.* is \[36, 3, 2, 8, 8\] in the file and \[48, 3, 2, 8, 8\] in the edition",
    ):
        parts_of(content, wider, Path("x.pt"))
    content["encoder"]["module.backbone.cls_token"] = torch.zeros(1, 1, 36)
    with pytest.raises(CheckpointError, match=r"1 unknown \(cls_token\)"):
        parts_of(content, VIDEO, Path("x.pt"))


def test_positions_of_another_input_size_are_refused():
    content = made(OLD)[1]
    content["encoder"]["module.backbone.pos_embed"] = torch.zeros(1, 8, 36)
    with pytest.raises(
        CheckpointError,
        match=r"not the fixed table of the edition \[32, 36\]: the file was written for another input size",
    ):
        parts_of(content, OLD, Path("x.pt"))


def test_what_is_no_such_file_is_refused():
    with pytest.raises(
        CheckpointError, match="has the entries encoder, predictor and target_encoder, found state_dict"
    ):
        parts_of({"state_dict": {}}, OLD, Path("x.pt"))
    with pytest.raises(UnknownNameError, match=r"no edition named 'vjepa2-vitx'. Did you mean 'vjepa2-vit"):
        find_edition("vjepa2-vitx")


@pytest.mark.parametrize("name", list(EDITIONS))
def test_every_edition_has_the_published_size_and_is_recognised_by_shapes(name):
    edition = EDITIONS[name]
    with torch.device("meta"):
        encoder = editions.encoder_spec(edition).build(editions.encoder_facts(edition))
    millions = sum(p.numel() for p in encoder.parameters()) / 1e6
    known = {"large": 304, "huge": 632, "giant": 1012, "giant22": 1012}[edition.encoder["size"]]
    assert millions == pytest.approx(known, rel=0.01)
    state = {f"module.backbone.{key}": value for key, value in encoder.state_dict().items()}
    tokens = {"mask_token": 0} if edition.family == "ijepa" else {f"mask_tokens.{i}": 0 for i in range(edition.tokens)}
    if edition.predictor is None:
        tokens = {"module.action_encoder.weight": 0}
    if edition.family != "vjepa2":
        grid = encoder.grid_of(*editions.encoder_facts(edition).shape)
        state["module.backbone.pos_embed"] = torch.empty(
            1, torch.tensor(grid).prod().item(), encoder.dim, device="meta"
        )
    found = recognise({"encoder": state, "predictor": tokens})
    same = {
        "ijepa-vith14-22k": "ijepa-vith14",
        "vjepa2-vitg-384": "vjepa2-vitg",
    }  # one architecture, other data or input size
    assert found == same.get(name, name)


def test_the_predictor_of_v_jepa_2_has_22_million_parameters():
    with torch.device("meta"):
        predictor = editions.predictor_spec(EDITIONS["vjepa2-vitl"]).build(1024, 1024, (32, 16, 16))
    assert sum(p.numel() for p in predictor.parameters()) / 1e6 == pytest.approx(22, rel=0.02)


def _video_model(probe=False):
    transformers = pytest.importorskip("transformers")
    config = transformers.VJEPA2Config(
        crop_size=32, patch_size=8, frames_per_clip=4, hidden_size=36, num_attention_heads=2, num_hidden_layers=2, mlp_ratio=2.0,
        num_pooler_layers=2, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=2, pred_mlp_ratio=2.0,
        pred_num_mask_tokens=3, num_labels=5,
    )  # fmt: skip
    return randomise((transformers.VJEPA2ForVideoClassification if probe else transformers.VJEPA2Model)(config))


def test_encoder_and_predictor_equal_transformers(tmp_path, rng):
    theirs = _video_model()
    theirs.save_pretrained(tmp_path)
    assert is_hub_folder(tmp_path)
    parts, probe = read_hub(tmp_path)
    assert probe is None
    ours = system_spec(parts.edition).build(editions.encoder_facts(parts.edition)).eval()
    ours.load_state_dict(parts.system())
    clip = torch.randn(2, 3, 4, 32, 32, generator=rng)
    context = torch.stack([torch.randperm(32, generator=rng)[:11] for _ in range(2)])
    target = torch.stack([torch.randperm(32, generator=rng)[:7] for _ in range(2)])
    with torch.no_grad():
        expected = theirs(clip.transpose(1, 2), context_mask=[context], target_mask=[target])
        tokens = ours.encoder(clip).tokens
        seen = tokens.gather(1, context[:, :, None].expand(-1, -1, 36))  # their port hides tokens after encoding
        predicted = ours.predictor(seen, context, target, mask_index=1)
    torch.testing.assert_close(tokens, expected.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(predicted, expected.predictor_output.last_hidden_state, rtol=0, atol=1e-5)


def test_pooler_and_classifier_equal_transformers_and_go_back(tmp_path, rng):
    import transformers

    theirs = _video_model(probe=True)
    theirs.save_pretrained(tmp_path / "theirs")
    parts, probe = read_hub(tmp_path / "theirs")
    ours = editions.encoder_spec(parts.edition).build(editions.encoder_facts(parts.edition)).eval()
    ours.load_state_dict(parts.encoder())
    clip = torch.randn(2, 3, 4, 32, 32, generator=rng)
    write_hub(parts, tmp_path / "back", probe)
    back = transformers.VJEPA2ForVideoClassification.from_pretrained(tmp_path / "back").eval()
    with torch.no_grad():
        logits, expected = probe(ours(clip).tokens), theirs(clip.transpose(1, 2)).logits
        again = back(clip.transpose(1, 2)).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(again, expected, rtol=0, atol=0)


@pytest.mark.parametrize("fixed", [True, False])
def test_i_jepa_equals_transformers_and_goes_back(tmp_path, rng, fixed):
    transformers = pytest.importorskip("transformers")
    config = transformers.IJepaConfig(
        hidden_size=36,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=72,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    theirs = randomise(transformers.IJepaModel(config))
    if fixed:
        theirs.embeddings.position_embeddings.data.copy_(editions.sincos_grid((4, 4), 36, "official")[None])
    theirs.save_pretrained(tmp_path / "theirs")
    parts, _ = read_hub(tmp_path / "theirs")
    spec = editions.encoder_spec(parts.edition)
    assert spec["positions"] == ("sincos" if fixed else "learned")
    ours = spec.build(editions.encoder_facts(parts.edition)).eval()
    ours.load_state_dict(parts.encoder())
    image = torch.randn(2, 3, 32, 32, generator=rng)
    write_hub(parts, tmp_path / "back")
    back = transformers.IJepaModel.from_pretrained(tmp_path / "back").eval()
    with torch.no_grad():
        expected = theirs(image).last_hidden_state
        torch.testing.assert_close(ours(image).tokens, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(back(image).last_hidden_state, expected, rtol=0, atol=1e-6)


def test_a_folder_with_a_missing_tensor_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    _video_model().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["encoder.layer.1.norm1.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"1 tensors missing \(encoder\.layer\.1\.norm1\.bias\), 0 unknown \(none\)"
    ):
        read_hub(tmp_path)


@pytest.mark.parametrize(("depth", "classes"), [(1, 7), (4, {"verb": 3, "noun": 4, "action": 5})])
def test_published_probes_load_by_their_shapes(depth, classes, tmp_path, rng):
    """V-JEPA's file has a projection that its forward pass never used; V-JEPA 2's holds a list."""
    probe = randomise(AttentiveProbe(32, classes, heads=4, depth=depth, mlp_ratio=4.0))
    state = {f"module.{name}": value for name, value in probe.state_dict().items()}
    if depth == 1:
        state["module.pooler.cross_attention_block.xattn.proj.weight"] = torch.zeros(32, 32)
        state["module.pooler.cross_attention_block.xattn.proj.bias"] = torch.zeros(32)
    torch.save({"classifier": state} if depth == 1 else {"classifiers": [state], "epoch": 2}, tmp_path / "probe.pt")
    loaded = probe_of(read_file(tmp_path / "probe.pt"), tmp_path / "probe.pt", heads=4)
    x = torch.randn(2, 9, 32, generator=rng)
    with torch.no_grad():
        expected, found = probe(x), loaded(x)
    for task in classes if depth > 1 else [None]:
        assert torch.equal(expected[task], found[task]) if task else torch.equal(expected, found)


def test_a_file_without_a_probe_is_refused():
    with pytest.raises(
        CheckpointError, match="holds its classifier under 'classifier' or 'classifiers', found encoder"
    ):
        probe_of({"encoder": {}}, Path("x.pt"))
