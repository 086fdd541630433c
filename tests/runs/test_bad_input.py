"""What people hand over by mistake: each ends in one sentence that says what to do, or is harmless.

A teacher without momentum is refused in tests/systems/test_teachers.py, a batch that does not split in tests/training/test_feed.py,
and a file that vanishes in the middle of an epoch is in test_streamed_sources.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from tacit import runs
from tacit.core.errors import DataError, RecipeError, RunError
from tacit.training.metrics import read_metrics

TINY = (
    "data=arrays", "steps=2", "batch=8", "checks.log_every=1", "checks.judge_every=1", "checks.save_every=0", "machine.trackers=[]",
    "machine.device=cpu", "views.first.size=8",
)  # fmt: skip
NARROW = ("system.encoder.widths=[4, 8]", "system.projector.widths=[16, 8]")


def data(folder, train, test=None, classes=4):
    """Pictures as .npz files, labels in turn."""
    folder.mkdir()
    for split, images in (("train", train), ("test", train[:20] if test is None else test)):
        np.savez(folder / f"{split}.npz", images=images, labels=np.arange(len(images)) % classes)
    return folder


def pictures(n=40, side=8):
    return np.random.default_rng(0).integers(0, 256, (n, 3, side, side), dtype=np.uint8)


def train(path, *more, recipe="ssl.dcl_digits", narrow=NARROW):
    return runs.train(
        recipe, [*TINY, f"data.path={path}", *narrow, *more], root=path.parent / "runs", new=True, quiet=True
    )


SMALL_VIT = ("system.encoder.width=12", "system.encoder.depth=1", "views.patch=4")


@pytest.mark.parametrize(
    ("recipe", "system", "narrow"),
    [
        ("ssl.dcl_digits", "joint-embedding", NARROW),
        ("ssl.byol_digits", "joint-embedding", ()),
        ("ssl.ibot_digits", "self-distillation", SMALL_VIT),
        ("ssl.vicregl_digits", "dense-embedding", NARROW),
    ],
)
def test_one_sample_in_a_batch(tmp_path, recipe, system, narrow):
    path = data(tmp_path / "data", pictures())
    for override in (["batch=1"], ["batch=4", "accumulate=4"]):
        with pytest.raises(RecipeError) as caught:
            train(path, *override, recipe=recipe, narrow=narrow)
        assert str(caught.value) == (
            f"system {system!r} sets samples apart from one another and was given a batch of 1: choose batch=2 or more, and with "
            "accumulate at least twice as much"
        )


def test_one_sample_in_all(tmp_path):
    path = data(tmp_path / "data", pictures(1))
    with pytest.raises(
        DataError, match=r"^a batch of 8 needs at least 8 samples, and the data have 1: choose batch=1 or less$"
    ):
        train(path)
    np.save(tmp_path / "one.npy", np.ones((1, 4), np.float32))
    with pytest.raises(
        DataError, match=r"^panel needs at least 2 embeddings, found 1: update it with a larger sample$"
    ):
        runs.judge(tmp_path / "one.npy")


def test_one_class_trains_and_is_judged_and_cannot_be_probed(tmp_path):
    path = data(tmp_path / "data", pictures(), classes=1)
    run = train(path)
    assert run.status == "finished"
    supervised = train(path, "system.labels=label", "system.objective=supcon").folder
    assert np.isfinite(read_metrics(supervised)["loss"][1]).all()
    one = r"^train labels hold the one class 0: a probe needs at least two to tell apart$"
    with pytest.raises(DataError, match=one):
        runs.probe(run.folder)
    with pytest.raises(DataError, match=one):
        runs.finetune(run.folder)
    with pytest.raises(
        DataError,
        match=r"have no label and no named factor of several values: probing layers needs something to predict$",
    ):
        runs.layers(run.folder)


@pytest.mark.parametrize("objective", ["dcl", "vicreg", "barlow-twins", "lejepa", "mmcr"])
def test_constant_images_train_finitely_and_the_log_names_the_collapse(tmp_path, objective):
    path = data(tmp_path / "data", np.full((40, 3, 8, 8), 127, np.uint8))
    run = train(path, f"system.objective={objective}", "views.first.noise=0")
    assert run.status == "finished"
    assert np.isfinite(read_metrics(run.folder)["loss"][1]).all()
    assert (
        "warning: step 1: complete collapse, all samples have nearly the same embedding"
        in (run.folder / "log.txt").read_text()
    )


def test_pixels_that_are_no_number(tmp_path):
    images = np.random.default_rng(0).random((40, 3, 8, 8)).astype(np.float32)
    path = data(tmp_path / "data", images, images[:20].copy())
    images[3, 0, 2, 2] = np.nan
    np.savez(path / "train.npz", images=images, labels=np.arange(40) % 4)
    with pytest.raises((DataError, RunError)) as caught:
        train(path)
    assert str(caught.value).endswith(
        f"{path / 'train.npz'}[images] sample 3 cannot be read: 1 of its values are NaN or infinite. List all such samples with "
        f"'tacit data verify {path}'"
    )


def test_views_larger_than_the_pictures_are_enlarged(tmp_path):
    path = data(tmp_path / "data", pictures(side=4))
    run = train(path, "views.first.size=16", "views.first.blur=1.0")
    assert run.status == "finished"
    assert np.isfinite(read_metrics(run.folder)["loss"][1]).all()
    with pytest.raises(
        RecipeError, match=r"views\.first\.scale\[1\]: input should be less than or equal to 1, found 1\.5"
    ):
        train(path, "views.first.scale=[0.5, 1.5]")
