"""Features of a source and their cache: order, determinism, keys, and files that cannot be trusted."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from tacit.core.errors import DataError
from tacit.core.values import Batch, Facts, Features, View
from tacit.models.features import cached, extract, source_digest


class Pictures:
    """Seven 1-channel pictures with ids from 100."""

    facts = Facts(channels=1, shape=(4, 4))

    def __init__(self, seed=0, labelled=True):
        self.pixels = torch.randint(
            0, 255, (7, 1, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
        )
        self.labelled, self.reads, self.seed = labelled, 0, seed

    def __len__(self):
        return len(self.pixels)

    def digest(self):
        return f"pictures-{self.seed}"

    def read(self, indices):
        at = torch.as_tensor(np.asarray(indices))
        self.reads += len(at)
        facts = {"label": at % 3} if self.labelled else {}
        return Batch({"image": View(self.pixels[at])}, ids=100 + at, facts=facts)


class Plain:
    names = ("a",)

    def __init__(self, mean=0.5):
        self.facts, self.mean = Facts(channels=1, shape=(4, 4)), mean

    def plain(self, batch):
        return Batch({"image": View(batch.views["image"].data.float() / 255 - self.mean)}, batch.ids, facts=batch.facts)


class Model(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
        self.scale = scale
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p))

    def forward(self, x):
        return Features(self.net(x) * self.scale)

    def embed(self, x):
        return self.net(x)[:, :2]

    def layers(self, x, which):
        middle = self.net[:2](x)
        known = {"linear": middle, "norm/out": self.net[2](middle)}
        return [known[name] for name in which]


def test_features_are_in_order_whatever_the_batch_and_flags_are_put_back():
    model = Model()
    model.net[2].eval()
    whole = extract(model, Pictures(), Plain())
    parts = extract(model, Pictures(), Plain(), batch=3)
    torch.testing.assert_close(whole.layers["pooled"], parts.layers["pooled"])
    assert whole.ids.tolist() == list(range(100, 107))
    assert whole.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert [m.training for m in (model, model.net[1], model.net[2], model.net[3])] == [True, True, False, True]
    assert not whole.layers["pooled"].requires_grad
    assert model.net[2].num_batches_tracked == 0


def test_named_layers_and_methods_and_missing_labels():
    model = Model()
    found = extract(model, Pictures(labelled=False), Plain(), layers=["norm/out", "linear"])
    assert list(found.layers) == ["norm/out", "linear"]
    assert found.labels is None
    torch.testing.assert_close(
        extract(model.embed, Pictures(), Plain()).layers["pooled"], found.layers["norm/out"][:, :2]
    )


def test_second_call_reads_three_samples_and_gives_the_same_bits(tmp_path):
    source = Pictures()
    first = cached(Model(), source, Plain(), root=tmp_path, layers=["linear", "norm/out"])
    source.reads = 0
    again = cached(Model(), source, Plain(), root=tmp_path, layers=["norm/out", "linear"])
    assert source.reads == 6  # three for the key, three to compare
    for name in ("linear", "norm/out"):
        assert torch.equal(first.layers[name], again.layers[name])
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.labels, again.labels)
    assert sorted(p.name for p in tmp_path.rglob("*.safetensors")) == ["linear.safetensors", "norm-out.safetensors"]
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_other_weights_samples_views_and_calls_have_other_files(tmp_path):
    other = Model()
    with torch.no_grad():
        other.net[1].bias[0] += 1
    cached(Model(), Pictures(), Plain(), root=tmp_path)
    for model, source, views in (
        (other, Pictures(), Plain()),
        (Model(), Pictures(1), Plain()),
        (Model(), Pictures(), Plain(0.4)),
    ):
        before = len(list(tmp_path.rglob("*.safetensors")))
        found = cached(model, source, views, root=tmp_path)
        torch.testing.assert_close(found.layers["pooled"], extract(model, source, views).layers["pooled"])
        assert len(list(tmp_path.rglob("*.safetensors"))) == before + 1
    model = Model()
    assert cached(model, Pictures(), Plain(), root=tmp_path, call=model.embed).layers["pooled"].shape == (7, 2)
    assert source_digest(Pictures(), Plain()) == source_digest(Pictures(), Plain())


@pytest.mark.parametrize("spoil", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{not json at all", "truncate"])
def test_a_broken_file_is_computed_again_with_a_warning(tmp_path, caplog, spoil):
    expected = cached(Model(), Pictures(), Plain(), root=tmp_path)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-7] if spoil == "truncate" else spoil)
    with caplog.at_level(logging.WARNING):
        found = cached(Model(), Pictures(), Plain(), root=tmp_path)
    assert torch.equal(found.layers["pooled"], expected.layers["pooled"])
    assert f"cached features {file} cannot be read" in caplog.text
    caplog.clear()
    cached(Model(), Pictures(), Plain(), root=tmp_path)
    assert caplog.text == ""


def test_features_of_other_code_under_the_same_weights_are_not_served(tmp_path, caplog):
    cached(Model(), Pictures(), Plain(), root=tmp_path)
    with caplog.at_level(logging.WARNING):
        found = cached(Model(scale=2.0), Pictures(), Plain(), root=tmp_path)
    torch.testing.assert_close(found.layers["pooled"], extract(Model(scale=2.0), Pictures(), Plain()).layers["pooled"])
    assert "are not what the model gives now (its code changed): computing them again" in caplog.text


def test_features_that_are_not_rows_are_refused():
    sentence = "layer 'pooled' gave [7, 1, 4, 4] for 7 samples: features must be [samples width]"
    with pytest.raises(DataError) as error:
        extract(lambda x: x, Pictures(), Plain())
    assert str(error.value) == sentence


def test_an_empty_source_is_refused():
    with pytest.raises(DataError) as error:
        extract(Model(), Pictures(), Plain(), indices=[])
    assert str(error.value) == "features need at least one sample, the source is empty"
