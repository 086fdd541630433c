"""Published JEPA files through `weights import` and back out."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from tacit import runs
from tacit.core.errors import CheckpointError, UnknownNameError
from tacit.models import editions, store
from tacit.models.editions import EDITIONS, Edition, system_spec, to_official
from tacit.runs.editions import edition_export, edition_import

VIDEO = Edition(
    "vjepa2", "tiny.pt", 32, {"width": 36, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "patch": 8},
    {"width": 24, "depth": 1, "heads": 2}, frames=4, tokens=3,
)  # fmt: skip


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    state = system_spec(VIDEO).build(editions.encoder_facts(VIDEO)).state_dict()
    parts = [
        {name.removeprefix(prefix): value + 0.1 for name, value in state.items() if name.startswith(prefix)}
        for prefix in ("encoder.", "target.encoder.", "predictor.")
    ]
    parts[1]["norm.bias"] = parts[1]["norm.bias"] + 1
    torch.save({**to_official(editions.Parts(VIDEO, *parts)), "epoch": 3}, tmp_path / "file.pt")
    return tmp_path / "file.pt"


def test_the_averaged_encoder_is_what_is_imported_and_it_says_how_it_sees(file, tmp_path):
    found = edition_import(file, tmp_path / "encoder", edition=VIDEO)
    assert found["tensors"] == 16 and found["left"] == ["epoch"]
    encoder, card = store.load(tmp_path / "encoder"), store.card(tmp_path / "encoder")
    assert card.spec["compat"] == "official" and card.mean == editions.MEAN
    assert float(encoder.norm.bias.detach().mean()) == pytest.approx(1.1)
    edition_import(file, tmp_path / "student", edition=VIDEO, branch="student")
    assert float(store.load(tmp_path / "student").norm.bias.detach().mean()) == pytest.approx(0.1)


def test_the_whole_system_comes_back_as_the_same_file_and_as_a_folder(file, tmp_path):
    edition_import(file, tmp_path / "system", edition=VIDEO, part="system")
    edition_export(tmp_path / "system", tmp_path / "again.pt", form="jepa")
    first, again = (torch.load(path, weights_only=True) for path in (file, tmp_path / "again.pt"))
    for entry in ("encoder", "target_encoder", "predictor"):
        assert first[entry].keys() == again[entry].keys()
        assert all(torch.equal(first[entry][name], again[entry][name]) for name in first[entry])
    edition_export(tmp_path / "system", tmp_path / "hub", form="transformers")
    edition_import(tmp_path / "hub", tmp_path / "encoder")
    tokens = [store.load(tmp_path / name).state_dict()["norm.bias"] for name in ("encoder",)]
    assert torch.equal(tokens[0], store.load(tmp_path / "system").target.encoder.norm.bias)


def test_surprise_of_an_imported_system(file, tmp_path, rng):
    """A clip whose hidden half is replaced by noise surprises the model; the energy is one number a clip."""
    edition_import(file, tmp_path / "system", edition=VIDEO, part="system")
    clip = torch.randn(2, 3, 4, 32, 32, generator=rng)
    with torch.no_grad():
        assert store.load(tmp_path / "system").energy(clip, torch.arange(16, 32), clip).shape == (2,)


def test_a_file_of_no_edition_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(
        CheckpointError, match=r"of no published JEPA edition, as far as its shapes tell. Known: ijepa-vith14"
    ):
        edition_import(tmp_path / "other.pt", tmp_path / "out")


def test_the_verb_names_what_does_not_fit(file, tmp_path):
    from tacit.cli import app

    done = CliRunner().invoke(app, ["weights", "import", str(file), str(tmp_path / "out"), "--edition", "vjepa2-vitl"])
    assert done.exit_code != 0 and isinstance(done.exception, CheckpointError | SystemExit)
    with pytest.raises(UnknownNameError, match="no part named 'head'"):
        runs.edition_import(file, tmp_path / "out", part="head")
    assert "vjepa2-vitl" in EDITIONS
