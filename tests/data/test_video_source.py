"""Every layout of videos is read with the right labels; clips are a function of (seed, epoch, sample); faults are counted and named."""

from __future__ import annotations

import csv
import json
import logging
import pickle
import tarfile

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.data.inspection import inspect
from tacit.data.layouts import open_source, recognise
from tacit.data.verification import verify
from tacit.data.video_layouts import epic_classes


def opened(path, split="train", **settings):
    return Spec("source", "video", path=str(path), split=split, **{"frames": 4, "step": 2, **settings}).build()


def refused(path, **settings):
    with pytest.raises(DataError) as caught:
        opened(path, **settings)
    return str(caught.value)


@pytest.fixture
def listed(film, tmp_path):
    """A list of four videos, one with spaces in its path, and its folder."""
    for i, name in enumerate(("a.mp4", "b c/d e.mp4", "f.mkv", "g.mp4")):
        film(tmp_path / name, seed=i)
    (tmp_path / "list.csv").write_text(f"a.mp4 0\nb c/d e.mp4 2\n{tmp_path / 'f.mkv'} 1\ng.mp4 0\n")
    return tmp_path / "list.csv"


def test_a_list_as_published_is_read_with_spaces_in_its_paths(listed, numbers):
    assert recognise(listed).kind == "video"
    source = opened(listed)
    batch = source.read([3, 1, 2])
    assert (
        batch.ids.tolist() == [3, 1, 2]
        and batch.facts["label"].tolist() == [0, 2, 1]
        and source.classes == ("0", "1", "2")
    )
    assert source.facts.frames == 4 and source.facts.shape is None and source.facts.mean == (0.485, 0.456, 0.406)
    assert [clip.dtype for clip in batch.views["image"].data] == [torch.uint8] * 3
    assert all(numbers(clip) == [6, 8, 10, 12] for clip in batch.views["image"].data)  # (20 - 7) // 2
    for separator in ("::", ",", "\t"):
        listed.write_text(f"a.mp4{separator}5\nb c/d e.mp4{separator}1\n")
        assert opened(listed).read([0, 1]).facts["label"].tolist() == [5, 1]
    listed.write_text("a.mp4\nb c/d e.mp4\n")
    assert opened(listed).labels is None and len(opened(listed)) == 2
    np.save(listed.with_suffix(".npy"), np.array(["a.mp4", "g.mp4"]))
    assert len(opened(listed.with_suffix(".npy"))) == 2


def test_lists_named_after_splits_have_one_set_of_classes(listed):
    folder = listed.parent
    (folder / "train.csv").write_text("a.mp4 0\ng.mp4 2\n"), (folder / "val.csv").write_text("f.mkv 1\n")
    layout = recognise(folder)
    assert layout.why == "lists of videos" and layout.splits == ("train", "val")
    assert opened(folder, "val").read([0]).facts["label"].tolist() == [1]
    assert opened(folder, "val").classes == opened(folder).classes == ("0", "1", "2")


def test_clips_are_a_function_of_seed_epoch_and_sample(listed, numbers):
    source = opened(listed, step=1)

    def starts(source):
        return [numbers(clip)[0] for clip in source.read(range(4)).views["image"].data]

    epochs = [starts(source.at(0, epoch)) for epoch in range(8)]
    assert epochs == [starts(opened(listed, step=1).at(0, epoch)) for epoch in range(8)]
    assert epochs[2][1:2] == [numbers(source.at(0, 2).read([1]).views["image"].data[0])[0]]  # whoever else is read
    assert len({tuple(found) for found in epochs}) > 5 and epochs != [starts(source.at(1, epoch)) for epoch in range(8)]
    assert starts(source) == [8] * 4 == starts(pickle.loads(pickle.dumps(source)))
    assert source.at(0, 0).digest() == source.digest() != opened(listed, step=2).digest()


def test_a_wrong_label_column_is_named_with_its_line(listed):
    listed.write_text("a.mp4 0\ng.mp4 cat\n")
    assert refused(listed) == (
        f"{listed}: line 2 ends in 'cat' where the number of its class is needed; a row reads `<path> <label>`, with a space, a comma or "
        ":: between: take out headers, and number the classes from 0"
    )
    listed.write_text("a.mp4 0\ng.mp4 -2\n")
    assert "labels are out of range, the first is -2 of sample 1" in refused(listed)


