"""STL-10, SVHN, Tiny ImageNet, Places365, iNaturalist and VOC, written small in exactly the published form."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from scipy.io import savemat

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.laws import check_source
from tacit.data.fixed import Stl10Source, SvhnSource
from tacit.data.layouts import open_source, recognise
from tacit.data.listing import ListingSource
from tacit.data.verification import verify


@pytest.fixture
def stl10(tmp_path):
    """Pictures whose value at (c, y, x) is 64 c + x in row y = 0 and 64 c elsewhere, so that a transposed reader is caught."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    picture = np.zeros((3, 96, 96), dtype=np.uint8) + 64 * np.arange(3, dtype=np.uint8)[:, None, None]
    picture[:, 0, :] += np.arange(96, dtype=np.uint8) % 64
    for split, n in (("train", 4), ("test", 3), ("unlabeled", 5)):
        stored = np.stack([picture + i for i in range(n)]).transpose(0, 1, 3, 2)  # column by column
        np.ascontiguousarray(stored).tofile(folder / f"{split}_X.bin")
        if split != "unlabeled":
            (np.arange(n, dtype=np.uint8) % 10 + 1).tofile(folder / f"{split}_y.bin")
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    return tmp_path, picture


def test_stl10_is_read_upright_with_labels_from_zero(stl10):
    root, picture = stl10
    for memory in (0, 1024):
        source = Stl10Source(path=str(root), memory=memory)
        batch = source.read([2, 0])
        assert np.array_equal(batch.views["image"].data.numpy(), np.stack([picture + 2, picture]))
        assert batch.facts["label"].tolist() == [2, 0]
    check_source(Stl10Source(path=str(root)))
    assert Stl10Source(path=str(root)).classes[2] == "car"
    assert recognise(root).splits == ("train", "test", "unlabeled")


def test_the_unlabelled_split_of_stl10_has_no_labels_and_the_statistics_of_train(stl10):
    root, _ = stl10
    source = Stl10Source(path=str(root), split="unlabeled")
    assert "label" not in source.read([0]).facts and source.classes == () and len(source) == 5
    assert source.facts.mean == Stl10Source(path=str(root)).facts.mean


def test_a_truncated_stl10_names_the_file(stl10):
    root, _ = stl10
    file = root / "stl10_binary" / "train_X.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=re.escape(f"{file}: 110591 bytes are not a whole number of pictures of 27648 bytes")
    ):
        Stl10Source(path=str(root))


@pytest.fixture
def svhn(tmp_path):
    rng = np.random.default_rng(0)
    stored = {}
    for split, n in (("train", 5), ("test", 3)):
        stored[split] = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        savemat(tmp_path / f"{split}_32x32.mat", {"X": stored[split], "y": (np.arange(n, dtype=np.uint8) + 8)[:, None]})
    return tmp_path, stored


def test_svhn_puts_samples_first_and_calls_ten_zero(svhn):
    root, stored = svhn
    source = SvhnSource(path=str(root))
    check_source(source)
    batch = source.read([1, 4])
    assert np.array_equal(batch.views["image"].data[1].numpy(), stored["train"][:, :, :, 4].transpose(2, 0, 1))
    assert source.labels.tolist() == [8, 9, 0, 1, 2]
    assert recognise(root).kind == "svhn"
    with pytest.raises(UnknownNameError, match="extra"):
        SvhnSource(path=str(root), split="extra")


def test_a_truncated_svhn_names_the_file(svhn):
    file = svhn[0] / "train_32x32.mat"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=re.escape(f"{file}: damaged or cut short, no MATLAB 5 file")):
        SvhnSource(path=str(svhn[0]))


