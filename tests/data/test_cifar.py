"""CIFAR in exactly the published form, Python and binary; pickles that would run code; damaged files."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.laws import check_source
from tacit.data.cifar import CifarSource, recognise
from tacit.data.pickles import read_pickle

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = [f"fine_{i:03}" for i in range(100)]
COARSE = [f"coarse_{i:02}" for i in range(20)]


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2.7's cPickle wrote at protocol 2: bytes as strings, numpy under the name it had."""

    def save_bytes(self, value: bytes) -> None:
        small = len(value) < 256
        self.write(
            pickle.SHORT_BINSTRING + bytes([len(value)]) if small else pickle.BINSTRING + struct.pack("<i", len(value))
        )
        self.write(value)
        self.memoize(value)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, bytes: save_bytes}


def python2(value: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def write_ten(root: Path, dump=python2, n: int = 4) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for seed, name in enumerate(files):
        content = {
            b"batch_label": b"training batch 1 of 5",
            b"labels": [(seed + i) % 10 for i in range(n)],
            b"data": pixels(n, seed),
            b"filenames": [f"picture_s_{i:06}.png".encode() for i in range(n)],
        }
        (folder / name).write_bytes(dump(content))
    meta = {b"num_cases_per_batch": 10000, b"label_names": [name.encode() for name in TEN], b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(dump(meta))
    (folder / "readme.html").write_text("<html></html>")
    return folder


def write_hundred(root: Path, dump=python2, n: int = 6) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir()
    for seed, name in enumerate(("train", "test")):
        content = {
            b"filenames": [f"picture_s_{i:06}.png".encode() for i in range(n)],
            b"batch_label": b"training batch 1 of 1",
            b"fine_labels": [(17 * i + seed) % 100 for i in range(n)],
            b"coarse_labels": [(3 * i + seed) % 20 for i in range(n)],
            b"data": pixels(n, seed),
        }
        (folder / name).write_bytes(dump(content))
    meta = {b"fine_label_names": [s.encode() for s in FINE], b"coarse_label_names": [s.encode() for s in COARSE]}
    (folder / "meta").write_bytes(dump(meta))
    return folder


def write_ten_binary(root: Path, n: int = 4) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    for seed, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        labels = np.array([(seed + i) % 10 for i in range(n)], dtype=np.uint8)
        (folder / name).write_bytes(np.concatenate([labels[:, None], pixels(n, seed)], axis=1).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    return folder


def write_hundred_binary(root: Path, n: int = 6) -> Path:
    folder = root / "cifar-100-binary"
    folder.mkdir()
    for seed, name in enumerate(("train.bin", "test.bin")):
        heads = np.array([((3 * i + seed) % 20, (17 * i + seed) % 100) for i in range(n)], dtype=np.uint8)
        (folder / name).write_bytes(np.concatenate([heads, pixels(n, seed)], axis=1).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    return folder


def refused(call=CifarSource, kind=DataError, **settings) -> str:
    with pytest.raises(kind) as caught:
        call(**settings)
    return str(caught.value)


def python3(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)


@pytest.mark.parametrize("dump", [python2, python3, pickle.dumps])
def test_ten_python(tmp_path, dump):
    folder = write_ten(tmp_path, dump)
    train, test = CifarSource(path=str(folder)), CifarSource(path=str(tmp_path), split="test")
    assert (len(train), len(test)) == (20, 4)
    assert train.facts.classes == tuple(TEN) and train.facts.shape == (32, 32) and train.facts.channels == 3
    batch = train.read([5, 0])
    np.testing.assert_array_equal(batch.views["image"].data[0].numpy(), pixels(4, 1)[1].reshape(3, 32, 32))
    assert batch.facts["label"].tolist() == [2, 0]
    assert train.items.name(5) == f"{folder / 'data_batch_2'} record 1"
    assert train.facts.mean == test.facts.mean
    check_source(train)
    check_source(test)


def test_hundred_python_fine_and_coarse(tmp_path):
    folder = write_hundred(tmp_path)
    fine, coarse = CifarSource(path=str(folder)), CifarSource(path=str(folder), labels="coarse")
    assert fine.facts.classes == tuple(FINE) and coarse.facts.classes == tuple(COARSE)
    assert fine.read([1, 2]).facts["label"].tolist() == [17, 34] and coarse.read([1, 2]).facts["label"].tolist() == [
        3,
        6,
    ]
    assert fine.images.equal(coarse.images) and fine.digest() != coarse.digest()
    check_source(fine)


def test_binary_and_python_versions_hold_the_same(tmp_path):
    ten, ten_binary = write_ten(tmp_path), write_ten_binary(tmp_path)
    hundred, hundred_binary = write_hundred(tmp_path), write_hundred_binary(tmp_path)
    for one, two, labels in (
        (ten, ten_binary, "fine"),
        (hundred, hundred_binary, "fine"),
        (hundred, hundred_binary, "coarse"),
    ):
        for split in ("train", "test"):
            a = CifarSource(path=str(one), split=split, labels=labels)
            b = CifarSource(path=str(two), split=split, labels=labels)
            assert a.images.equal(b.images) and a.labels.tolist() == b.labels.tolist()
            assert a.facts == b.facts and a.digest() == b.digest()
    assert recognise(ten_binary).why == "CIFAR-10, binary version"


class Runs:
    def __reduce__(self):
        return os.mkdir, ("never",)


class RunsNumpy:
    def __reduce__(self):
        return np.load, ("x.npy",)


@pytest.mark.parametrize(
    ("content", "name"), [(Runs(), f"{os.mkdir.__module__}.mkdir"), (RunsNumpy(), f"{np.load.__module__}.load")]
)
def test_a_pickle_that_would_run_code_is_refused_before_it_runs(tmp_path, monkeypatch, content, name):
    monkeypatch.chdir(tmp_path)
    folder = write_ten(tmp_path)
    (folder / "data_batch_3").write_bytes(python3({b"data": content}))
    assert refused(path=str(folder)) == (
        f"{folder / 'data_batch_3'}: refused, it asks to run {name}, which no data set needs: "
        "this is not a published CIFAR file; delete it and extract the archive again"
    )
    assert not (tmp_path / "never").exists()


def test_the_names_that_are_allowed_cannot_be_led_astray(tmp_path):
    file = tmp_path / "odd"
    dotted = b"\x80\x04\x8c\x05numpy\x94\x8c\x0edtype.__init__\x94\x93."  # STACK_GLOBAL with a dotted name
    file.write_bytes(dotted)
    assert "refused, it asks to run numpy.dtype.__init__" in refused(read_pickle, path=file)
    file.write_bytes(python3({b"data": np.array([object()])}))
    assert refused(read_pickle, path=file).startswith(f"{file}: refused, it asks to run __builtin__.object")
    file.write_bytes(python3({b"data": np.array([1.5])}))
    assert refused(read_pickle, path=file) == (
        f"{file}: damaged or cut short, {file.stat().st_size} bytes are no whole pickle "
        "(it holds an array that is not plain uint8): extract the archive again"
    )
    file.write_bytes(b"\x80\x02Pthing\n.")
    assert "(it refers to objects outside the file)" in refused(read_pickle, path=file)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_every_cut_pickle_is_named_and_all_at_once(tmp_path, part):
    folder = write_ten(tmp_path)
    for name in ("data_batch_2", "data_batch_5"):
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[: int(len(raw) * part)])
    lines = refused(path=str(folder)).splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("data_batch_2", "data_batch_5"), strict=True):
        size = (folder / name).stat().st_size
        assert line.startswith(f"{folder / name}: damaged or cut short, {size} bytes are no whole pickle (")
        assert line.endswith("): extract the archive again")


def test_cut_binary(tmp_path):
    folder = write_ten_binary(tmp_path)
    (folder / "test_batch.bin").write_bytes(b"\0" * 5000)
    assert refused(path=str(folder), split="test") == (
        f"{folder / 'test_batch.bin'}: 5000 bytes are not a whole number of records of 3073 bytes: the file is cut short or of "
        "another data set; extract the archive again"
    )
    (folder / "test_batch.bin").write_bytes(b"")
    assert "0 bytes are not a whole number of records" in refused(path=str(folder), split="test")


def test_a_missing_file_is_named(tmp_path):
    folder = write_ten(tmp_path)
    (folder / "data_batch_3").unlink()
    assert refused(path=str(folder)) == (
        f"{folder / 'data_batch_3'}: this file of CIFAR-10, Python version is missing: extract the archive again"
    )
    (folder / "batches.meta").unlink()
    assert refused(path=str(folder), split="test") == (
        f"{folder / 'batches.meta'}: this file of CIFAR-10, Python version is missing: it names the classes; "
        "extract the archive again"
    )


def test_wrong_labels_and_keys(tmp_path):
    folder = write_ten(tmp_path)
    file = folder / "test_batch"
    good = {b"labels": [0, 1], b"data": pixels(2, 0)}
    file.write_bytes(python2({**good, b"labels": [0]}))
    assert refused(path=str(folder), split="test") == f"{file}: 2 samples but 1 labels: one label a sample is needed"
    file.write_bytes(python2({**good, b"labels": [0, 10]}))
    assert refused(path=str(folder), split="test") == (
        f"{file}: 1 labels are out of range, the first is 10 of sample 1; labels run from 0 to 9"
    )
    file.write_bytes(python2({b"fine_labels": [0, 1], b"data": pixels(2, 0)}))
    assert refused(path=str(folder), split="test") == (
        f"{file}: holds no b'labels'; found b'data', b'fine_labels': extract the archive again"
    )
    file.write_bytes(python2({**good, b"data": pixels(2, 0)[:, :100].copy()}))
    assert (
        refused(path=str(folder), split="test")
        == f"{file}: b'data' is not uint8 of shape [n 3072]: extract the archive again"
    )
    file.write_bytes(python2([1, 2]))
    assert refused(path=str(folder), split="test") == (
        f"{file}: holds a list where CIFAR files hold a dict: extract the archive again"
    )


def test_refusals_of_the_path_split_and_labels(tmp_path):
    assert refused(path=str(tmp_path)) == (
        f"{tmp_path}: no CIFAR files here; looked for those of cifar-10-batches-py, cifar-100-python, cifar-10-batches-bin, "
        "cifar-100-binary in it and in folders of these names"
    )
    ten, hundred = write_ten(tmp_path), write_hundred(tmp_path)
    assert refused(path=str(tmp_path)) == (
        f"{tmp_path}: holds several data sets, {ten}, {hundred}: give the path of one of them"
    )
    assert refused(kind=UnknownNameError, path=str(ten), split="val") == (
        f"no split named 'val'. Known: test, train. These are the splits of {ten}."
    )
    assert refused(path=str(ten), labels="coarse") == (
        f"{ten}: CIFAR-10, Python version has no coarse labels: set labels: fine"
    )


def test_permission_denied(tmp_path, monkeypatch):
    ten, binary = write_ten(tmp_path), write_ten_binary(tmp_path)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.open", deny)
        assert refused(path=str(ten)) == f"{ten / 'batches.meta'}: permission denied: make it readable for this user"
        patch.setattr("pathlib.Path.read_text", deny)
        assert refused(path=str(binary)) == (
            f"{binary / 'batches.meta.txt'}: permission denied: make it readable for this user"
        )
    monkeypatch.setattr("numpy.fromfile", deny)
    assert refused(path=str(binary), split="test") == (
        f"{binary / 'test_batch.bin'}: permission denied: make it readable for this user"
    )