def test_broken_videos_stop_with_their_name_or_are_replaced_when_asked_for_and_counted(listed, caplog):
    broken = listed.parent / "a.mp4"
    broken.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        opened(listed).read([0])
    assert str(caught.value) == (
        f"{broken} cannot be read: it is empty (0 bytes). List all such samples with 'tacit data verify {listed}', or let neighbours stand "
        "in for them: unreadable: skip"
    )
    source = opened(listed, unreadable="skip")
    with caplog.at_level(logging.WARNING):
        assert source.at(0, 1).read([0, 2]).ids.tolist() == [1, 2] and source.skipped == {0: 1}
    assert (
        f"{broken} cannot be read (it is empty (0 bytes)): {listed.parent / 'b c/d e.mp4'} stands in for it"
        in caplog.text
    )


def test_verify_finds_every_planted_fault_ahead(film, cut_in_a_frame, tmp_path):
    for i, name in enumerate(("train/x/a.mp4", "train/y/b.mp4", "train/y/c.mp4", "val/x/d.mp4", "val/y/e.mp4")):
        film(tmp_path / name, frames=70, seed=i)
    assert verify(tmp_path).ok
    (tmp_path / "val/x/leak.mp4").write_bytes((tmp_path / "train/x/a.mp4").read_bytes())
    film(tmp_path / "train/x/short.mp4", frames=30, seed=9)
    film(tmp_path / "train/x/rate.mp4", frames=70, seed=8, times=np.cumsum([0.0, *[0.1, 0.3] * 34, 0.1]))
    whole = film(tmp_path / "train/x/cut.mp4", frames=70, seed=7, first=True)
    cut_in_a_frame(whole)
    report = verify(tmp_path)
    by = {finding.what: finding for finding in report.findings}
    assert report.counts() == {"unreadable": 1, "leak": 1, "short": 1, "variable-rate": 1} and not report.ok
    assert by["unreadable"].names == (str(whole),) and "it is damaged behind frame" in by["unreadable"].sentence
    assert (
        by["leak"].sentence
        == f"the same video is in train and val: {tmp_path / 'train/x/a.mp4'} and {tmp_path / 'val/x/leak.mp4'}"
    )
    assert by["short"].sentence == f"{tmp_path / 'train/x/short.mp4'}: it has 30 frames, and a clip spans 61 of them"
    assert by["variable-rate"].sentence == (
        f"{tmp_path / 'train/x/rate.mp4'}: its frames are 0.1 to 0.3 s apart: sample by time, fps=..."
    )


def test_inspect_says_how_long_and_how_fast(film, tmp_path):
    film(tmp_path / "x" / "a.mp4", frames=21), film(tmp_path / "y" / "b.mp4", frames=40, size=(48, 32))
    report = inspect(tmp_path)
    assert report.kind == "video" and report.why == "a folder of videos" and report.classes == ("x", "y")
    assert report.splits["train"].height == (32, 40.0, 48)
    assert report.splits["train"].notes == (
        "21 to 40 frames (median 30.5), 10 to 10 a second; 1 of 2 looked at have an odd number of frames, 0 a variable rate",
    )


def test_tar_shards_are_read_in_place(film, tmp_path, numbers):
    films = [film(tmp_path / "raw" / f"{i}.mp4", seed=i) for i in range(3)]
    for shard, own in (("train-000.tar", (0, 1)), ("train-001.tar", (2,))):
        with tarfile.open(tmp_path / shard, "w") as archive:
            for i in own:
                archive.add(films[i], f"key{i}.mp4")
                (tmp_path / "label").write_text(str(2 - i))
                archive.add(tmp_path / "label", f"key{i}.cls")
    for file in films:
        file.unlink()
    assert recognise(tmp_path).why == "2 .tar archives of videos"
    batch = opened(tmp_path).read([2, 0])
    assert batch.facts["label"].tolist() == [0, 2] and numbers(batch.views["image"].data[0]) == [6, 8, 10, 12]


