"""Exports load without the run and without the recipe, or say in a sentence why not."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tacit import __version__
from tacit.core.errors import CheckpointError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models import card, export, load, weights_digest

FACTS = Facts(channels=3, shape=(16, 16), classes=("cat", "dog"), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
SPEC = Spec("encoder", "convnet", widths=(4, 6))


@pytest.fixture
def module():
    torch.manual_seed(0)
    built = SPEC.build(FACTS)
    built(torch.rand(8, 3, 16, 16))  # running statistics that are not the initial ones
    return built.eval()


@pytest.fixture
def folder(tmp_path, module):
    return export(SPEC, FACTS, module, tmp_path / "run" / "export" / "encoder")


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_what_is_loaded_is_what_was_exported(folder, module):
    x = torch.rand(2, 3, 16, 16)
    for path in (folder, folder / "config.json", folder / "model.safetensors", str(folder), folder.parents[1]):
        loaded = load(path)
        assert not loaded.training
        assert torch.equal(loaded(x).pooled, module(x).pooled)


def test_the_card_says_what_was_built_and_how_the_input_is_normalised(folder, module):
    found = card(folder)
    assert found.spec == SPEC.resolve() and found.runtime == FACTS and found.version == __version__
    assert (found.mean, found.std) == (FACTS.mean, FACTS.std)
    assert found.digest == weights_digest(module)
    config = json.loads((folder / "config.json").read_text())
    assert config["role"], config["kind"] == ("encoder", "convnet")
    assert config["settings"] == {"widths": [4, 6]}
    assert config["normalisation"] == {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["encoder"]  # nothing is left beside it


def test_a_head_is_exported_with_its_width(tmp_path):
    spec = Spec("head", "mlp", widths=(5, 3))
    head = spec.build(7).eval()
    loaded = load(export(spec, 7, head, tmp_path / "projector"))
    x = torch.rand(4, 7)
    assert torch.equal(loaded(x), head(x)) and card(tmp_path / "projector").mean == ()


def test_the_file_has_the_names_the_world_knows(tmp_path):
    spec = Spec("encoder", "resnet", depth=18)
    folder = export(spec, FACTS, spec.build(FACTS), tmp_path / "resnet")
    theirs = torchvision.models.resnet18(weights=None)
    answer = theirs.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert answer.unexpected_keys == [] and answer.missing_keys == ["fc.weight", "fc.bias"]


def test_timm_reads_an_exported_timm_encoder(tmp_path):
    timm = pytest.importorskip("timm")
    spec = Spec("encoder", "timm", name="resnet10t")
    ours = spec.build(FACTS).eval()
    folder = export(spec, FACTS, ours, tmp_path / "timm")
    path = str(folder / "model.safetensors")
    theirs = timm.create_model("resnet10t", num_classes=0, checkpoint_path=path).eval()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(theirs(x), ours(x).pooled) and torch.equal(load(folder)(x).pooled, ours(x).pooled)


def test_the_digest_follows_every_bit_and_nothing_else(module):
    first = weights_digest(module)
    assert weights_digest(module.train()) == first
    with torch.no_grad():
        module.stages[0][1].running_mean[0] += 1e-6
    assert weights_digest(module) != first


def test_a_second_export_replaces_the_first_and_leaves_nothing_beside(folder, module):
    with torch.no_grad():
        module.stages[0][0].weight.mul_(2)
    export(SPEC, FACTS, module, folder)
    assert card(folder).digest == weights_digest(load(folder)) == weights_digest(module)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["encoder"]


def test_a_failed_export_leaves_the_first_whole(folder, module, monkeypatch):
    before = weights_digest(module)

    def full(*_args, **_more):
        raise OSError("no space left on device")

    monkeypatch.setattr("tacit.models.store.save_file", full)
    with torch.no_grad():
        module.stages[0][0].weight.mul_(2)
    with pytest.raises(OSError, match=r"no space left"):
        export(SPEC, FACTS, module, folder)
    assert weights_digest(load(folder)) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["encoder"]


def test_a_folder_of_something_else_is_not_overwritten(tmp_path, module):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"mine: exists and is no export; choose another folder or remove it$"):
        export(SPEC, FACTS, module, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled(tmp_path, module):
    (tmp_path / "empty").mkdir()
    assert torch.equal(
        load(export(SPEC, FACTS, module, tmp_path / "empty")).stages[0][0].weight, module.stages[0][0].weight
    )


def test_nothing_to_load_is_said(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere: there is no such folder to load from$"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: neither an export (a folder with config.json and model.safetensors) nor a run folder with "
        "export/encoder in it. A run writes its export when it ends"
    )


def test_missing_weights_are_said(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"there is no such file beside config\.json: copy the whole export$"):
        load(folder)


def test_cut_weights_are_said(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"not a complete safetensors file .*: copy or write it again$"):
        load(folder)


def test_changed_weights_are_said(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["stages.0.0.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"the weights are not those that config\.json names .*: copy both files again$"
    ):
        load(folder)


def test_a_newer_format_asks_for_an_upgrade(folder):
    edit(folder, format=9, tacit="7.0.0", settings="of another shape altogether")
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"{folder / 'config.json'}: written by tacit 7.0.0 in format 9; this is tacit {__version__}, "
        "which reads up to format 1: upgrade tacit"
    )


def test_an_unknown_kind_is_answered_with_the_nearest(folder):
    edit(folder, kind="convnett")
    with pytest.raises(CheckpointError, match=r"no encoder named 'convnett'\. Did you mean 'convnet'\?"):
        load(folder)


def test_settings_that_this_version_does_not_know_are_named(folder):
    edit(folder, settings={"widths": [4, 6], "rotary": True})
    with pytest.raises(CheckpointError, match=r"cannot build the part: encoder\.rotary: .* has no setting 'rotary'"):
        load(folder)


def test_settings_that_do_not_fit_the_weights_are_named(folder):
    edit(folder, settings={"widths": [4, 7]})
    with pytest.raises(CheckpointError, match=r"tensors have another shape: stages\.1\.0\.weight is \[6, 4, 3, 3\]"):
        load(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 1, "role": "encoder", "kind": "convnet"}'])
def test_a_broken_config_is_said(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json: not "):
        load(folder)