@pytest.fixture
def tiny(tmp_path, write):
    wnids = ["n02", "n01"]
    (tmp_path / "wnids.txt").write_text("\n".join(wnids) + "\n")
    (tmp_path / "words.txt").write_text("n01\tgoldfish\nn02\tsalamander\n")
    for w, wnid in enumerate(wnids):
        for i in range(2):
            write(tmp_path / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", 10 * w + i, (64, 64))
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
    for i in range(3):
        write(tmp_path / "val" / "images" / f"val_{i}.JPEG", 50 + i, (64, 64))
        write(tmp_path / "test" / "images" / f"test_{i}.JPEG", 70 + i, (64, 64))
    lines = "".join(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n" for i, wnid in enumerate(("n02", "n01", "n02")))
    (tmp_path / "val" / "val_annotations.txt").write_text(lines)
    return tmp_path


def test_tiny_imagenet_takes_the_labels_of_val_from_its_list(tiny):
    assert recognise(tiny).kind == "listing"
    train, val = ListingSource(path=str(tiny)), ListingSource(path=str(tiny), split="val")
    check_source(train)
    assert train.classes == val.classes == ("n01", "n02")
    assert train.labels.tolist() == [0, 0, 1, 1] and val.labels.tolist() == [1, 0, 1]
    assert val.facts.mean == train.facts.mean
    assert ListingSource(path=str(tiny), split="test").labels is None


def test_an_annotation_with_an_unknown_class_is_named(tiny):
    file = tiny / "val" / "val_annotations.txt"
    file.write_text(file.read_text().replace("n02", "n99", 1))
    with pytest.raises(
        DataError, match=re.escape(f"{file}: names the class 'n99', which is none of the 2 that are known")
    ):
        ListingSource(path=str(tiny), split="val")


@pytest.fixture
def places(tmp_path, write):
    (tmp_path / "categories_places365.txt").write_text("/a/airfield 0\n/a/alley/indoor 1\n")
    (tmp_path / "places365_train_standard.txt").write_text(
        "/a/airfield/00000001.jpg 0\n/a/alley/indoor/00000001.jpg 1\n"
    )
    (tmp_path / "places365_val.txt").write_text("Places365_val_00000001.jpg 1\n")
    write(tmp_path / "data_256" / "a" / "airfield" / "00000001.jpg", 1, (8, 8))
    write(tmp_path / "data_256" / "a" / "alley" / "indoor" / "00000001.jpg", 2, (8, 9))
    write(tmp_path / "val_256" / "Places365_val_00000001.jpg", 3, (8, 8))
    return tmp_path


def test_places_reads_its_lists_and_class_names(places):
    train, val = ListingSource(path=str(places)), ListingSource(path=str(places), split="val")
    check_source(train)
    assert train.classes == ("a/airfield", "a/alley/indoor")
    assert train.labels.tolist() == [0, 1] and val.labels.tolist() == [1]
    assert train.facts.shape is None  # sizes differ


def test_places_without_pictures_says_where_they_belong(places):
    (places / "data_256").rename(places / "elsewhere")
    with pytest.raises(DataError, match=r"00000001\.jpg is not in data_large, data_256 or"):
        ListingSource(path=str(places))


@pytest.fixture
def naturalist(tmp_path, write):
    for split, seed in (("train", 0), ("val", 10)):
        images = []
        for i in range(3):
            name = f"train_val2018/Aves/{2761 + i % 2}/{split}{i}.jpg"
            write(tmp_path / name, seed + i, (8, 8))
            images.append({"id": seed + i, "file_name": name, "width": 8, "height": 8})
        content = {
            "info": {},
            "images": images,
            "categories": [{"id": 2762, "name": "Parus major"}, {"id": 2761, "name": "Parus minor"}],
            "annotations": [
                {"id": n, "image_id": image["id"], "category_id": 2761 + n % 2} for n, image in enumerate(images)
            ],
        }
        (tmp_path / f"{split}2018.json").write_text(json.dumps(content))
    return tmp_path


def test_inaturalist_numbers_its_categories_by_id(naturalist):
    source = ListingSource(path=str(naturalist), split="val")
    check_source(source)
    assert source.classes == ("Parus minor", "Parus major") and source.labels.tolist() == [0, 1, 0]
    assert recognise(naturalist).splits == ("train", "val")


def test_an_inaturalist_picture_without_annotation_is_counted(naturalist):
    file = naturalist / "train2018.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"1 of 3 pictures have no annotation, the first is train_val2018/Aves/2761/train2\.jpg"
    ):
        ListingSource(path=str(naturalist))


@pytest.fixture
def voc(tmp_path, write):
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    boxes = {"000001": [("dog", 0), ("person", 1), ("dog", 1)], "000002": [("person", 0)], "000003": [("cat", 1)]}
    for seed, (key, objects) in enumerate(boxes.items()):
        write(folder / "JPEGImages" / f"{key}.jpg", seed, (8, 10))
        found = "".join(f"<object><name>{n}</name><difficult>{d}</difficult></object>" for n, d in objects)
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{key}.xml").write_text(f"<annotation>{found}</annotation>")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("000001\n000003\n")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("000002\n")
    return tmp_path


def test_voc_gives_several_labels_a_picture_and_minus_one_where_all_are_difficult(voc):
    source = open_source(voc)
    check_source(source)
    labels = source.read([0, 1]).facts["labels"]
    assert labels.shape == (2, 20) and source.facts.factors == ("labels",)
    dog, person, cat = 11, 14, 7
    assert (labels[0, dog], labels[0, person], labels[1, cat], labels[1, dog]) == (1, -1, -1, 0)
    assert labels.abs().sum() == 3
    assert "label" not in source.read([0]).facts


def test_verify_names_a_listed_picture_that_is_gone(voc):
    gone = voc / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000003.jpg"
    gone.unlink()
    report = verify(voc)
    assert not report.ok
    assert [finding.names for finding in report.findings if finding.fault] == [(str(gone),)]
    source = open_source(voc, unreadable="skip")
    assert source.read([1]).ids.tolist() == [0]
