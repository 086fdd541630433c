"""Arrays: names, shapes, ranges, memory, and every way they are refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.laws import check_source
from tacit.core.spec import Spec
from tacit.data.arrays import ArraysSource, recognise


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def read_all(**settings) -> None:
    source = ArraysSource(**settings)
    source.read(range(len(source)))


def refused(kind=DataError, **settings) -> str:
    with pytest.raises(kind) as caught:
        read_all(**settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "channels", "size"),
    [
        ((5, 7, 6), 1, (7, 6)),
        ((5, 7, 6, 3), 3, (7, 6)),
        ((5, 3, 7, 6), 3, (7, 6)),
        ((5, 7, 6, 1), 1, (7, 6)),
        ((5, 1, 7, 6), 1, (7, 6)),
        ((5, 12, 32, 31), 12, (32, 31)),
        ((5, 16, 16, 13), 13, (16, 16)),
    ],
)
def test_the_channel_axis_is_the_smaller_of_first_and_last(tmp_path, shape, channels, size):
    values = noise(*shape)
    np.save(tmp_path / "x.npy", values)
    source = ArraysSource(path=str(tmp_path / "x.npy"))
    assert (source.facts.channels, source.facts.shape) == (channels, size)
    first = (
        values if len(shape) == 4 and shape[1] == channels else values.reshape(5, *size, channels).transpose(0, 3, 1, 2)
    )
    np.testing.assert_array_equal(source.images.numpy(), first)
    check_source(source)


def test_a_shape_that_does_not_tell_needs_layout(tmp_path):
    values = noise(5, 3, 6, 3)
    np.save(tmp_path / "x.npy", values)
    path = str(tmp_path / "x.npy")
    assert refused(path=path) == (
        f"{path}: shape [5, 3, 6, 3] does not tell where the channels are: set layout: nchw or layout: nhwc"
    )
    assert ArraysSource(path=path, layout="nchw").facts.shape == (6, 3)
    assert ArraysSource(path=path, layout="nhwc").facts.shape == (3, 6)
    assert refused(path=path, layout="nhw") == f"{path}: shape [5, 3, 6, 3] is not nhw: images are needed, one a row"
    np.save(tmp_path / "x.npy", noise(5, 7))
    assert refused(path=path) == (
        f"{path}: shape [5, 7] is not [n h w], [n h w c] or [n c h w]: images are needed, one a row"
    )


@pytest.mark.parametrize("memory", [0, 1024])
def test_values_of_every_type(tmp_path, memory):
    def read(values: np.ndarray, **settings) -> torch.Tensor:
        np.save(tmp_path / "x.npy", values.reshape(2, 2, 1))
        source = ArraysSource(path=str(tmp_path / "x.npy"), memory=memory, **settings)
        check_source(source)
        return source.read([0, 1]).views["image"].data

    assert read(np.array([True, False, False, True])).flatten().tolist() == [255, 0, 0, 255]
    assert read(np.array([0, 9, 255, 1], dtype=np.uint8)).flatten().tolist() == [0, 9, 255, 1]
    sixteen = read(np.array([0, 65535, 13107, 257], dtype=np.uint16))
    assert sixteen.dtype == torch.float32
    torch.testing.assert_close(sixteen.flatten(), torch.tensor([0.0, 1.0, 0.2, 257 / 65535]))
    for dtype in (np.float16, np.float32, np.float64):
        kept = read(np.array([0, 0.25, 0.5, 1], dtype=dtype))
        assert kept.dtype == torch.float32 and kept.flatten().tolist() == [0, 0.25, 0.5, 1]
    signed = read(np.array([-1, 0, 0.5, 1], dtype=np.float32), range=(-1.0, 1.0))
    torch.testing.assert_close(signed.flatten(), torch.tensor([0.0, 0.5, 0.75, 1.0]))
    wide = read(np.array([0, 51, 102, 255], dtype=np.int64), range=(0.0, 255.0))
    torch.testing.assert_close(wide.flatten(), torch.tensor([0.0, 0.2, 0.4, 1.0]))
    assert read(np.array([0, 1, 2, 4], dtype=">u2"), range=(0.0, 4.0)).flatten().tolist() == [0, 0.25, 0.5, 1]


def test_values_that_cannot_be_taken_as_they_are(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.linspace(-1, 1, 24).reshape(2, 4, 3))
    assert refused(path=path) == (
        f"{path}: values run from -1 to 1 where 0 to 1 was expected: "
        "set range: [low, high] to the values that mean black and white"
    )
    np.save(path, np.zeros((2, 4, 3), dtype=np.int32))
    assert refused(path=path) == (
        f"{path}: images of type int32 have no agreed range: set range: [low, high] to the values that mean black and white"
    )
    np.save(path, np.zeros((2, 4, 3), dtype="U3"))
    assert refused(path=path) == f"{path}: images of type <U3 have no agreed range: store numbers"
    with pytest.raises(RecipeError) as caught:
        Spec("source", "arrays", path=path, range=[1, 0]).build()
    assert str(caught.value) == (
        "source: range: [1.0, 0.0] is empty: give the value that means black, then the one that means white"
    )


def test_not_a_number_is_refused_with_count_and_place(tmp_path):
    path = str(tmp_path / "x.npy")
    values = np.full((9, 4, 4), 0.5, dtype=np.float32)
    values[3, 1, 1:3], values[7, 0, 0] = np.nan, np.inf
    np.save(path, values)
    assert refused(path=path) == (
        f"{path}: 3 values are NaN or infinite, the first in sample 3: repair these samples or leave them out"
    )
    mapped = ArraysSource(path=path, memory=0)
    assert mapped.read([0, 1, 8]).ids.tolist() == [0, 1, 8]
    with pytest.raises(DataError) as caught:
        mapped.read([3])
    assert str(caught.value) == (
        f"{path} sample 3 cannot be read: 2 of its values are NaN or infinite. "
        f"List all such samples with 'tacit data verify {path}'"
    )


NAMES = [
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("train", "train_labels", "test", "test_labels"),
    ("X_train", "Y_train", "X_test", "Y_test"),
]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("form", ["npz", "folder"])
def test_splits_by_name(tmp_path, names, form):
    stored = (noise(6, 5, 4), np.arange(6) % 3, noise(2, 5, 4, seed=1), np.array([[4], [0]], dtype=np.uint8))
    if form == "npz":
        np.savez_compressed(tmp_path / "set.npz", **dict(zip(names, stored, strict=True)))
    else:
        for name, values in zip(names, stored, strict=True):
            np.save(tmp_path / f"{name}.npy", values)
    path = tmp_path / "set.npz" if form == "npz" else tmp_path
    assert recognise(path).splits == ("train", "test")
    train, test = ArraysSource(path=str(path)), ArraysSource(path=str(path), split="test")
    assert train.images.equal(torch.from_numpy(stored[0])[:, None]) and train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test.read([0, 1]).facts["label"].tolist() == [4, 0]
    assert train.facts.classes == test.facts.classes == ("0", "1", "2", "3", "4")
    assert train.facts.mean == test.facts.mean
    check_source(train)
    check_source(test)
    assert refused(UnknownNameError, path=str(path), split="val") == (
        f"no split named 'val'. Known: test, train. These are the splits of {path}."
    )


def test_one_split_own_names_and_files_beside(tmp_path):
    np.savez(tmp_path / "a.npz", images=noise(3, 5, 4), labels=np.array([0, 1, 1]))
    np.savez(tmp_path / "b.npz", pictures_train=noise(3, 5, 4), kinds_train=np.array([0, 1, 1]), other=np.zeros(2))
    np.save(tmp_path / "c.npy", noise(3, 5, 4))
    np.save(tmp_path / "c_labels.npy", np.array([2, 1, 0]))
    assert ArraysSource(path=str(tmp_path / "a.npz")).labels.tolist() == [0, 1, 1]
    assert ArraysSource(path=str(tmp_path / "c.npy")).labels.tolist() == [2, 1, 0]
    b = str(tmp_path / "b.npz")
    assert ArraysSource(path=b, key="pictures_{split}", labels="kinds_{split}").labels.tolist() == [0, 1, 1]
    assert ArraysSource(path=b, key="pictures_train").labels is None
    assert refused(path=b) == (
        f"{b}: no array named x_train, train_images, train, train_x, images, x, image, data, arr_0 (and the like of val and "
        "test); found kinds_train, other, pictures_train: rename the arrays or set key: NAME"
    )
    assert refused(path=b, key="pictures_train", labels="sorts") == (
        f"{b}[pictures_train]: no labels named 'sorts' beside it: leave out the setting labels to read without"
    )


def test_a_folder_of_archives(tmp_path):
    np.savez(tmp_path / "train.npz", images=noise(3, 5, 4), labels=np.array([0, 1, 1]))
    np.savez(tmp_path / "test.npz", images=noise(2, 5, 4))
    assert recognise(tmp_path).splits == ("train", "test")
    assert ArraysSource(path=str(tmp_path)).labels.tolist() == [0, 1, 1]
    assert ArraysSource(path=str(tmp_path), split="test").labels is None


def test_a_mapped_file_is_not_carried_along(tmp_path):
    np.save(tmp_path / "x.npy", noise(400, 32, 32))
    source = ArraysSource(path=str(tmp_path / "x.npy"), memory=0)
    assert source.images is None and len(pickle.dumps(source)) < 10_000
    check_source(source)


@pytest.mark.parametrize("memory", [0, 1024])
def test_held_and_mapped_are_the_same(tmp_path, memory):
    values = np.random.default_rng(0).random((40, 6, 5, 3), dtype=np.float32)
    np.save(tmp_path / "x.npy", values)
    source = ArraysSource(path=str(tmp_path / "x.npy"), memory=memory)
    np.testing.assert_array_equal(
        source.read([39, 0]).views["image"].data.numpy(), values[[39, 0]].transpose(0, 3, 1, 2)
    )
    assert source.facts.mean == pytest.approx(values.mean((0, 1, 2)).tolist(), abs=1e-6)
    assert source.facts.std == pytest.approx(values.std((0, 1, 2)).tolist(), abs=1e-6)


def test_the_digest_follows_values_range_and_layout(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, noise(4, 3, 5, 4))
    seen = [ArraysSource(path=path, **s).digest() for s in ({}, {"range": (0.0, 255.0)}, {"layout": "nhwc"})]
    np.save(path, noise(4, 3, 5, 4, seed=1))
    seen.append(ArraysSource(path=path).digest())
    assert len(set(seen)) == 4


def test_labels_that_do_not_fit(tmp_path):
    path = str(tmp_path / "a.npz")

    def with_labels(labels: np.ndarray) -> str:
        np.savez(path, images=noise(3, 5, 4), labels=labels)
        return refused(path=path)

    name = f"{path}[labels]"
    assert with_labels(np.array([0, 1])) == f"{name}: 3 samples but 2 labels: one label a sample is needed"
    assert with_labels(np.array([0, -1, -1])) == (
        f"{name}: 2 labels are out of range, the first is -1 of sample 1; labels run 0 and above"
    )
    assert with_labels(np.eye(3)) == (
        f"{name}: labels must be whole numbers, one a sample; found float64 of shape (3, 3)"
    )


def test_damaged_files(tmp_path):
    npy, npz = tmp_path / "x.npy", tmp_path / "x.npz"
    np.save(npy, noise(10, 5, 4))
    npy.write_bytes(npy.read_bytes()[:-50])
    assert refused(path=str(npy)) == (
        f"{npy}: damaged or cut short, its 278 bytes are no whole array (mmap length is greater than file size): "
        "write or copy it again"
    )
    npy.write_bytes(b"")
    assert refused(path=str(npy)) == f"{npy}: it is empty (0 bytes): write it again"
    npy.write_bytes(b"hello, world")
    assert refused(path=str(npy)).startswith(f"{npy}: damaged or cut short, its 12 bytes are no whole array (")
    np.savez(npz, images=noise(10, 5, 4))
    npz.write_bytes(npz.read_bytes()[:200])
    assert refused(path=str(npz)) == (
        f"{npz}: damaged or cut short, its 200 bytes are no whole .npz (File is not a zip file): write or copy it again"
    )
    np.save(npy, np.array([object()]), allow_pickle=True)
    assert refused(path=str(npy)) == (
        f"{npy}: it holds Python objects, which could run code when read: store plain numbers of one shape"
    )
    np.savez(npz, images=np.array([object()]))
    assert refused(path=str(npz)) == (
        f"{npz}[images]: it holds Python objects, which could run code when read: store plain numbers of one shape"
    )


def test_refusals_of_the_path(tmp_path):
    assert refused(path=str(tmp_path)) == (
        f"{tmp_path}: no array named x_train, train_images, train, train_x, images, x, image, data, arr_0 (and the like of val "
        "and test); found no arrays: rename the arrays or set key: NAME"
    )
    (tmp_path / "a.txt").write_text("x")
    assert refused(path=str(tmp_path / "a.txt")) == (
        f"{tmp_path / 'a.txt'} is neither .npy nor .npz: give such a file or a folder of them"
    )
    np.save(tmp_path / "x.npy", noise(0, 5, 4))
    assert refused(path=str(tmp_path / "x.npy")) == (
        f"{tmp_path / 'x.npy'}: the split 'train' holds no samples: check that the path is the one you mean"
    )


def test_permission_denied(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", noise(2, 5, 4))
    np.savez(tmp_path / "x.npz", x=noise(2, 5, 4))

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name, patched in (("x.npy", "numpy.load"), ("x.npz", "numpy.load"), ("x.npz", "zipfile.ZipFile")):
        with monkeypatch.context() as patch:
            patch.setattr(patched, deny)
            assert refused(path=str(tmp_path / name)) == (
                f"{tmp_path / name}: permission denied: make it readable for this user"
            )


def test_splits_of_different_channels_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=noise(3, 5, 4), x_test=noise(2, 5, 4, 3))
    with pytest.raises(DataError) as caught:
        _ = ArraysSource(path=str(tmp_path / "a.npz"), split="test").facts
    assert str(caught.value) == (
        f"{tmp_path / 'a.npz'}: split 'test' has 3 channels and 'train' has 1: all splits need the same"
    )
