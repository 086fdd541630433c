"""Reading everything finds each planted fault, and nothing else."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tacit.data.verification import verify


def found(report) -> dict[str, list[tuple[str, ...]]]:
    by: dict[str, list[tuple[str, ...]]] = {}
    for finding in report.findings:
        by.setdefault(finding.what, []).append(finding.names)
    return by


def test_a_clean_set_has_no_findings(imagenet):
    report = verify(imagenet)
    assert report.ok and report.findings == () and report.splits == {"train": 6, "val": 4, "test": 2}
    assert report.text() == f"{imagenet}: folder, samples looked at: train 6, val 4, test 2: every sample can be read"
    digits = verify(kind="digits")
    assert digits.ok and digits.splits == {"train": 1438, "test": 359}


def test_each_planted_fault_is_found_by_name(imagenet, write):
    train, val = imagenet / "train", imagenet / "val"
    whole = (train / "n01440764" / "n01440764_0.JPEG").read_bytes()
    (train / "n01440764" / "cut.JPEG").write_bytes(whole[: len(whole) // 2])
    (train / "n01440764" / "empty.JPEG").write_bytes(b"")
    shutil.copy(train / "n02119789" / "n02119789_0.JPEG", train / "n02119789" / "twice.JPEG")
    shutil.copy(train / "n02119789" / "n02119789_1.JPEG", val / "n02119789" / "leaked.JPEG")
    Image.new("RGB", (9, 9), 7).save(train / "n02119789" / "flat.png")
    write(train / "n09999999" / "only.png", 50)
    (train / "n08888888").mkdir()
    report = verify(imagenet, workers=2)
    by = found(report)
    assert by == {
        "unreadable": [
            (str(train / "n01440764" / "cut.JPEG"),),
            (str(train / "n01440764" / "empty.JPEG"),),
        ],
        "constant": [(str(train / "n02119789" / "flat.png"),)],
        "duplicate": [(str(train / "n02119789" / "n02119789_0.JPEG"), str(train / "n02119789" / "twice.JPEG"))],
        "leak": [(str(train / "n02119789" / "n02119789_1.JPEG"), str(val / "n02119789" / "leaked.JPEG"))],
        "class-without-samples": [("n08888888",)],
        "class-in-one-split": [("n09999999",)],
    }
    assert not report.ok and report.counts()["unreadable"] == 2
    sentences = {finding.what: finding.sentence for finding in report.findings}
    assert sentences["unreadable"] == f"{train / 'n01440764' / 'empty.JPEG'}: it is empty (0 bytes)"
    assert sentences["leak"] == (
        f"the same picture is in train and val: {train / 'n02119789' / 'n02119789_1.JPEG'} and {val / 'n02119789' / 'leaked.JPEG'}"
    )
    assert sentences["class-in-one-split"] == "class 'n09999999' is in train and not in val"
    assert sentences["class-without-samples"] == "class 'n08888888' has no samples in train and val"
    plain = json.loads(json.dumps(report.to_plain()))
    assert plain["ok"] is False and plain["findings"][0]["fault"] is True
    assert "unreadable: 2" in report.text() and "and 1 more" in report.text(most=1)


def test_an_odd_size_is_named_only_where_one_size_is_the_rule(tmp_path, write):
    for i in range(39):
        write(tmp_path / f"{i:02}.png", i)
    write(tmp_path / "39.png", 39, size=(7, 7))
    report = verify(tmp_path)
    assert found(report) == {"odd-size": [(str(tmp_path / "39.png"),)]} and report.ok
    assert report.findings[0].sentence == f"{tmp_path / '39.png'}: 7x7 pixels where 39 others have 6x5"
    for i in range(10):
        write(tmp_path / f"{i:02}.png", i, size=(7, 7 + i))
    assert verify(tmp_path).findings == ()


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_samples_that_are_not_finite_or_out_of_range(tmp_path, name):
    values = np.random.default_rng(0).random((70, 4, 4)).astype(np.float32)
    values[65, 0, 0], values[3, 1, 1], values[9, 2, 2] = np.nan, np.inf, 2.0
    path = tmp_path / name
    if name == "x.npy":
        np.save(path, values)
    else:
        np.savez(path, x=values)
    stored = str(path) if name == "x.npy" else f"{path}[x]"
    report = verify(path)
    assert found(report) == {
        "not-finite": [(f"{stored} sample 3",), (f"{stored} sample 65",)],
        "unreadable": [(f"{stored} sample 9",)],
    }
    assert report.findings[0].sentence == f"{stored} sample 3: 1 of its values are NaN or infinite"


def test_a_split_that_cannot_be_opened_is_a_finding_and_the_others_are_read(tmp_path):
    np.save(tmp_path / "train.npy", np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8))
    (tmp_path / "test.npy").write_bytes(b"")
    report = verify(tmp_path)
    assert report.splits == {"train": 5} and not report.ok
    assert [finding.sentence for finding in report.findings] == [
        f"{tmp_path / 'test.npy'}: it is empty (0 bytes): write it again"
    ]


def test_progress_counts_every_sample_once(tmp_path, write):
    for i in range(130):
        write(tmp_path / ("train" if i < 100 else "val") / f"{i:03}.png", i)
    seen: list[tuple[int, int]] = []
    verify(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 130), (100, 130), (130, 130)]
