"""From a recipe to a result, at tiny scale on real digits."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tacit
from tacit import recipes, runs
from tacit.core.errors import CheckpointError, DataError, RecipeError, RunError
from tacit.core.recipe import from_yaml
from tacit.runs import reporting
from tacit.runs import target as targets
from tacit.runs.build import build, restore
from tacit.training.metrics import read_metrics

TINY = (
    "steps=6", "batch=64", "system.encoder.widths=[8, 16]", "system.projector.widths=[32, 16]", "checks.log_every=2",
    "checks.judge_every=3", "checks.save_every=4", "machine.trackers=[]",
)  # fmt: skip


def tiny(root: Path, *more: str, **settings) -> runs.train:
    return runs.train("ssl.vicreg_digits", (*TINY, *more), root=root, quiet=True, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """One finished, probed run."""
    run = tiny(tmp_path_factory.mktemp("work") / "runs")
    assert run.status == "finished"
    runs.probe(run.folder, seeds=2)
    return run.folder


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.headings, self.images, self.tables, self._tag = [], [], 0, ""

    def handle_starttag(self, tag, attrs):
        self._tag = tag
        self.tables += tag == "table"
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_data(self, data):
        if self._tag == "h2" and data.strip():
            self.headings.append(data.strip())


def test_a_run_folder_is_complete(trained):
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "recipe.yaml",
        "machine.json",
        "state.json",
        "log.txt",
        "metrics.parquet",
        "steps",
        "export",
        "results",
        "report",
    }
    assert json.loads((trained / "state.json").read_text())["status"] == "finished"
    assert from_yaml((trained / "recipe.yaml").read_text()) == recipes.load("ssl.vicreg_digits", TINY)
    steps, values = read_metrics(trained)["rankme"]
    assert steps.tolist() == [1, 3, 6]
    assert (values > 1).all()
    assert read_metrics(trained)["loss"][0].tolist() == [1, 2, 4, 6]


def test_the_report_shows_the_table_and_the_pictures(trained):
    page = Page()
    text = (trained / "report" / "index.html").read_text()
    page.feed(text)
    assert page.headings == [
        "What the features know", "How few labels suffice", "Judged without labels", "The spread of the embedding",
        "A map of the embedding", "Nearest neighbours", "What the encoder is told to ignore", "How training went",
        "The resolved recipe", "Machine and versions", "How to make it again",
    ]  # fmt: skip
    assert page.tables >= 3
    assert len(page.images) >= 12 * 3 + 8 * 7  # originals and two views; queries and six neighbours
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    for word in ("trained", "untrained", "raw pixels", "linear/5-per-class@1", "kind: vicreg"):
        assert word in text


def test_a_report_embeds_no_more_samples_than_it_shows(trained, tmp_path, monkeypatch):
    seen = []
    features = targets.Target.features
    monkeypatch.setattr(
        targets.Target, "features", lambda self, source: seen.append(len(source)) or features(self, source)
    )
    monkeypatch.setattr(reporting, "_MAPPED", 50)
    folder = tmp_path / "cache-of-its-own" / "runs" / "one"
    shutil.copytree(trained, folder)
    runs.report(folder)
    assert seen == [50]


def test_an_export_loads_in_one_line_and_embeds_alike(trained):
    encoder = tacit.load(trained / "export" / "encoder")
    built = restore(trained)
    x = built.views.plain(built.source.read(range(4))).views["image"].data
    with torch.no_grad():
        torch.testing.assert_close(encoder(x).pooled, built.system.embed(x).pooled, rtol=0, atol=0)
    assert not encoder.training
    assert set(load_file(trained / "export" / "encoder" / "model.safetensors")) == set(encoder.state_dict())


def test_the_same_recipe_twice_gives_the_same_numbers(trained, tmp_path):
    again = tiny(tmp_path / "runs").folder
    for name, (steps, values) in read_metrics(trained).items():
        np.testing.assert_array_equal(read_metrics(again)[name][0], steps)
        np.testing.assert_array_equal(read_metrics(again)[name][1], values)
    a, b = (load_file(folder / "export" / "encoder" / "model.safetensors") for folder in (trained, again))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert runs.judge(again).to_plain() == json.loads((trained / "results" / "judge.json").read_text())


def test_weights_are_a_function_of_the_seed_and_leave_torch_alone():
    recipe = recipes.load("ssl.vicreg_digits", TINY)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build(recipe).system.state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = build(recipe).system.state_dict()
    other = build(recipes.load(recipe, ["seed=1"])).system.state_dict()
    name = "encoder.stages.0.0.weight"
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], other[name])


def test_the_table_names_protocol_n_seeds_chance_and_baselines(trained):
    plain = runs.probe(trained, ["data.split=train"], seeds=2).to_plain()["results"]
    assert {row["model"] for row in plain} == {"trained", "untrained", "raw pixels"}
    row = next(r for r in plain if (r["model"], r["protocol"]) == ("trained", "linear/5-per-class@1"))
    assert (row["n"], row["seeds"]) == (359, 2)
    assert 0 < row["chance"] < 0.2
    assert row["low"] <= row["value"] <= row["high"]
    assert {d["to"] for d in row["differences"]} == {"raw pixels", "untrained"}


def test_features_go_to_files_and_come_back(trained, tmp_path):
    for split in ("train", "test"):
        found = runs.embed(trained, tmp_path / f"{split}.npz", [f"data.split={split}"])
        assert (found["rows"], found["dim"]) == ({"train": 1438, "test": 359}[split], 16)
    runs.embed(trained, tmp_path / "test.parquet", ["data.split=test"])
    probed = runs.probe(tmp_path / "train.npz", [f"test={tmp_path / 'test.npz'}"], seeds=2)
    own = {
        r["protocol"]: r["value"]
        for r in runs.probe(trained, ["seed=0"], seeds=2).to_plain()["results"]
        if r["model"] == "trained"
    }
    mine = {r["protocol"]: r["value"] for r in probed.to_plain()["results"]}
    assert mine["knn/k=20,t=0.07@1"] == own["knn/k=20,t=0.07@1"]
    assert runs.judge(tmp_path / "train.npz").scores["train"][0].n == 1438
    with pytest.raises(RecipeError, match=r"out\.csv: features are written as \.npz or \.parquet, found '\.csv'"):
        runs.embed(trained, "out.csv")
    with pytest.raises(
        DataError, match=r"is a file of features: name the file to test on, test=FILE, and nothing else"
    ):
        runs.probe(tmp_path / "train.npz")
    np.savez(tmp_path / "odd.npz", z=np.zeros(3))
    with pytest.raises(DataError, match=r"odd\.npz has the arrays z: one must be called 'features'"):
        runs.judge(tmp_path / "odd.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "train.npz").read_bytes()[:100])
    with pytest.raises(DataError, match=r"cut\.npz cannot be read as arrays: "):
        runs.judge(tmp_path / "cut.npz")


def test_an_export_is_probed_on_other_data(trained, tmp_path):
    export = trained / "export" / "encoder"
    with pytest.raises(
        RecipeError, match=r"is an export: say which data to use, for example data=folder data\.path=photos"
    ):
        runs.probe(export)
    found = runs.judge(export, ["data=digits", "data.split=test"])
    assert found.scores["trained"][0].n == 359
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rgb.npy", rng.integers(0, 255, (20, 12, 12, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="takes 1 channels, the data have 3"):
        runs.judge(export, ["data=arrays", f"data.path={tmp_path / 'rgb.npy'}"])


def test_the_system_of_a_run_cannot_be_changed_afterwards(trained):
    with pytest.raises(
        RecipeError, match="holds the system it was trained with: only data, views and machine can be changed here"
    ):
        runs.judge(trained, ["system.encoder.widths=[8, 8]"])
    with pytest.raises(CheckpointError, match="neither an export"):
        runs.judge(trained.parent)


def test_own_images_train_without_labels(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(40):
        size = (20 + i % 5, 24)
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    run = runs.train(
        "ssl.vicreg",
        ("data=folder", f"data.path={tmp_path / 'photos'}", "steps=2", "batch=16", "system.encoder=convnet",
         "system.encoder.widths=[8, 16]", "system.projector.widths=[32, 16]", "machine.trackers=[]"),
        root=tmp_path / "runs",
    )  # fmt: skip
    assert run.status == "finished"
    assert "judging without labels, then the report" in capsys.readouterr().err
    assert "The run was not probed with labels" in run.report.read_text()
    with pytest.raises(DataError, match="probing needs a test split beside train"):
        runs.probe(run.folder)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_numbers_of_channels_work_and_colour_refuses(tmp_path, channels):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 255, (32, channels, 16, 16), dtype=np.uint8))
    small = ("data=arrays", f"data.path={tmp_path / 'x.npy'}", "data.layout=nchw", "steps=1", "batch=16", "machine.trackers=[]",
             "system.encoder=convnet", "system.encoder.widths=[8]", "system.projector.widths=[16, 8]")  # fmt: skip
    with pytest.raises(
        RecipeError,
        match=rf"view 'image': saturation and hue and grey need pictures of 3 channels, these have {channels}",
    ):
        runs.check("ssl.vicreg", small)
    grey = (*small, *(f"views.first.{name}=0" for name in ("saturation", "hue", "grey")))
    assert runs.train("ssl.vicreg", grey, root=tmp_path / "runs", quiet=True).status == "finished"


def test_an_unfinished_run_is_continued_and_a_finished_one_is_not(tmp_path):
    root = tmp_path / "runs"
    first = tiny(root)
    assert tiny(root).folder != first.folder
    state = first.folder / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "status": "stopped"}))
    assert tiny(root).folder == first.folder
    assert tiny(root, "seed=1").folder != first.folder
    state.write_text(json.dumps({**json.loads(state.read_text()), "status": "stopped"}))
    assert tiny(root, new=True).folder != first.folder


def test_check_tells_size_and_time_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = runs.check("ssl.vicreg_digits", TINY)
    assert found.parameters["encoder"] > 0
    assert found.samples == 1438
    assert found.estimate == pytest.approx(6 * found.seconds)
    assert set(found.terms) == {"loss", "invariance", "variance", "covariance"}
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_ranks_without_labels_and_reports_what_labels_choose(tmp_path):
    grid = [*TINY, "optim.lr=1e-4,3e-3", "system.objective.covariance=0.5,1"]
    found = runs.sweep("ssl.vicreg_digits", grid, engine="serial", root=tmp_path, name="grid", quiet=True)
    plain = found.to_plain()
    assert len(plain["runs"]) == 4
    assert plain["failed"] == {}
    ranks = {run["name"]: run["scores"][0]["value"] for run in plain["runs"]}
    assert plain["chosen"] == max(ranks, key=ranks.get)
    labels = {run["name"]: run["results"][0]["value"] for run in plain["runs"]}
    assert labels[plain["best by labels"]] == max(labels.values())
    assert "Rank correlation" in found.text()
    assert "optim.lr" in found.report.read_text()
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors"))
    runs.sweep("ssl.vicreg_digits", grid, engine="serial", root=tmp_path, name="grid", quiet=True)
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")) == before


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        (["optim.lr"], r"'optim\.lr': an axis of a sweep reads path=v1,v2,\.\.\. for example optim\.lr=0\.1,0\.3"),
        (["optim.lr=0.1,,2"], r"'optim\.lr=0\.1,,2': one of the values is empty"),
        (["optim.rate=1,2"], r"optim\.rate: optimizer 'adamw' has no setting 'rate'"),
    ],
)
def test_a_faulty_grid_is_refused_before_anything_runs(tmp_path, grid, sentence):
    with pytest.raises(RecipeError, match=sentence):
        runs.sweep("ssl.vicreg_digits", grid, root=tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_score_is_refused():
    with pytest.raises(RecipeError, match=r"no label-free score named 'rankmee'\. Did you mean 'rankme'\?"):
        runs.sweep("ssl.vicreg_digits", ["optim.lr=1,2"], select="rankmee")


def test_a_batch_that_does_not_split_over_the_devices_starts_no_process(tmp_path):
    with pytest.raises(RunError) as error:
        tiny(tmp_path, "batch=9", devices=2)
    assert str(error.value) == (
        "batch: 9 does not split into accumulate=1 micro-batches over 2 processes: choose a multiple of 2"
    )


def test_devices_must_be_a_number(tmp_path):
    with pytest.raises(RecipeError, match="--devices many: needs a whole number from 1, or auto"):
        tiny(tmp_path, devices="many")


def test_weights_travel_between_files(trained, tmp_path):
    listed = runs.weights_list(trained.parents[1])
    assert [row["kind"] for row in listed] == ["convnet"]
    runs.weights_export(trained, tmp_path / "w.safetensors")
    found = runs.weights_import(
        tmp_path / "w.safetensors", tmp_path / "imported", encoder="convnet", settings=["widths=[8, 16]"], channels=1
    )
    assert found["tensors"] == len(tacit.load(tmp_path / "imported").state_dict())
    with pytest.raises(CheckpointError, match=r"w\.bin: weights are written as \.safetensors or \.pth, found '\.bin'"):
        runs.weights_export(trained, tmp_path / "w.bin")
