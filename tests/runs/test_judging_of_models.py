"""Judging what is no run of ours: grouped features, and folders of timm and transformers, from the disk alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tacit import runs
from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.values import Facts
from tacit.models import outside
from tacit.ops.spectrum import rankme
from tacit.runs import target as targets


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory):
    import timm

    folder = tmp_path_factory.mktemp("timm")
    model = timm.create_model("resnet10t", pretrained=False)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "resnet10t",
        "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder, model.eval()


@pytest.fixture(scope="module")
def transformers_folder(tmp_path_factory):
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("transformers")
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8
    )
    torch.manual_seed(0)
    model = ViTModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    return folder, model.eval()


def test_features_in_groups_are_judged_by_lidar_too(tmp_path):
    z = torch.randn(40, 1, 6, generator=torch.Generator().manual_seed(0)) + 0.1 * torch.randn(40, 5, 6)
    np.save(tmp_path / "grouped.npy", z.numpy())
    (scores,) = runs.judge(tmp_path / "grouped.npy").scores.values()
    found = {score.protocol.partition("/")[0]: score for score in scores}
    assert found["rankme"].n == 200
    assert found["lidar"].note == "of at most 6; 40 samples of 5 views"
    assert found["lidar"].value > 4
    assert scores[-1].protocol == "collapse/spread@1"
    np.save(tmp_path / "plain.npy", z[:, 0].numpy())
    (scores,) = runs.judge(tmp_path / "plain.npy").scores.values()
    assert not [score for score in scores if score.protocol.startswith("lidar")]


def test_a_large_source_is_judged_by_an_even_share_of_its_samples(transformers_folder):
    folder, settings = transformers_folder[0], ["data=digits", "data.channels=3", "data.split=test"]
    found = targets.load(folder, settings)
    features = found.features(found.source()).layers["pooled"]
    (scores,) = runs.judge(folder, settings, count=50).scores.values()
    (whole,) = runs.judge(folder, settings).scores.values()
    at = np.linspace(0, len(features) - 1, 50).round().astype(int)
    assert [score.n for score in (scores[0], whole[0])] == [50, len(features)]
    assert scores[0].value == pytest.approx(rankme(torch.linalg.svdvals(features[at].double())), rel=1e-4)
    with pytest.raises(DataError, match=r"^count: a spread needs at least 2 samples, found 1$"):
        runs.judge(folder, settings, count=1)


def test_a_timm_folder_gives_timms_features_and_normalisation(timm_folder):
    folder, model = timm_folder
    found = targets.load(folder, ["data=digits", "data.channels=3"])
    assert found.views.facts.mean == (0.5,) * 3
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            found.module(x).pooled, model.forward_head(model.forward_features(x), pre_logits=True)
        )
    images = found.views.plain(found.source().read([0])).views["image"].data
    assert images.shape == (1, 3, 32, 32)
    assert float(images.min()) == pytest.approx(-2, abs=1e-5)  # (0 - 0.5) / 0.25


def test_a_transformers_folder_gives_its_class_token(transformers_folder):
    folder, model = transformers_folder
    found = outside.open_outside(folder)
    x = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        last = model(pixel_values=x).last_hidden_state
        torch.testing.assert_close(found.module(x).pooled, last[:, 0])
        assert found.module(x).tokens.shape == (3, 4, 16)
        torch.testing.assert_close(found.module.layers(x, ["pooled"])[0], last[:, 0])
        assert found.module.layer_names() == ["hidden.0", "hidden.1", "hidden.2", "pooled"]
    judged = runs.judge(folder, ["data=digits", "data.channels=3", "data.split=test"])
    assert judged.scores["trained"][0].n == 359
    assert "lidar" not in judged.text()
    with_views = runs.judge(folder, ["data=digits", "data.channels=3", "data.split=test"], augmentations=2)
    assert "lidar/q=2" in with_views.text()


def test_what_cannot_be_opened_is_said_in_a_sentence(tmp_path, transformers_folder):
    with pytest.raises(CheckpointError) as error:
        targets.load("facebook/dinov2-base", ["data=digits"])
    assert str(error.value) == (
        "facebook/dinov2-base is no folder on this machine, and tacit downloads nothing. Fetch the model yourself, for example with "
        "`hf download facebook/dinov2-base --local-dir FOLDER`, and name that folder"
    )
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps({"architecture": "resnet10t"}))
    with pytest.raises(
        CheckpointError, match=r"no weights beside config\.json: it needs model\.safetensors or pytorch_model\.bin"
    ):
        outside.open_outside(bare)
    (bare / "config.json").write_text(json.dumps({"architecture": "resnet10t", "model_args": {"stem_width": 8}}))
    with pytest.raises(RecipeError, match="changes the architecture by model_args="):
        outside.open_outside(bare)
    (bare / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(CheckpointError, match=r"no \.safetensors file beside config\.json: convert the weights"):
        outside.open_outside(bare)
    (bare / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        outside.recognise(bare)
    with pytest.raises(RecipeError, match=r"the model takes 3 channels, the images have 1: set the source's channels"):
        outside.Transformers(Facts(channels=1, shape=(16, 16)), path=str(transformers_folder[0]))
    with pytest.raises(DataError) as fault:
        runs.judge(transformers_folder[0], ["data=digits", "data.channels=3"], augmentations=1)
    assert str(fault.value) == (
        "augmentations: LiDAR compares at least 2 views of a sample, found 1: use 2 or more, or 0 for none"
    )


def test_a_file_with_code_in_it_is_never_run(tmp_path, timm_folder):
    config = (timm_folder[0] / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    torch.save({"conv1.weight": torch.nn.Linear(1, 1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="would run code on loading; tacit does not do that"):
        outside.open_outside(tmp_path)
