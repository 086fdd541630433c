"""Checkpoints of other code bases, in the form each writes: recognised, read strictly, and written back."""

from __future__ import annotations

import argparse
import re

import pytest
import torch

from tacit.core.errors import CheckpointError, UnknownNameError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models import load_weights
from tacit.models.releases import RELEASES, read_release, recognise, wrap

HEADS = {  # what each family has beside the encoder, whole names
    "vicreg": ("module.projector.0.weight", "module.projector.6.weight"),
    "ffcv-ssl": ("module.projector.0.0.weight", "module.probes.0.weight"),
    "swav": ("module.projection_head.0.weight", "module.prototypes.weight"),
    "moco": ("module.encoder_q.fc.0.weight", "module.encoder_k.fc.0.weight", "module.queue", "module.queue_ptr"),
    "moco-v3": ("module.base_encoder.fc.0.weight", "module.momentum_encoder.fc.0.weight", "module.predictor.0.weight"),
    "simsiam": ("module.encoder.fc.0.weight", "module.predictor.0.weight"),
    "solo-learn": ("projector.0.weight", "momentum_projector.0.weight", "classifier.weight", "queue"),
    "lightly": ("projection_head.layers.0.weight", "online_classifier.linear.weight"),
    "stable-pretraining": ("projector.0.weight", "callbacks_modules.probe.weight"),
    "mae": ("decoder_embed.weight", "decoder_blocks.0.norm1.weight", "mask_token"),
    "vissl": (),  # its heads lie in a table beside the trunk
}
TREES = {"vicreg": "model", "ffcv-ssl": "model", "swav": None, "mae": "model"}


def network(seed: int):
    torch.manual_seed(seed)
    return Spec("encoder", "convnet", widths=(4, 6)).build(Facts(channels=3))


def equal(one, two) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def written(family: str, student, teacher=None) -> dict:
    """A training checkpoint as the family's code writes it."""
    branches = RELEASES[family].branches
    table = {branches["student"][1] + name: value for name, value in student.state_dict().items()}
    if "teacher" in branches and teacher is not None:
        table |= {branches["teacher"][1] + name: value for name, value in teacher.state_dict().items()}
    table |= {name: torch.ones(2, 2) for name in HEADS[family]}
    if family == "vissl":
        model = {"trunk": table, "heads": {"0.clf.0.weight": torch.ones(2, 2)}}
        return {"phase_idx": 3, "classy_state_dict": {"base_model": {"model": model, "meta": {}}}}
    tree = TREES.get(family, "state_dict")
    return table if tree is None else {tree: table, "epoch": 3, "optimizer": {"state": {0: torch.ones(1)}}}


@pytest.mark.parametrize("family", HEADS)
def test_a_training_checkpoint_gives_its_encoder(family, tmp_path):
    theirs, other = network(1), network(2)
    torch.save(written(family, theirs, other), tmp_path / "c.pth")
    ours = network(3)
    match = load_weights(ours, tmp_path / "c.pth", release=family)
    assert equal(ours, theirs) and match.missing == match.unexpected == ()


@pytest.mark.parametrize(
    "family", ["vicreg", "ffcv-ssl", "swav", "moco", "moco-v3", "simsiam", "solo-learn", "mae", "vissl"]
)
def test_the_family_is_recognised(family):
    assert recognise(written(family, network(1), network(2))) == family


def test_a_bare_or_only_wrapped_network_needs_no_family(tmp_path):
    bare = network(1).state_dict()
    assert recognise(bare) is None
    assert recognise({f"module.{name}": value for name, value in bare.items()}) is None
    torch.save({"state_dict": {f"backbone.{name}": value for name, value in bare.items()}}, tmp_path / "c.pth")
    ours = network(2)
    load_weights(ours, tmp_path / "c.pth")
    assert equal(ours, network(1))


@pytest.mark.parametrize("family", ["moco", "moco-v3", "solo-learn"])
def test_the_teacher_is_the_other_branch(family, tmp_path):
    student, teacher = network(1), network(2)
    torch.save(written(family, student, teacher), tmp_path / "c.pth")
    ours = network(3)
    load_weights(ours, tmp_path / "c.pth", branch="teacher")
    assert equal(ours, teacher)


