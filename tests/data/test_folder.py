"""Folders of pictures: which of them are splits and classes, in which order samples come, and what is refused."""

from __future__ import annotations

import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.laws import check_source
from tacit.core.spec import Spec
from tacit.data import folder
from tacit.data.folder import FolderSource


def refused(kind=DataError, **settings) -> str:
    with pytest.raises(kind) as caught:
        FolderSource(**settings)
    return str(caught.value)


def names(source: FolderSource) -> list[str]:
    return [os.path.relpath(source.items.name(i), source.path) for i in range(len(source))]


def test_imagenet_tree(imagenet):
    train, val, test = (FolderSource(path=str(imagenet), split=split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (6, 4, 2)
    assert train.facts.classes == val.facts.classes == ("n01440764", "n02119789")
    assert train.read(range(6)).facts["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert names(train)[0] == "train/n01440764/n01440764_0.JPEG"
    assert test.facts.classes == () and test.read([0]).facts == {}
    assert train.facts.mean == val.facts.mean == test.facts.mean
    assert train.facts.shape is None and isinstance(train.read([0, 1]).views["image"].data, list)
    for source in (train, val, test):
        check_source(source)


def test_one_size_is_known_and_held(tmp_path, write):
    stored = [write(tmp_path / f"{i}.png", i) for i in range(7)]
    source = FolderSource(path=str(tmp_path))
    assert source.facts.shape == (6, 5) and source.facts.channels == 3 and source.labels is None
    np.testing.assert_array_equal(source.images.numpy(), np.stack(stored).transpose(0, 3, 1, 2))
    check_source(source)
    assert FolderSource(path=str(tmp_path), memory=0).images is None
    check_source(FolderSource(path=str(tmp_path), memory=0))


def test_held_and_decoded_samples_are_the_same(tmp_path, write):
    for i in range(9):
        write(tmp_path / f"{i}.jpg", i)
    held, decoded = FolderSource(path=str(tmp_path)), FolderSource(path=str(tmp_path), memory=0)
    order = [5, 0, 8, 5]
    assert held.read(order).views["image"].data.equal(decoded.read(order).views["image"].data)
    assert held.read(order).ids.tolist() == order


def test_hidden_files_other_files_and_links(tmp_path, write):
    for name in ("b.PNG", "a.png", "sub/deep/c.Jpeg", ".hidden.png", ".cache/x.png", "__MACOSX/y.png"):
        write(tmp_path / "set" / name, 0)
    (tmp_path / "set" / "readme.txt").write_text("no picture")
    write(tmp_path / "elsewhere" / "d.bmp", 1)
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "sub" / "loop").symlink_to(tmp_path / "set")
    assert names(FolderSource(path=str(tmp_path / "set"))) == ["a.png", "b.PNG", "linked/d.bmp", "sub/deep/c.Jpeg"]


@pytest.mark.parametrize(
    ("files", "splits", "labels"),
    [
        (("a.png", "b.png"), ("train",), None),
        (("cat/a.png", "dog/b.png"), ("train",), [0, 1]),
        (("cat/a.png", "dog/b.png", "c.png"), ("train",), None),
        (("2021/a.png", "2021/05/b.png", "2022/c.png"), ("train",), None),
        (("photos/a.png", "photos/b.png"), ("train",), None),
        (("train/n1/images/a.png", "train/n2/images/b.png", "val/images/c.png"), ("train", "val"), [0, 1]),
        (("train/a.png", "masks/b.png"), ("train",), None),
        (("val/a.png", "loose.png"), ("train",), None),
        (("train/x/a.png", "train/y/b.png", "test/y/c.png", "test/z/d.png"), ("train", "test"), [0, 1]),
    ],
)
def test_rules_for_splits_and_classes(tmp_path, write, files, splits, labels):
    for i, name in enumerate(files):
        write(tmp_path / name, i)
    layout = folder.recognise(tmp_path)
    assert layout.splits == splits
    source = FolderSource(path=str(tmp_path))
    assert (None if source.labels is None else source.labels.tolist()) == labels


def test_an_index_means_the_same_class_in_every_split(tmp_path, write):
    for i, name in enumerate(("train/b/1.png", "train/c/2.png", "val/a/3.png", "val/c/4.png")):
        write(tmp_path / name, i)
    val = FolderSource(path=str(tmp_path), split="val")
    assert val.facts.classes == ("a", "b", "c") and val.labels.tolist() == [0, 2]


def test_labels_can_be_asked_for_and_left_out(tmp_path, write):
    write(tmp_path / "one" / "deep" / "a.png", 0)
    assert FolderSource(path=str(tmp_path), labels="folders").facts.classes == ("one",)
    assert FolderSource(path=str(tmp_path), labels="none").facts.classes == ()
    write(tmp_path / "b.png", 1)
    assert refused(path=str(tmp_path), labels="folders") == (
        f"{tmp_path / 'b.png'} lies in no class folder, and labels: folders asks for one: move it into its class's folder "
        "or set labels: none"
    )


def test_channels_agree_or_become_three(tmp_path, write):
    for i in range(3):
        write(tmp_path / "grey" / f"{i}.png", i, mode="L")
        write(tmp_path / "mixed" / f"{i}.png", i, mode=("L", "RGB", "RGBA")[i])
    assert FolderSource(path=str(tmp_path / "grey")).facts.channels == 1
    mixed = FolderSource(path=str(tmp_path / "mixed"))
    assert mixed.facts.channels == 3 and mixed.images.shape == (3, 3, 6, 5)
    assert mixed.notes == (
        "channels differ among the 3 files looked at (1 with 1, 1 with 3, 1 with 4): all are read with 3",
    )
    for channels in (1, 3, 4):
        source = FolderSource(path=str(tmp_path / "mixed"), channels=channels)
        assert source.images.shape == (3, channels, 6, 5) and source.notes == ()


def test_every_split_has_the_channels_of_train(tmp_path, write):
    write(tmp_path / "train" / "a.png", 0, mode="RGB")
    write(tmp_path / "val" / "b.png", 1, mode="L")
    assert FolderSource(path=str(tmp_path), split="val").images.shape == (1, 3, 6, 5)


def test_the_digest_follows_content_names_split_and_settings(tmp_path, write, monkeypatch):
    root = tmp_path / "set"
    for i in range(3):
        write(root / f"{i}.png", i)

    def digest(**settings) -> str:
        return FolderSource(path=str(root), **settings).digest()

    seen = [digest(), digest(channels=1)]
    copied = shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert FolderSource(path=str(copied)).digest() == seen[0]  # small sets: content, not time
    write(root / "1.png", 77)
    seen.append(digest())
    (root / "2.png").rename(root / "3.png")
    seen.append(digest())
    monkeypatch.setattr("tacit.data.checks.HASHED_WHOLE", 0)
    seen.append(digest())
    os.utime(root / "3.png", ns=(0, 12345))
    seen.append(digest())  # large sets: size and time
    assert len(set(seen)) == len(seen)


def test_an_unreadable_file_stops_with_its_name_and_the_way_out(tmp_path, write):
    for i in range(3):
        write(tmp_path / f"{i}.png", i)
    (tmp_path / "1.png").write_bytes(b"")
    source = FolderSource(path=str(tmp_path))
    with pytest.raises(DataError) as caught:
        source.read([0, 1])
    assert str(caught.value) == (
        f"{tmp_path / '1.png'} cannot be read: it is empty (0 bytes). List all such samples with "
        f"'tacit data verify {tmp_path}', or let neighbours stand in for them: unreadable: skip"
    )


@pytest.mark.parametrize("memory", [0, 1024])
def test_skip_puts_the_next_readable_sample_there_and_says_so(tmp_path, write, caplog, memory):
    for i in range(4):
        write(tmp_path / ("ab"[i % 2]) / f"{i}.png", i)
    (tmp_path / "a" / "2.png").write_bytes(b"")
    source = FolderSource(path=str(tmp_path), unreadable="skip", memory=memory)
    with caplog.at_level(logging.WARNING, logger="tacit.data.samples"):
        first, again = source.read([0, 1, 2, 3]), source.read([1])
    assert first.ids.tolist() == [0, 2, 2, 3] and first.facts["label"].tolist() == [0, 1, 1, 1]
    assert first.views["image"].data[1].equal(first.views["image"].data[2]) and again.ids.tolist() == [2]
    assert source.skipped == {1: 2}
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'a' / '2.png'} cannot be read (it is empty (0 bytes)): {tmp_path / 'b' / '1.png'} stands in for it"
    ]


