"""Differential equations end to end at tiny scale: make, train, regress, report, ablate."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tacit import runs
from tacit.core.errors import DataError, RecipeError, RunError, UnknownNameError
from tacit.runs import regressing, target
from tacit.runs.regression_tasks import Work
from tacit.worlds.pdes.layouts import lpsda

WORLD = ("length=32", "horizon=4", "points=64", "frames=16", "stored=12", "waves=3")
TINY = (
    *(f"data.world.{text}" for text in WORLD), "data.count=48", "data.held_out=60", "views.crop=[8, 48]", "views.length=32",
    "system.encoder.widths=[8, 8]", "system.projector.widths=[16, 16]", "steps=4", "batch=16", "machine.trackers=[]",
    "checks.judge_every=0", "machine.threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A finished run with the errors of its regression."""
    run = runs.train("pde.kdv_small", TINY, root=tmp_path_factory.mktemp("work") / "runs", quiet=True)
    found = regressing.regress(
        target.load(run.folder), seeds=2, protocols=("linear/all@1", "linear/20-labels@1", "mlp/all@1")
    )
    runs.report(run.folder)
    return run.folder, found


def test_every_table_has_its_baselines_and_every_task_its_table(probed):
    _, found = probed
    assert found.tasks == ["plain", "crops", "range", "family"]
    for task in found.tasks:
        table = found.table(task)
        assert set(table.models) == {"trained", "untrained", "supervised", "statistics", "constant"}
        rows = {protocol.partition(", ")[0] for protocol in table.protocols}
        assert rows == {"mode_1", "mode_2"}  # length and horizon can be read off the coordinates
        assert all(r.low <= r.value <= r.high for r in table.results)
    few = next(p for p in found.table("plain").protocols if "20-labels" in p)
    assert {r.seeds for r in found.table("plain").row(few) if r} == {2}
    assert "less is better" in found.text().lower()


def test_extrapolation_tests_only_above_what_has_labels(probed):
    _, found = probed
    own = found.records.only(benchmark="factors/kdv/range@1", group="mode_1", model="constant")
    learned = float(own[0].prediction)
    assert 10 <= len(own) < 60 and all(float(r.answer) > learned for r in own)


def test_without_baselines_the_same_errors_stand_alone_and_other_trajectories_can_be_asked_for(probed):
    folder, found = probed
    few = {"seeds": 2, "protocols": ("linear/all@1",), "baselines": False, "tasks": ("plain", "family"), "keep": False}
    same = regressing.regress(target.load(folder), **few)
    other = regressing.regress(target.load(folder), split="valid", **few)
    assert same.tasks == other.tasks == ["plain", "family"]
    assert set(same.records.column("model").to_pylist()) == {"trained", "constant"}
    for task in same.tasks:
        at = {"benchmark": f"factors/kdv/{task}@1", "group": "mode_1", "model": "trained", "protocol": "linear/all@1"}
        test, whole, valid = (f.records.only(**at).column("answer").to_pylist() for f in (same, found, other))
        assert test == whole and len(valid) == len(test) and (set(valid) & set(test)) <= {"0"}


def test_the_rows_are_kept_and_the_report_reads_them(probed):
    folder, found = probed
    kept = sorted(path.parent.name for path in (folder / "results").rglob("*.parquet"))
    assert set(kept) == {f"factors-kdv-{task}@1" for task in found.tasks}
    page = (folder / "report" / "index.html").read_text()
    for title in (
        "Regression, task range: unexplained", "Solutions of kdv", "Films of kdv", "Spectra of kdv", "Quantities of kdv over time",
        "What the encoder is told to ignore", "The spread of the embedding",
    ):  # fmt: skip
        assert f">{title}</h2>" in page, title
    assert "https://" not in page and not re.search(r"(src|href)=.http", page)
    film = re.search(r"data:image/gif;base64,([A-Za-z0-9+/=]+)", page)
    assert Image.open(io.BytesIO(base64.b64decode(film[1]))).n_frames == 12


def test_the_encoder_of_the_supervised_yardstick_is_that_of_the_run_and_learns(probed):
    folder, _ = probed
    work = Work(target.load(folder), 1, None, True)
    at = {"train": torch.arange(48), "test": torch.arange(60)}
    learn = work.supervised(["mode_1"], work.y, at, work.test, work.found.views)
    first = learn(np.arange(48), 0)
    assert torch.equal(first, learn(np.arange(48), 0)) and not torch.equal(first, learn(np.arange(48), 1))