def test_pictures_in_a_list_are_clips_that_stand_still(film, write, tmp_path):
    film(tmp_path / "a.mp4")
    values = write(tmp_path / "p.png", 3)
    (tmp_path / "l.txt").write_text("a.mp4 0\np.png 1\n")
    clip = opened(tmp_path / "l.txt").read([1]).views["image"].data[0]
    assert clip.shape == (3, 4, 6, 5) and (clip == torch.from_numpy(values).permute(2, 0, 1)[:, None]).all()


# published layouts


def rows(path, header, *lines, delimiter=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *lines])


def kinetics(film, root):
    header = ("label", "youtube_id", "time_start", "time_end", "split")
    rows(
        root / "annotations/train.csv",
        header,
        ("waxing legs", "abc_-1", 5, 15, "train"),
        ("abseiling", "xyz", 0, 10, "train"),
    )
    rows(root / "annotations/validate.csv", header, ("waxing legs", "val1", 2, 12, "validate"))
    (
        film(root / "train/waxing legs/abc_-1_000005_000015.mp4"),
        film(root / "train/abseiling/xyz_000000_000010.mp4"),
        film(root / "val/val1.mp4"),
    )
    return {"train": [1, 0], "val": [1]}, ("abseiling", "waxing legs")


def ssv2(film, root):
    (root / "labels").mkdir(parents=True)
    (root / "labels/labels.json").write_text(
        json.dumps({"Holding something": "0", "Putting something on something": "1"})
    )
    entry = {
        "id": "7",
        "label": "putting a cup on a table",
        "template": "Putting [something] on [something]",
        "placeholders": ["a cup"],
    }
    (root / "labels/train.json").write_text(
        json.dumps([entry, {**entry, "id": "8", "template": "Holding [something]"}])
    )
    (root / "labels/validation.json").write_text(json.dumps([{**entry, "id": "9"}]))
    for i in (7, 8, 9):
        film(root / f"20bn-something-something-v2/{i}.webm", codec="libvpx-vp9", seed=i)
    return {"train": [1, 0], "val": [1]}, ("Holding something", "Putting something on something")


def diving(film, root):
    root.mkdir(parents=True)
    (root / "Diving48_vocab.json").write_text(json.dumps([["Back", "15som"], ["Forward", "25som"]]))
    for split, names in (("train", "ab"), ("test", "c")):
        found = [{"vid_name": name, "label": i, "start_frame": 0, "end_frame": 20} for i, name in enumerate(names)]
        (root / f"Diving48_V2_{split}.json").write_text(json.dumps(found))
        for name in names:
            film(root / f"rgb/{name}.mp4", seed=ord(name))
    return {"train": [0, 1], "test": [0]}, ("Back, 15som", "Forward, 25som")


def coin(film, root):
    root.mkdir(parents=True)
    held = {
        name: {"subset": subset, "class": kind, "recipe_type": 1, "annotation": []}
        for name, subset, kind in (
            ("u", "training", "MakeTea"),
            ("v", "testing", "ChangeTire"),
            ("w", "training", "ChangeTire"),
        )
    }
    (root / "COIN.json").write_text(json.dumps({"database": held}))
    for name in held:
        film(root / f"videos/1/{name}.mp4", seed=ord(name))
    return {"train": [1, 0], "test": [0]}, ("ChangeTire", "MakeTea")


EPIC = (
    "narration_id",
    "video_id",
    "start_timestamp",
    "stop_timestamp",
    "start_frame",
    "stop_frame",
    "verb_class",
    "noun_class",
)


def epic(film, root):
    one = ("P01_01", "00:00:00.50", "00:00:01.50", 5, 15)
    rows(root / "EPIC_100_train.csv", EPIC, ("t0", *one, 3, 9), ("t1", *one, 0, 2))
    rows(root / "EPIC_100_validation.csv", EPIC, ("v0", "P01_02", *one[1:], 3, 9), ("v1", "P01_02", *one[1:], 3, 2))
    film(root / "P01/videos/P01_01.MP4"), film(root / "P01/videos/P01_02.MP4", seed=1)
    return {"train": [1, 0], "val": [1]}, ("0:2", "3:9")


