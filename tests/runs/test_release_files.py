"""Checkpoints of other code bases through `tacit weights import` and back out through `tacit weights export`."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models.releases import RELEASES, read_release, wrap

RESNET = ("resnet", {"depth": 18, "width": 0.125})
VIT = ("vit", {"patch": 8, "width": 16, "depth": 2, "heads": 2})
TIMM = ("timm", {"name": "resnet10t"})
FORMS = {  # the encoder of each family, and what its file has beside it: path of the table, names
    "vicreg": (RESNET, "model", ("module.projector.0.weight",)),
    "swav": (RESNET, "", ("module.projection_head.0.weight", "module.prototypes.weight")),
    "moco": (RESNET, "state_dict", ("module.encoder_q.fc.0.weight", "module.encoder_k.fc.0.weight", "module.queue")),
    "solo-learn": (RESNET, "state_dict", ("projector.0.weight", "classifier.weight")),
    "lightly": (RESNET, "state_dict", ("projection_head.layers.0.weight", "online_classifier.linear.weight")),
    "vissl": (RESNET, "classy_state_dict.base_model.model.trunk", ()),
    "dino": (VIT, "teacher", ("head.mlp.0.weight", "head.last_layer.weight_g")),
    "mae": (VIT, "model", ("decoder_embed.weight", "mask_token")),
    "bare": (TIMM, "", ()),  # timm's own file
}


def named(tensors):
    """Under the published names: a timm network lies in `model` here."""
    return {name.removeprefix("model."): value for name, value in tensors.items()}


@pytest.mark.parametrize("family", FORMS)
def test_a_file_of_a_family_comes_in_and_goes_back_out(family, tmp_path):
    (kind, settings), path, beside = FORMS[family]
    if kind == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    facts = Facts(channels=3, shape=(16, 16))
    tensors = named(Spec("encoder", kind, **settings).build(facts).state_dict())
    content = dict(wrap(tensors, family)) if family in RELEASES else dict(tensors)
    table = content
    for step in path.split(".") if path else ():
        table = table[step]
    table.update({name: torch.ones(2, 2) for name in beside})
    torch.save(content, tmp_path / "theirs.pth")

    release = ["--release", family] if family in RELEASES else []
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = ["weights", "import", str(tmp_path / "theirs.pth"), str(tmp_path / "ours"), "--encoder", kind, *chosen]
    done = CliRunner().invoke(app, [*command, "--size", "16", *release, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tensors"] == len(tensors)
    ours = named(tacit.load(tmp_path / "ours").state_dict())
    assert ours.keys() == tensors.keys() and all(torch.equal(ours[name], tensors[name]) for name in tensors)

    done = CliRunner().invoke(app, ["weights", "export", str(tmp_path / "ours"), str(tmp_path / "again.pth"), *release])
    assert done.exit_code == 0, done.output
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    again = read_release(again, tmp_path / "again.pth", family) if family in RELEASES else again
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensors[name]) for name in tensors)