def test_skip_does_not_go_round_for_ever(tmp_path, write):
    write(tmp_path / "0.png", 0)
    write(tmp_path / "1.png", 1)
    source = FolderSource(path=str(tmp_path), unreadable="skip", memory=0)
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(b"gone")
    with pytest.raises(DataError) as caught:
        source.read([1])
    assert str(caught.value) == (
        f"{tmp_path / '1.png'} and the 1 samples after it cannot be read, the first because "
        f"its 4 bytes are no picture that Pillow knows. Check the folder with 'tacit data verify {tmp_path}'"
    )


def test_files_that_change_after_opening_are_noticed(tmp_path, write):
    for i in range(3):
        write(tmp_path / f"{i}.png", i)
    source = FolderSource(path=str(tmp_path), memory=0)
    (tmp_path / "0.png").unlink()
    write(tmp_path / "1.png", 1, size=(7, 7))
    where = f"List all such samples with 'tacit data verify {tmp_path}', or let neighbours stand in for them: unreadable: skip"
    with pytest.raises(DataError) as caught:
        source.read([0])
    assert str(caught.value) == (
        f"{tmp_path / '0.png'} cannot be read: it was there when the set was opened and is gone now. {where}"
    )
    source = FolderSource(path=str(tmp_path), split="train", channels=3)
    assert source.facts.shape is None  # seen anew, sizes differ: a list


