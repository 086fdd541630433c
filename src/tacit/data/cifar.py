"""CIFAR-10 and CIFAR-100 as published (Krizhevsky 2009), the Python and the binary version.

Python: pickled dicts with b'data' uint8 [n 3072], rows of 1024 red, 1024 green, 1024 blue values of a 32x32 picture.
Binary: records of 1 + 3072 bytes (CIFAR-10) or 2 + 3072 bytes (CIFAR-100: the coarse label, then the fine one).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import checked_labels, checked_path, choose, permitted
from tacit.data.pickles import Array, read_pickle
from tacit.data.samples import Held, Layout, StoredSource

__all__ = ["CifarSource", "recognise"]

_PIXELS = 3 * 32 * 32
Labels = Literal["fine", "coarse"]


@dataclass(frozen=True)
class _Version:
    """One published form: the archive's folder, its files by split, and the file of class names per kind of label."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: tuple[tuple[Labels, str], ...]
    binary: bool

    def files(self, split: str) -> tuple[str, ...]:
        return self.train if split == "train" else self.test


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_VERSIONS = (
    _Version(
        "CIFAR-10, Python version", "cifar-10-batches-py", _BATCHES, ("test_batch",), (("fine", "batches.meta"),), False
    ),
    _Version(
        "CIFAR-100, Python version",
        "cifar-100-python",
        ("train",),
        ("test",),
        (("fine", "meta"), ("coarse", "meta")),
        False,
    ),
    _Version(
        "CIFAR-10, binary version",
        "cifar-10-batches-bin",
        tuple(f"{name}.bin" for name in _BATCHES),
        ("test_batch.bin",),
        (("fine", "batches.meta.txt"),),
        True,
    ),
    _Version(
        "CIFAR-100, binary version",
        "cifar-100-binary",
        ("train.bin",),
        ("test.bin",),
        (("fine", "fine_label_names.txt"), ("coarse", "coarse_label_names.txt")),
        True,
    ),
)


def _has(folder: Path, version: _Version) -> bool:
    return any((folder / name).is_file() for name in (*version.train, *version.test)) and (
        version.folder == folder.name or any((folder / name).is_file() for _, name in version.names)
    )


def _find(path: Path) -> list[tuple[Path, _Version]]:
    """The published forms at `path` or in the archive folders below it."""
    here = [(path, version) for version in _VERSIONS if _has(path, version)]
    return here or [(path / v.folder, v) for v in _VERSIONS if _has(path / v.folder, v)]


def recognise(path: Path) -> Layout | None:
    """A folder with at least one batch file of a published form."""
    found = _find(path) if path.is_dir() else []
    if not found:
        return None
    return Layout("cifar", str(path), ("train", "test"), " and ".join(version.name for _, version in found))


@part("source", "cifar")
class CifarSource(StoredSource):
    """CIFAR-10 or CIFAR-100 as published, Python or binary version: the extracted folder, or the folder that holds it.

    labels: 'fine' or, for CIFAR-100, 'coarse'. All pictures are held in memory (150 MiB for the training split).
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        labels: Labels = "fine",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        root = checked_path(path)
        folder, version = _one(root, _find(root))
        choose(split, ("train", "test"), str(root))
        if labels not in dict(version.names):
            raise DataError(f"{folder}: {version.name} has no coarse labels: set labels: fine")
        classes = _class_names(folder, version, labels)
        items = _items(folder, version, split, labels, classes)
        super().__init__(
            items,
            path=str(root),
            split=split,
            classes=classes,
            reference=None if split == "train" else partial(_items, folder, version, "train", labels, classes),
            mean=mean,
            std=std,
        )


def _one(root: Path, found: Sequence[tuple[Path, _Version]]) -> tuple[Path, _Version]:
    if not found:
        looked = ", ".join(version.folder for version in _VERSIONS)
        raise DataError(
            f"{root}: no CIFAR files here; looked for those of {looked} in it and in folders of these names"
        )
    if len(found) > 1:
        names = ", ".join(str(folder) for folder, _ in found)
        raise DataError(f"{root}: holds several data sets, {names}: give the path of one of them")
    return found[0]


def _items(folder: Path, version: _Version, split: str, labels: Labels, classes: tuple[str, ...]) -> Held:
    """All files of the split; what is wrong with any of them is said at once, one sentence a line."""
    pixels: list[NDArray[np.uint8]] = []
    numbers: list[NDArray[np.int64]] = []
    faults: list[str] = []
    names = version.files(split)
    for name in names:
        file = folder / name
        try:
            if not file.is_file():
                raise DataError(f"{file}: this file of {version.name} is missing: extract the archive again")
            data, own = (_read_binary if version.binary else _read_python)(file, version, labels)
            numbers.append(checked_labels(own, len(data), len(classes), str(file)))
            pixels.append(data)
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    images = torch.from_numpy(np.concatenate(pixels).reshape(-1, 3, 32, 32))
    records = [(str(folder / name), len(data)) for name, data in zip(names, pixels, strict=True)]
    return Held(images, np.concatenate(numbers), records)


def _read_python(file: Path, version: _Version, labels: Labels) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    content = read_pickle(file)
    key = b"labels" if version.folder == "cifar-10-batches-py" else f"{labels}_labels".encode()
    missing = [str(name) for name in (b"data", key) if name not in content]
    if missing:
        raise DataError(
            f"{file}: holds no {' and no '.join(missing)}; found {_listed(content)}: extract the archive again"
        )
    stored = content[b"data"]
    try:
        data = stored.numpy() if isinstance(stored, Array) else None
    except ValueError:
        data = None
    if data is None or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DataError(f"{file}: b'data' is not uint8 of shape [n {_PIXELS}]: extract the archive again")
    return data, np.array(content[key])


def _read_binary(file: Path, version: _Version, labels: Labels) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    heads = len(version.names)  # label bytes before the pixels: one, or coarse and fine
    record = heads + _PIXELS
    with permitted(file):
        raw = np.fromfile(file, dtype=np.uint8)
    if len(raw) == 0 or len(raw) % record:
        raise DataError(
            f"{file}: {len(raw)} bytes are not a whole number of records of {record} bytes: the file is cut short or of "
            "another data set; extract the archive again"
        )
    rows = raw.reshape(-1, record)
    return np.ascontiguousarray(rows[:, heads:]), rows[:, heads - 1 if labels == "fine" else 0]


def _class_names(folder: Path, version: _Version, labels: Labels) -> tuple[str, ...]:
    file = folder / dict(version.names)[labels]
    if not file.is_file():
        raise DataError(
            f"{file}: this file of {version.name} is missing: it names the classes; extract the archive again"
        )
    if version.binary:
        with permitted(file):
            lines = file.read_text(encoding="utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    content = read_pickle(file)
    key = b"label_names" if version.folder == "cifar-10-batches-py" else f"{labels}_label_names".encode()
    if not isinstance(content.get(key), list):
        raise DataError(f"{file}: holds no list {key!r}; found {_listed(content)}: extract the archive again")
    return tuple(name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in content[key])


def _listed(keys: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, keys))) or "(nothing)"