def jester(film, root):
    rows(root / "jester-v1-labels.csv", None, ("Swiping Left",), ("No gesture",), delimiter=";")
    rows(root / "jester-v1-train.csv", None, (1, "No gesture"), (2, "Swiping Left"), delimiter=";")
    rows(root / "jester-v1-validation.csv", None, (3, "Swiping Left"), delimiter=";")
    from PIL import Image

    for video in (1, 2, 3):
        folder = root / f"20bn-jester-v1/{video}"
        folder.mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (48, 32), (12 * i + 8,) * 3).save(folder / f"{i + 1:05d}.png")
    return {"train": [1, 0], "val": [0]}, ("Swiping Left", "No gesture")


@pytest.mark.parametrize("make", [kinetics, ssv2, diving, coin, epic, jester])
def test_a_published_set_is_recognised_and_read_with_its_labels(make, film, numbers, tmp_path):
    expected, classes = make(film, tmp_path / "set")
    layout = recognise(tmp_path / "set")
    assert layout.kind == "video" and layout.why.endswith("as published") and set(layout.splits) == set(expected)
    for split, labels in expected.items():
        source = opened(tmp_path / "set", split)
        batch = source.read(range(len(source)))
        assert batch.facts["label"].tolist() == labels and source.classes == classes
        middle = [7, 9, 11, 13] if make is epic else [6, 8, 10, 12]  # epic: frames 5 to 15, (11 - 7) // 2
        assert all(numbers(clip) == middle for clip in batch.views["image"].data)


def test_listed_videos_that_are_not_there_are_counted_or_left_out(film, tmp_path):
    kinetics(film, tmp_path)
    (tmp_path / "train/abseiling/xyz_000000_000010.mp4").unlink()
    assert refused(tmp_path) == (
        f"{tmp_path}: 1 of 2 listed videos of 'train' are not below {tmp_path}, the first is xyz_000000_000010: fetch them, or leave them "
        "out: unreadable: skip"
    )
    source = opened(tmp_path, unreadable="skip")
    assert len(source) == 1 and source.read([0]).facts["label"].tolist() == [1]
    assert source.notes == ("1 listed videos are not there and left out, the first is xyz_000000_000010",)


def test_published_files_with_another_shape_are_refused(film, tmp_path):
    epic(film, tmp_path)
    rows(tmp_path / "EPIC_100_train.csv", EPIC[:-1], ("t0", "P01_01", "0", "0", 5, 15, 3))
    assert "lacks the column noun_class; it has narration_id" in refused(tmp_path)
    for split in ("train", "val"):
        (tmp_path / f"EPIC_100_{split}.csv").unlink(missing_ok=True)
    (tmp_path / "empty").mkdir()
    assert "holds no videos in a layout that is known; looked for lists of `<path> <label>`" in refused(
        tmp_path / "empty"
    )
    with pytest.raises(
        RecipeError, match="step and fps: each says how far apart the frames of a clip are: keep one of them"
    ):
        opened(tmp_path, fps=4.0)


def test_actions_are_numbered_in_order_or_as_the_released_head_has_them():
    pairs = [(verb, noun) for verb in (50, 3, 20) for noun in (7, 250, 1)]
    held = [{"verb_class": str(verb), "noun_class": str(noun)} for verb, noun in pairs]
    assert list(epic_classes(held)) == sorted(pairs)
    found = set()
    for pair in pairs:
        found.add((np.int64(pair[0]), np.int64(pair[1])))  # as the published code builds it
    assert list(epic_classes(held, "official")) == list(found)


def test_the_factors_of_epic_kitchens_are_verb_and_noun(film, tmp_path):
    epic(film, tmp_path)
    source = open_source(tmp_path, "train", frames=4)
    batch = source.read([0, 1])
    assert (
        batch.facts["verb"].tolist() == [3, 0]
        and batch.facts["noun"].tolist() == [9, 2]
        and batch.facts["start_frame"].tolist() == [5, 5]
    )