def test_a_uniform_set_that_changes_size_is_refused(tmp_path, write):
    for i in range(3):
        write(tmp_path / f"{i}.png", i)
    source = FolderSource(path=str(tmp_path))
    write(tmp_path / "1.png", 1, size=(7, 7))
    with pytest.raises(
        DataError, match=r"1\.png cannot be read: it is 7x7 where all were 6x5 when the set was opened\. "
    ):
        source.read([1])


def test_permission_denied(tmp_path, write, monkeypatch):
    write(tmp_path / "0.png", 0)
    source = FolderSource(path=str(tmp_path), memory=0)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("tacit.data.folder.open", deny, raising=False)
        with pytest.raises(DataError, match=r"0\.png cannot be read: permission denied\. "):
            source.read([0])
    with monkeypatch.context() as patch:
        patch.setattr("tacit.data.checks.os.scandir", deny)
        assert refused(path=str(tmp_path)) == (f"{tmp_path}: permission denied: make it readable for this user")


def test_refusals_of_the_path(tmp_path, write):
    assert refused(path=str(tmp_path / "no" / "such")) == (
        f"{tmp_path / 'no' / 'such'}: there is nothing at this path; the nearest folder that exists is {tmp_path}"
    )
    assert refused(path=str(tmp_path)) == (
        f"{tmp_path}: no picture in this folder or below it; looked for "
        ".bmp, .gif, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp"
    )
    write(tmp_path / "a.png", 0)
    assert refused(path=str(tmp_path / "a.png")) == (
        f"{tmp_path / 'a.png'} is a file where a folder of pictures is needed: give the folder that holds it"
    )


def test_refusals_of_the_split_and_the_statistics(imagenet):
    assert refused(UnknownNameError, path=str(imagenet), split="vall") == (
        f"no split named 'vall'. Did you mean 'val'? Known: test, train, val. These are the splits of {imagenet}."
    )
    assert refused(RecipeError, path=str(imagenet), mean=(0.5,)) == (
        f"data.mean: has 1 numbers where the pictures of {imagenet} have 3 channels: give one number a channel"
    )
    assert refused(RecipeError, path=str(imagenet), std=(1.0, 0.0, 1.0)) == (
        "data.std: 0 cannot divide: every number must be above 0"
    )