def test_one_factor_and_one_protocol_may_be_asked_for(probed):
    folder, _ = probed
    found = regressing.regress(
        target.load(folder), seeds=1, protocols=("linear/all@1",), only=("mode_2",), tasks=("plain",), keep=False
    )
    assert found.table("plain").protocols == ["mode_2, linear/all@1"]
    with pytest.raises(UnknownNameError, match=r"no factor that varies named 'mode_3'. Did you mean 'mode_"):
        regressing.regress(target.load(folder), only=("mode_3",), keep=False)
    with pytest.raises(UnknownNameError, match="no protocol of regression named 'knn/k=20'"):
        regressing.regress(target.load(folder), protocols=("knn/k=20",), tasks=("plain",), keep=False)


def test_a_sweep_over_symmetries_ranks_by_the_variance_explained(tmp_path):
    found = runs.sweep(
        "pde.kdv_small",
        ["views.use=none,galilei", *(text for text in TINY)],
        engine="serial",
        root=tmp_path,
        quiet=True,
    )
    assert not found.failed
    results = [run.results for run in found.section.runs]
    assert [(one[0].model, one[0].protocol) for one in results] == [("trained", "linear/all@1")] * 2
    assert results[0][0].value != results[1][0].value
    assert "views.use" in found.text()


def test_making_is_restartable_and_the_file_is_the_published_one(tmp_path):
    say = {"out": tmp_path, "count": 5, "shard": 2, "engine": "serial", "quiet": True}
    made = runs.make_pde("kdv", WORLD, **say)
    assert (made.count, made.shards, made.kept) == (5, 3, 0) and set(made.drift) == {"mass", "momentum", "energy"}
    assert made.drift["mass"] < 1e-12
    whole = lpsda.read(tmp_path / "KdV_train_5.h5", "kdv")
    assert whole.values["u"].shape == (5, 12, 64) and {"mode_1", "drift_energy"} <= set(whole.parameters)
    (tmp_path / "shards" / "kdv-train-00001.h5").unlink()
    (tmp_path / "KdV_train_5.h5").unlink()
    again = runs.make_pde("kdv", WORLD, **say)
    assert again.kept == 2
    assert torch.equal(lpsda.read(tmp_path / "KdV_train_5.h5", "kdv").values["u"], whole.values["u"])
    longer = runs.make_pde("kdv", WORLD, **{**say, "count": 6})
    assert torch.equal(
        lpsda.read(longer.files[0] and tmp_path / "KdV_train_6.h5", "kdv").values["u"][:5], whole.values["u"]
    )
    with pytest.raises(DataError, match="was made from other settings: choose another folder or remove it"):
        runs.make_pde("kdv", (*WORLD[:-1], "waves=4"), **say)


def test_a_zarr_copy_is_made_once(tmp_path):
    zarr = pytest.importorskip("zarr")
    say = {"out": tmp_path, "count": 2, "engine": "serial", "quiet": True, "layout": "zarr"}
    made = runs.make_pde("kdv", WORLD, **say)
    assert made.files == [str(tmp_path / "KdV_train_2.zarr")]
    assert zarr.open_group(made.files[0], mode="r")["train/pde_12-64"].shape == (2, 12, 64)
    assert runs.make_pde("kdv", WORLD, **say).files == made.files


def test_blow_ups_are_named_and_the_finished_shards_kept(tmp_path):
    wild = ("length=8", "horizon=60", "points=64", "frames=4", "stored=4", "waves=40", "substeps=1", "dealias=false")
    with pytest.raises(
        RunError, match=r"1 of 1 shards were not made, 1 of them because a trajectory blew up or was not resolved"
    ):
        runs.make_pde("kdv", wild, out=tmp_path, count=2, engine="serial", quiet=True)


@pytest.mark.parametrize(
    ("kind", "settings", "more", "sentence"),
    [
        ("kvd", (), {}, r"no equation named 'kvd'. Did you mean 'kdv'\?"),
        (
            "burgers",
            ("viscosity=[-0.1, 0.1]",),
            {},
            r"make pde burgers.viscosity\[0\]: input should be greater than 0, found -0.1",
        ),
        ("kdv", ("lenght=3",), {}, r"world 'kdv' has no setting 'lenght'. Did you mean 'length'\?"),
        ("kdv", ("length",), {}, "'length': a setting of the equation reads name=value"),
        ("kdv", (), {"layout": "pdearena"}, "--layout pdearena: world 'kdv' can be written as lpsda, well, zarr"),
        ("kdv", (), {"layout": "well"}, "with jitter=0.1 every trajectory of 'kdv' has its own: set jitter=0"),
        ("kdv", (), {"split": "val"}, r"no split named 'val'. Did you mean 'valid'\?"),
        ("smoke", ("points=256",), {}, "the explicit diffusion number nu dt / dx\\^2 is 0.96 and blows up above 0.25"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_made(kind, settings, more, sentence, tmp_path):
    with pytest.raises((UnknownNameError, RecipeError, DataError), match=sentence):
        runs.make_pde(kind, settings, count=2, out=tmp_path / "new", engine="serial", quiet=True, **more)
    assert not (tmp_path / "new").exists()
