"""V-JEPA 2-AC's published file: read and written by its key table, whole or the encoder alone."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import CheckpointError
from tacit.models import editions, store
from tacit.models.editions import EDITIONS, Edition, parts_of, predictor_table, system_spec, to_official
from tacit.runs.editions import edition_export, edition_import

TINY = Edition(
    "vjepa2", "tiny-ac.pt", 16, {"width": 24, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "patch": 8}, None, frames=2,
    action={"width": 32, "depth": 2, "heads": 2},
)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """Random weights under the names of the published file."""
    torch.manual_seed(0)
    shapes = {
        "predictor_embed": (32, 24), "action_encoder": (32, 7), "state_encoder": (32, 7), "extrinsics_encoder": (32, 6),
        "predictor_proj": (24, 32),
    }  # fmt: skip
    for i in range(2):
        block = f"predictor_blocks.{i}"
        shapes |= {
            f"{block}.attn.qkv": (96, 32),
            f"{block}.attn.proj": (32, 32),
            f"{block}.mlp.fc1": (128, 32),
            f"{block}.mlp.fc2": (32, 128),
        }
    predictor = {f"module.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    predictor |= {f"module.{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    norms = ["predictor_norm", *(f"predictor_blocks.{i}.norm{j}" for i in range(2) for j in (1, 2))]
    predictor |= {f"module.{name}.{kind}": torch.randn(32) for name in norms for kind in ("weight", "bias")}
    encoder = editions.encoder_spec(TINY).build(editions.encoder_facts(TINY)).state_dict()
    content = {
        "encoder": {f"module.backbone.{k}": torch.randn(v.shape) for k, v in encoder.items()},
        "predictor": predictor,
    }
    torch.save({**content, "opt": {}, "epoch": 315}, tmp_path / "file.pt")
    return tmp_path / "file.pt"


def test_the_whole_system_is_read_strictly_and_written_back(file, tmp_path):
    found = edition_import(file, tmp_path / "system", edition=TINY, part="system")
    system, first = store.load(tmp_path / "system"), torch.load(file, weights_only=True)
    assert found["left"] == ["opt", "epoch"] and system.compat == system.predictor.compat == "official"
    assert torch.equal(system.predictor.action.weight, first["predictor"]["module.action_encoder.weight"])
    assert torch.equal(system.predictor.camera.bias, first["predictor"]["module.extrinsics_encoder.bias"])
    edition_export(tmp_path / "system", tmp_path / "again.pt", form="jepa")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    for entry in ("encoder", "predictor"):
        assert first[entry].keys() == again[entry].keys()
        assert all(torch.equal(first[entry][name], again[entry][name]) for name in first[entry])


def test_the_encoder_alone_is_read_as_before(file, tmp_path):
    assert edition_import(file, tmp_path / "encoder", edition=TINY)["part"] == "encoder"
    first = torch.load(file, weights_only=True)["encoder"]
    assert torch.equal(store.load(tmp_path / "encoder").norm.bias, first["module.backbone.norm.bias"])


def test_another_architecture_is_refused(file):
    content = torch.load(file, weights_only=True)
    deeper = Edition(**{**vars(TINY), "action": {"width": 32, "depth": 3, "heads": 2}})
    with pytest.raises(
        CheckpointError,
        match=r"predictor: not the edition asked for. 36 of 48 tensors fit; 12 missing \(predictor_blocks.2",
    ):
        parts_of(content, deeper, file)
    content["predictor"]["module.mask_tokens.0"] = torch.zeros(1, 1, 32)
    with pytest.raises(CheckpointError, match=r"1 unknown \(mask_tokens.0\)"):
        parts_of(content, TINY, file)


def test_transformers_has_no_such_model(file, tmp_path):
    edition_import(file, tmp_path / "system", edition=TINY, part="system")
    with pytest.raises(
        CheckpointError, match="transformers has no model with actions: write the published form with --release jepa"
    ):
        edition_export(tmp_path / "system", tmp_path / "hub", form="transformers")


def test_the_published_edition_has_the_published_size_and_names():
    edition = EDITIONS["vjepa2-ac-vitg"]
    with torch.device("meta"):
        system = system_spec(edition).build(editions.encoder_facts(edition))
    assert sum(p.numel() for p in system.predictor.parameters()) / 1e6 == pytest.approx(305, rel=0.002)
    table = predictor_table(edition)
    assert set(table.values()) == set(system.predictor.state_dict()) and len(table) == 300
    assert {"predictor_blocks.23.attn.qkv.weight", "extrinsics_encoder.weight", "state_encoder.bias"} <= set(table)
    parts = editions.Parts(edition, dict(system.encoder.state_dict()), None, dict(system.predictor.state_dict()))
    assert "module.action_encoder.weight" in to_official(parts)["predictor"]