def test_settings_override_the_statistics(imagenet):
    spec = Spec("source", "folder", path=str(imagenet), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    assert spec.build().facts.mean == (0.485, 0.456, 0.406)
    assert spec.build().facts.std == (0.229, 0.224, 0.225)


def test_a_set_none_of_which_can_be_read_says_so_at_once(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert refused(path=str(tmp_path)) == (
        f"{tmp_path / 'a.png'} and all other files looked at cannot be read: it is empty (0 bytes). "
        "Check that the copy or download was complete"
    )


def test_large_sets_are_surveyed_by_a_thousand_headers(tmp_path, write, monkeypatch):
    for i in range(12):
        write(tmp_path / f"{i:02}.png", i, size=(6, 5) if i != 4 else (6, 6))
    monkeypatch.setattr("tacit.data.encoded.LOOKED_AT", 3)  # 0, 6 (or 5) and 11 are looked at; number 4 is not
    assert FolderSource(path=str(tmp_path), memory=0).facts.shape is None  # not asked further
    assert FolderSource(path=str(tmp_path)).facts.shape is None  # asked further, found number 4
    Image.new("RGB", (5, 6)).save(tmp_path / "04.png")
    assert FolderSource(path=str(tmp_path)).facts.shape == (6, 5)


def test_a_set_of_a_test_split_alone(tmp_path, write):
    write(tmp_path / "test" / "a.png", 0)
    write(tmp_path / "val" / "b.png", 1)
    test = FolderSource(path=str(tmp_path), split="test")
    assert len(test) == 1 and folder.recognise(tmp_path).splits == ("val", "test")
    assert test.facts.mean == FolderSource(path=str(tmp_path / "test")).facts.mean  # no train: its own statistics


@pytest.mark.parametrize("memory", [0, 1024])
def test_threads_change_nothing(tmp_path, write, monkeypatch, memory):
    for i in range(30):
        write(tmp_path / f"{i:02}.png", i)
    (tmp_path / "07.png").write_bytes(b"")
    seen = []
    for threads in (1, 4):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        batch = FolderSource(path=str(tmp_path), memory=memory, unreadable="skip").read([29, 7, 3, *range(20)])
        seen.append((batch.views["image"].data, batch.ids))
    assert seen[0][0].equal(seen[1][0]) and seen[0][1].equal(seen[1][1])


def test_unreadable_training_files_are_left_out_of_the_statistics_of_test(tmp_path, write, caplog):
    for i in range(4):
        write(tmp_path / "train" / f"{i}.png", i)
    write(tmp_path / "test" / "a.png", 9)
    whole = FolderSource(path=str(tmp_path), split="test").facts.mean
    (tmp_path / "train" / "bad.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="tacit.data.samples"):
        assert FolderSource(path=str(tmp_path), split="test").facts.mean == whole
    assert caplog.messages == [
        f"{tmp_path / 'train' / 'bad.png'} cannot be read (it is empty (0 bytes)): left out of the statistics of {tmp_path}"
    ]


def test_dead_links_are_part_of_the_digest(tmp_path, write):
    write(tmp_path / "a.png", 0)
    alone = FolderSource(path=str(tmp_path)).digest()
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    source = FolderSource(path=str(tmp_path), unreadable="skip")
    assert len(source) == 2 and source.digest() != alone and source.read([1]).ids.tolist() == [0]


def test_an_index_outside_is_refused(tmp_path, write):
    write(tmp_path / "a.png", 0)
    source = FolderSource(path=str(tmp_path))
    for index in (1, -1):
        with pytest.raises(DataError) as caught:
            source.read([index])
        assert str(caught.value) == f"{tmp_path}: sample {index} was asked for; indices run from 0 to 0"


def test_statistics_are_the_mean_over_pictures_of_mean_and_square(tmp_path, write):
    """Closed form: two constant pictures of values u and v, whatever their sizes: mean (u + v) / 2, deviation |u - v| / 2."""
    Image.new("L", (3, 3), 51).save(tmp_path / "a.png")
    Image.new("L", (30, 30), 204).save(tmp_path / "b.png")
    facts = FolderSource(path=str(tmp_path)).facts
    assert facts.mean == pytest.approx((0.5,)) and facts.std == pytest.approx((0.3,))
    (tmp_path / "b.png").unlink()
    assert FolderSource(path=str(tmp_path)).facts.std == (1.0,)  # no spread: dividing by it must not give NaN


def test_a_list_of_names_restricts_a_split_and_keeps_the_classes(imagenet, tmp_path):
    whole = FolderSource(path=str(imagenet))
    listing = tmp_path / "1percent.txt"
    listing.write_text("n01440764_1.JPEG\nn01440764/n01440764_2.JPEG\n")
    few = FolderSource(path=str(imagenet), only=str(listing))
    assert len(few) == 2 and few.classes == whole.classes and set(few.labels.tolist()) == {0}
    listing.write_text("n01440764_1.JPEG\nn01440764_9.JPEG\n")
    with pytest.raises(
        DataError, match=r"1percent\.txt: 1 of 2 listed pictures are not in the split, the first is n01440764_9\.JPEG"
    ):
        FolderSource(path=str(imagenet), only=str(listing))
