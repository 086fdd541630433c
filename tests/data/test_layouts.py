"""What a path is, and what a look at it shows."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.parts import parts
from tacit.data.inspection import inspect
from tacit.data.layouts import open_source, recognise


def refused(call, *args, **settings) -> str:
    with pytest.raises(DataError) as caught:
        call(*args, **settings)
    return str(caught.value)


def test_every_kind_is_listed_with_one_sentence():
    listed = {entry.kind: entry.summary for entry in parts("source")}
    assert {"digits", "folder", "cifar", "arrays", "parquet"} <= set(listed)
    assert all(listed.values())


def test_readers_do_not_load_scikit_learn():
    code = "import sys, tacit.data.layouts; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kinds_splits_and_reasons(tmp_path, imagenet, write):
    tree = recognise(imagenet)
    assert (tree.kind, tree.splits, tree.why) == (
        "folder",
        ("train", "val", "test"),
        "split folders train, val, test with picture files",
    )
    write(tmp_path / "flat" / "a.png", 0)
    assert recognise(tmp_path / "flat").why == "a folder of picture files"
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4, 4), dtype=np.uint8), y=np.array([0, 1]))
    arrays = recognise(tmp_path / "a.npz")
    assert (arrays.kind, arrays.splits) == ("arrays", ("train",))
    assert arrays.why == f"images in {tmp_path / 'a.npz'}[x] with labels {tmp_path / 'a.npz'}[y]"


def test_tables_beside_pictures_do_not_hide_them(tmp_path, write):
    write(tmp_path / "a.png", 0)
    pq.write_table(pa.table({"file": ["a.png"], "age": [3]}), tmp_path / "metadata.parquet")
    assert recognise(tmp_path).kind == "folder"
    np.save(tmp_path / "train.npy", np.zeros((2, 4, 4), dtype=np.uint8))
    assert recognise(tmp_path).kind == "arrays" and recognise(tmp_path, "folder").kind == "folder"
    assert len(open_source(tmp_path, kind="folder")) == 1
    with pytest.raises(UnknownNameError) as caught:
        recognise(tmp_path, "foldr")
    assert str(caught.value) == (
        "no kind of data with a path named 'foldr'. Did you mean 'folder'? Known: arrays, beton, cifar, d4rl, droid, folder, hf-disk, "
        "lerobot, listing, minari, ogbench, parquet, recon, stl10, svhn, tar, trajectories, trajectory-parquet, video."
    )


def test_what_cannot_be_recognised_says_what_was_looked_for(tmp_path):
    looked = (
        "Looked for CIFAR archives (cifar-10-batches-py and the like), STL-10, SVHN, Tiny ImageNet, Places365, iNaturalist, VOC, "
        "Hugging Face data sets, .parquet, .tar and .beton files, "
        ".npy and .npz arrays (train.npy, x_train, images), lists and folders of videos, episodes with actions (LeRobot, Minari, OGBench, "
        "D4RL, DROID, RECON, folders of .npz, Parquet with a row a step), trajectories of equations (LPSDA, MP-PDE, "
        "PDEArena, The Well), and picture files at any depth"
    )
    assert refused(recognise, tmp_path) == f"{tmp_path}: no known layout; found an empty folder. {looked}"
    for i in range(7):
        (tmp_path / f"{i}.txt").write_text("x")
    assert refused(recognise, tmp_path) == (
        f"{tmp_path}: no known layout; found 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more. {looked}"
    )
    assert refused(recognise, tmp_path / "0.txt") == (
        f"{tmp_path / '0.txt'}: this file is none that can be read; single files may be .npy, .npz, .parquet, .tar, .beton or lists of "
        "videos, other kinds are folders: give the folder that holds the file"
    )
    assert refused(recognise, tmp_path / "nothing") == (
        f"{tmp_path / 'nothing'}: there is nothing at this path; the nearest folder that exists is {tmp_path}"
    )


def test_open_source_by_path_alone(imagenet):
    assert len(open_source(imagenet)) == 6
    assert len(open_source(imagenet, "val", channels=1)) == 4
    assert len(open_source(imagenet, "val", kind="folder")) == 4
    with pytest.raises(
        RecipeError, match=r"source\.chanels: source 'folder' has no setting 'chanels'\. Did you mean 'channels'\?"
    ):
        open_source(imagenet, chanels=1)


def test_inspect_the_tree(imagenet, write):
    write(imagenet / "train" / "n01440764" / "grey.png", 7, (100, 40), mode="L")
    (imagenet / "val" / "n01440764" / "empty.png").write_bytes(b"")
    report = inspect(imagenet)
    train, val, test = report.splits.values()
    assert (train.samples, val.samples, test.samples) == (7, 5, 2)
    assert train.classes == {"n01440764": 4, "n02119789": 3} and test.classes == {}
    assert train.channels == {1: 1, 3: 6} and train.height == (8, 11.0, 100) and train.width == (9, 9.0, 40)
    assert val.unreadable == 1 and val.looked_at == 5 and train.ids == (0, 6)
    assert report.channels == 3 and report.shape is None and report.classes == ("n01440764", "n02119789")
    assert json.loads(json.dumps(report.to_plain()))["splits"]["train"]["samples"] == 7
    text = report.text()
    assert "train: 7 samples, 2 classes of 3 to 4, ids 0 to 6" in text
    assert "channels differ among the 7 files looked at (1 with 1, 6 with 3): all are read with 3" in text
    assert f"1 of 5 looked at cannot be read: tacit data verify {imagenet}" in text


def test_inspect_digits_and_arrays(tmp_path):
    digits = inspect(kind="digits")
    assert digits.shape == (8, 8) and digits.splits["test"].samples == 359 and digits.splits["test"].held == 359 * 64
    values = np.random.default_rng(0).random((20, 8, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    report = inspect(tmp_path / "x.npy")
    assert report.mean[0] == pytest.approx(values.mean(), abs=1e-6) and report.std[0] == pytest.approx(
        values.std(), abs=1e-6
    )
    assert report.splits["train"].dtype == "float32" and "1 channels, 8x6 pixels" in report.text()


def test_inspect_refusals(imagenet):
    assert refused(inspect) == "a path is needed for every kind of data but 'digits'"
    assert refused(inspect, imagenet, kind="arrays") == (
        f"{imagenet}: is laid out for the source 'folder' (split folders train, val, test with picture files), not for 'arrays': "
        "leave out the kind"
    )
