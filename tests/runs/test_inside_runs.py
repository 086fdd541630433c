"""Verbs that look into a run: its layers, fine-tuning, leakage, a probe beside training, and factors beside the label."""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tacit import recipes, runs
from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.models.vit import ViT
from tacit.probing import FINETUNES, PUBLISHED, FineTune, attentive, protocols, read_records
from tacit.runs import finetuning
from tacit.runs.build import build
from tacit.runs.cutting import read_layers
from tacit.runs.online import OnlineProbe
from tacit.runs.tasks import tasks_of
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics
from tacit.views.policy import RandAugment

GRID = PUBLISHED["dinov2/linear,cached@2"]
TINY = (
    "steps=6", "batch=64", "system.encoder.widths=[8, 16]", "system.projector.widths=[32, 16]", "checks.log_every=2",
    "checks.judge_every=3", "checks.save_every=4", "machine.trackers=[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("work") / "runs"
    return runs.train("ssl.vicreg_digits", (*TINY, "checks.probe=true"), root=root, quiet=True).folder


@part("source", "test-shapes")
class Shapes:
    """Bright squares: the label is the corner, the factor `size` the nuisance; `weight` is continuous."""

    def __init__(self, *, split: str = "train", several: bool = False) -> None:
        self.several = several
        if split not in ("train", "test"):
            raise DataError(f"the shapes have the splits train and test, found {split!r}")
        n, first = (96, 0) if split == "train" else (48, 1000)
        self.ids = torch.arange(first, first + n)
        self.label, self.size = self.ids % 4, (self.ids // 4) % 3
        self.facts = Facts(
            channels=1, shape=(8, 8), classes=() if several else ("a", "b", "c", "d"), mean=(0.2,), std=(0.3,),
            factors=("labels",) if several else ("size", "weight"),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        return f"shapes-{len(self)}-{self.several}"

    def read(self, indices):
        at = torch.as_tensor(np.asarray(indices))
        images = torch.zeros(len(at), 1, 8, 8)
        for i, j in enumerate(at.tolist()):
            y, x = divmod(int(self.label[j]), 2)
            side = 2 + int(self.size[j])
            images[i, 0, 4 * y : 4 * y + side, 4 * x : 4 * x + side] = 1
        noise = torch.rand(len(at), 1, 8, 8, generator=torch.Generator().manual_seed(int(self.ids[at[0]])))
        facts = {"label": self.label[at], "size": self.size[at], "weight": self.size[at].float()}
        if self.several:
            facts = {
                "labels": torch.stack([self.label[at] % 2, self.label[at] // 2, (self.size[at] > 0).long()], dim=1)
            }
        return Batch({"image": View((images * 0.8 + noise * 0.2).clamp(0, 1))}, ids=self.ids[at], facts=facts)


def test_layers_of_a_run_are_kept_drawn_and_reported(trained):
    found = runs.layers(trained, protocols=["ridge/all@1", "knn/k=5,t=0.07@1"])
    assert list(found.section.layers) == ["encoder.stages.0", "encoder", "projector.2", "projector"]
    assert (found.section.backbone, found.section.embedding) == ("encoder", "projector")
    assert (trained / "layers.png").read_bytes()[:4] == b"\x89PNG"
    back = read_layers(trained)
    assert back.to_text() == found.section.to_text()
    assert json.loads((trained / "layers.json").read_text()) == json.loads(json.dumps(found.to_plain()))
    text = (trained / "report" / "index.html").read_text()
    assert "Where to cut" in text
    assert "chosen on held-out training samples" in text
    assert "ridge/all@1: cut after " in found.text()
    assert not list((trained / "results").rglob("*encoder.stages*"))  # rows of layers are no rows of models


def test_layers_by_glob_and_protocol_go_to_a_file_and_are_not_kept(trained, tmp_path):
    before = (trained / "layers.json").read_text() if (trained / "layers.json").exists() else ""
    found = runs.layers(trained, globs=["encoder.stages.*"], protocols=["ridge/all@1"], plot=tmp_path / "cut.svg")
    assert list(found.section.layers) == ["encoder.stages.0", "encoder.stages.1"]
    assert found.section.protocols == ["ridge/all@1"]
    assert (tmp_path / "cut.svg").read_text().lstrip().startswith("<?xml")
    assert not found.kept
    assert before == ((trained / "layers.json").read_text() if before else "")
    with pytest.raises(UnknownNameError, match=r"no layer named 'encoder\.block\.\*'"):
        runs.layers(trained, globs=["encoder.block.*"])
    with pytest.raises(RecipeError, match=r"a plot is written as \.png or \.svg, found '\.gif'"):
        runs.layers(trained, globs=["encoder"], protocols=["ridge/all@1"], plot=tmp_path / "cut.gif")


def test_an_export_has_layers_and_no_embedding(trained):
    found = runs.layers(trained / "export" / "encoder", ["data=digits", "data.channels=1"], protocols=["ridge/all@1"])
    assert list(found.section.layers) == ["encoder.stages.0", "encoder"]
    assert found.section.embedding == ""
    assert found.section.answers[0].gap is None


def test_fine_tuning_keeps_its_records_and_exports(trained, tmp_path, monkeypatch, capsys):
    how = FineTune(epochs=3, batch=32, rate=3e-3)
    clock = SimpleNamespace(monotonic=functools.partial(next, itertools.count(0, 6)))
    monkeypatch.setattr(finetuning, "time", clock)
    found = runs.finetune(trained, how=how, labels="10-per-class", seeds=2, out=tmp_path / "tuned")
    said = [line.partition("  loss ")[0] for line in capsys.readouterr().err.splitlines()]
    each = [f"epoch {epoch}/3" for epoch in (2, 3)]  # every ten seconds of six a look, and at the end
    assert said == [f"{model}, seed {k}: {at}" for model in ("trained", "untrained") for k in (0, 1) for at in each]
    rows = {r["model"]: r for r in found.to_plain()["results"]}
    assert set(rows) == {"trained", "untrained"}
    assert rows["trained"]["differences"][0]["to"] == "untrained"
    assert (rows["trained"]["n"], rows["trained"]["seeds"]) == (359, 2)
    protocol = "finetune/10-per-class,adamw,rate=0.003,layer-decay=0.65,epochs=3@1"
    kept = read_records(trained).only(protocol=protocol)
    assert len(kept) == 2 * 2 * 359
    assert protocol in (trained / "report" / "index.html").read_text()
    again = runs.judge(tmp_path / "tuned", ["data=digits", "data.channels=1", "data.split=test"])
    assert again.scores["trained"][0].n == 359


def test_a_papers_fine_tuning_brings_its_own_views(trained, monkeypatch):
    name, seen = "mae/finetune@1", []
    short = replace(FINETUNES[name].how, epochs=2, batch=512, drop_path=0.0)
    monkeypatch.setitem(FINETUNES, name, replace(FINETUNES[name], how=short))
    made = RandAugment.__call__
    monkeypatch.setattr(RandAugment, "__call__", lambda *given: seen.append(made(*given)) or seen[-1])
    found = runs.finetune(trained, protocol_name="mae/finetune", scratch=False)
    assert [row["protocol"] for row in found.to_plain()["results"]] == [name]
    assert len(seen) == 2 * 3 and seen[0].data.shape[1:] == (1, 16, 16)
    assert (seen[0].how["operation"] >= 0).any() and (seen[0].how["erase"] > 0).any()


def test_leakage_of_a_run_and_of_files(trained, tmp_path):
    found = runs.leakage(trained)
    assert (found.n, found.train, found.exact) == (359, 1438, 0)
    for split in ("train", "test"):
        runs.embed(trained, tmp_path / f"{split}.npz", [f"data.split={split}"])
    files = runs.leakage(tmp_path / "train.npz", [f"test={tmp_path / 'test.npz'}"])
    assert files.by_pixels is None
    assert files.by_features == found.by_features
    same = runs.leakage(tmp_path / "train.npz", [f"test={tmp_path / 'train.npz'}"])
    assert same.by_features == 1438
    with pytest.raises(DataError, match="name the file to test on, test=FILE, and nothing else"):
        runs.leakage(tmp_path / "train.npz")


def test_the_online_probe_logs_and_leaves_the_weights_alone(trained, tmp_path):
    metrics = read_metrics(trained)
    steps, values = metrics["probe_accuracy"]
    assert steps.tolist() == [1, 2, 4, 6]
    assert ((values >= 0) & (values <= 1)).all()
    assert metrics["probe_test_accuracy"][0].tolist() == [3, 6]
    plain = runs.train("ssl.vicreg_digits", TINY, root=tmp_path / "runs", quiet=True).folder
    assert "probe_accuracy" not in read_metrics(plain)
    a, b = ((folder / "export/encoder/model.safetensors").read_bytes() for folder in (trained, plain))
    assert a == b
    np.testing.assert_array_equal(read_metrics(plain)["loss"][1], metrics["loss"][1])


class StopAt:
    """A hook that sends this process SIGTERM after a step, as a scheduler would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, step, terms, context) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self, status: str) -> None: ...


def test_the_online_probe_goes_on_after_a_stop_as_if_it_had_not(tmp_path):
    recipe = recipes.load("ssl.vicreg_digits", [*TINY, "checks.probe=true", "checks.judge_every=0", "accumulate=2"])
    for name, hooks in (("whole", ()), ("cut", (StopAt(3),)), ("cut", ())):
        built = build(recipe)
        fit(recipe, built.system, built.source, built.views, tmp_path / name, hooks=[OnlineProbe(built), *hooks])
    expected, found = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "cut")
    for name in ("probe_accuracy", "probe_test_accuracy", "loss"):
        np.testing.assert_array_equal(found[name][1], expected[name][1])


def test_an_online_probe_that_could_not_work_is_refused(tmp_path):
    recipe = recipes.load("ssl.vicreg_digits", [*TINY, "machine.compile=true"])
    with pytest.raises(
        RecipeError, match=r"^checks\.probe: it reads the encoder's output by a hook, which a compiled network"
    ):
        OnlineProbe(build(recipe))


def test_factors_beside_the_label_are_probed_and_cut_for_themselves(tmp_path):
    overrides = [*TINY, "data=test-shapes", "views.first.size=8", "views.first.scale=[0.9, 1.0]"]
    folder = runs.train("ssl.vicreg_digits", overrides, root=tmp_path / "runs", quiet=True).folder
    both, none = {split: Shapes(split=split) for split in ("train", "test")}, {"train": None, "test": None}
    assert set(tasks_of(both, none)) == {"size"}
    asked = tasks_of(both, none, ["weight"])
    assert {int(x) for x in asked["weight in 4"]["train"].unique()} <= {0, 1, 2, 3}
    with pytest.raises(UnknownNameError, match=r"no factor named 'wight'\. Did you mean 'weight'\?"):
        tasks_of(both, none, ["wight"])
    probed = runs.probe(folder, seeds=2, protocols=["knn/k=5,t=0.07@1"])
    assert list(probed.nuisances) == ["size"]
    assert {r.protocol for r in probed.nuisances["size"]} == {"knn/k=20,t=0.07@1", "linear/all@1"}
    assert {r.model for r in probed.nuisances["size"]} == {"trained", "untrained", "raw pixels"}
    assert {r.protocol for r in probed.results} == {"knn/k=5,t=0.07@1"}
    assert "factor size" in probed.text()
    assert list(probed.to_plain()["nuisances"]) == ["size"]
    found = runs.layers(folder, protocols=["ridge/all@1"])
    assert [answer.task for answer in found.section.answers] == ["label", "size"]
    found = runs.layers(folder, protocols=["ridge/all@1"], tasks=["weight"])
    assert [answer.task for answer in found.section.answers] == ["weight in 4"]


def test_several_labels_a_sample_are_probed_of_a_network(trained):
    encoder = trained / "export" / "encoder"
    (result,) = runs.probe(encoder, ["data=test-shapes", "data.several=true", "views.first.size=16"]).results
    assert (result.model, result.protocol, result.n) == ("trained", "ridge-map/all-points@1", 48)
    assert result.low > result.chance


def test_several_labels_in_files_are_probed_by_average_precision(tmp_path):
    rng = np.random.default_rng(0)
    for name, n in (("train", 80), ("test", 60)):
        y = (rng.random((n, 3)) < 0.4).astype(np.int64)
        np.savez(tmp_path / f"{name}.npz", features=(y @ np.eye(3, 5) + 0.2 * rng.normal(size=(n, 5))), labels=y)
    (result,) = runs.probe(tmp_path / "train.npz", [f"test={tmp_path / 'test.npz'}"]).results
    assert result.protocol == "ridge-map/all-points@1"
    assert result.value > 0.9


def test_protocols_of_papers_and_tokens_run_on_a_network(trained):
    names = ["vicreg/linear,cached@1", "attentive/all@1"]
    encoder = trained / "export" / "encoder"
    rows = runs.probe(encoder, ["data=digits", "data.channels=1"], protocols=names).to_plain()["results"]
    found = {(row["protocol"], row["model"]): row for row in rows}
    assert set(found) == {
        ("vicreg/linear,cached@1", "trained"), ("vicreg/linear,cached@1", "raw pixels"), ("attentive/all@1", "trained"),
    }  # fmt: skip
    assert found["attentive/all@1", "trained"]["value"] > found["attentive/all@1", "trained"]["chance"]


def test_what_needs_the_network_is_read_from_the_cache_the_second_time(tmp_path, monkeypatch):
    """Tokens and the last blocks of a ViT have files of their own; a second probe runs the network on a handful of samples alone."""
    small = [
        "steps=1",
        "batch=32",
        "checks.judge_every=0",
        "checks.save_every=0",
        "system.encoder.width=24",
        "system.encoder.depth=2",
    ]
    run = runs.train(
        "ssl.dinov2_digits", [*small, "system.spread=0"], root=tmp_path / "work" / "runs", quiet=True
    ).folder
    monkeypatch.setattr(protocols, "_LATEST", {"dinov2/linear,cached": replace(GRID, steps=20)})
    names = ["attentive/all@1", "dinov2/linear,cached"]
    seen = []
    forward = ViT.forward

    @functools.wraps(forward)
    def counted(self, x, *more, **named):
        seen.append(len(x))
        return forward(self, x, *more, **named)

    monkeypatch.setattr(ViT, "forward", counted)
    monkeypatch.setattr(
        attentive, "_train", lambda x, y, c, *_: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(c))
    )
    first = runs.probe(run, protocols=names).to_plain()["results"]
    once = sum(seen)
    seen.clear()
    runs.probe(run, protocols=names)
    assert once > 1797 * 4  # both splits, two protocols, two models
    assert sum(seen) < 200
    assert {row["protocol"] for row in first} == {"attentive/all@1", "dinov2/linear,cached@2"}
    kept = {file.name for file in (tmp_path / "work" / "cache").rglob("*.safetensors")}
    assert {"tokens.pooled.safetensors", "last2mean.pooled.safetensors"} <= kept