def test_dino_gives_the_teacher_and_settings_beside_it_are_no_obstacle(tmp_path):
    student, teacher = network(1), network(2)
    content = {
        "student": {f"module.backbone.{n}": v for n, v in student.state_dict().items()}
        | {"module.head.mlp.0.weight": torch.ones(1)},
        "teacher": {f"backbone.{n}": v for n, v in teacher.state_dict().items()} | {"head.mlp.0.weight": torch.ones(1)},
        "args": argparse.Namespace(arch="vit_small", lr=0.1),
        "epoch": 100,
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    ours = network(3)
    load_weights(ours, tmp_path / "checkpoint.pth")
    assert recognise(content) == "dino" and equal(ours, teacher)
    load_weights(ours, tmp_path / "checkpoint.pth", branch="student")
    assert equal(ours, student)


@pytest.mark.parametrize("family", RELEASES)
def test_what_is_written_back_is_read_again(family, tmp_path):
    tensors = {
        "blocks.0.mlp.fc1.weight": torch.randn(8, 4),
        "blocks.0.mlp.fc2.weight": torch.randn(4, 8),
        "norm.weight": torch.randn(4),
    }
    content = wrap(tensors, family)
    again = read_release(content, tmp_path / "x.pth", family)
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_tensors_without_a_place_are_refused(tmp_path):
    content = written("moco", network(1), network(2))
    content["state_dict"]["module.decoder.weight"] = torch.ones(1)
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(
        CheckpointError,
        match=re.escape(
            "c.pth: 1 tensors have no place in a checkpoint of moco, the first is module.decoder.weight. "
            "Choose the family that wrote it"
        ),
    ):
        load_weights(network(1), tmp_path / "c.pth", release="moco")


def test_the_wrong_family_and_branch_are_refused(tmp_path):
    torch.save(written("simsiam", network(1)), tmp_path / "c.pth")
    with pytest.raises(
        CheckpointError, match=r"is no checkpoint of moco: it has no name that starts with 'module\.encoder_q\.'"
    ):
        load_weights(network(1), tmp_path / "c.pth", release="moco")
    with pytest.raises(CheckpointError, match=r"is no checkpoint of dino: it has no table of tensors 'teacher'"):
        load_weights(network(1), tmp_path / "c.pth", release="dino")
    with pytest.raises(CheckpointError, match=r"checkpoints of simsiam have a student, no teacher"):
        load_weights(network(1), tmp_path / "c.pth", branch="teacher")
    with pytest.raises(UnknownNameError, match=r"no family of checkpoints named 'mocov2'\. Did you mean 'moco"):
        load_weights(network(1), tmp_path / "c.pth", release="mocov2")


WIDTH, HEADS_OF, DEPTH, PATCHES = 16, 2, 2, 4


def dinov2_table(registers: int, gated: bool) -> dict:
    """Random weights under DINOv2's published names; a gated network has chunked blocks."""
    torch.manual_seed(0)
    hidden = 48 if gated else 64
    shapes = {
        "cls_token": (1, 1, WIDTH), "pos_embed": (1, 1 + PATCHES, WIDTH), "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 14, 14), "patch_embed.proj.bias": (WIDTH,), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,),
    }  # fmt: skip
    if registers:
        shapes["register_tokens"] = (1, registers, WIDTH)
    first, second = ("w12", "w3") if gated else ("fc1", "fc2")
    for i in range(DEPTH):
        block = f"blocks.0.{i}" if gated else f"blocks.{i}"
        linear = {
            "attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH),
            f"mlp.{first}": (hidden * (1 + gated), WIDTH), f"mlp.{second}": (WIDTH, hidden),
        }  # fmt: skip
        for name, shape in linear.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"):
            shapes[f"{block}.{name}"] = (WIDTH,)
    return {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}


def dinov2_forward(t: dict, x: torch.Tensor, gated: bool) -> torch.Tensor:
    """The network as its paper's code computes it, in a few lines: all tokens after the last norm."""
    f = torch.nn.functional
    tokens = f.conv2d(x, t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], stride=14).flatten(2).mT
    z = torch.cat([t["cls_token"].expand(len(x), -1, -1), tokens], dim=1) + t["pos_embed"]
    if "register_tokens" in t:
        z = torch.cat([z[:, :1], t["register_tokens"].expand(len(x), -1, -1), z[:, 1:]], dim=1)
    for i in range(DEPTH):
        block = f"blocks.0.{i}." if gated else f"blocks.{i}."
        own = {name.removeprefix(block): value for name, value in t.items() if name.startswith(block)}
        y = f.layer_norm(z, (WIDTH,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        qkv = f.linear(y, own["attn.qkv.weight"], own["attn.qkv.bias"])
        q, k, v = qkv.unflatten(2, (3, HEADS_OF, -1)).permute(2, 0, 3, 1, 4)
        y = f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        z = z + own["ls1.gamma"] * f.linear(y, own["attn.proj.weight"], own["attn.proj.bias"])
        y = f.layer_norm(z, (WIDTH,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        if gated:
            gate, value = f.linear(y, own["mlp.w12.weight"], own["mlp.w12.bias"]).chunk(2, dim=-1)
            y = f.linear(f.silu(gate) * value, own["mlp.w3.weight"], own["mlp.w3.bias"])
        else:
            y = f.linear(
                f.gelu(f.linear(y, own["mlp.fc1.weight"], own["mlp.fc1.bias"])),
                own["mlp.fc2.weight"],
                own["mlp.fc2.bias"],
            )
        z = z + own["ls2.gamma"] * y
    return f.layer_norm(z, (WIDTH,), t["norm.weight"], t["norm.bias"], 1e-6)


@pytest.mark.parametrize(("registers", "gated"), [(0, False), (4, False), (0, True)])
def test_dinov2_computes_the_same_in_timm(registers, gated, tmp_path):
    timm = pytest.importorskip("timm")
    table = dinov2_table(registers, gated)
    ours = timm.models.vision_transformer.VisionTransformer(
        img_size=28, patch_size=14, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS_OF, num_classes=0, init_values=1.0,
        reg_tokens=registers, no_embed_class=registers > 0, mlp_ratio=6 if gated else 4,
        mlp_layer=timm.layers.SwiGLUPacked if gated else timm.layers.Mlp, act_layer=torch.nn.SiLU if gated else None,
    ).eval()  # fmt: skip
    tensors = read_release(table, tmp_path / "dinov2.pth", "dinov2")
    ours.load_state_dict(tensors)
    x = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(ours.forward_features(x), dinov2_forward(table, x, gated), rtol=1e-4, atol=1e-5)
    again = read_release(wrap(tensors, "dinov2"), tmp_path / "dinov2.pth", "dinov2")
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensors[name]) for name in tensors)
