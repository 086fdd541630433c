"""Finding arrays on disk by their names: .npy files, .npz archives, folders of either.

A split's images and labels are found by the first pair of names that fits, as .npz keys or as stems of .npy files:
x_train/y_train, train_images/train_labels, train/train_labels, train_x/train_y (train, val, valid, validation or test); then,
as the one split 'train', images/labels, x/y, image/label, data/labels, data/y, arr_0/arr_1. The settings `key` and `labels` name
others, with '{split}' in them where there are splits. A folder may also hold one .npz a split (train.npz, test.npz); the labels
of a single file a.npy are in a_labels.npy.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.data.checks import SPLITS, listed, permitted

__all__ = ["Pair", "Stored", "find", "nothing"]

_SPLIT_NAMES = (
    ("x_{split}", "y_{split}"),
    ("{split}_images", "{split}_labels"),
    ("{split}", "{split}_labels"),
    ("{split}_x", "{split}_y"),
)
_NAMES = (
    ("images", "labels"),
    ("x", "y"),
    ("image", "label"),
    ("data", "labels"),
    ("data", "y"),
    ("arr_0", "arr_1"),
)
_BROKEN = (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error, SyntaxError, TypeError)


@dataclass(frozen=True)
class Stored:
    """One array: a .npy file, or a key of an .npz file."""

    file: Path
    key: str | None = None

    def __str__(self) -> str:
        return str(self.file) if self.key is None else f"{self.file}[{self.key}]"

    def load(self) -> NDArray[Any]:
        """The array, mapped from a .npy file, read from an .npz file."""
        try:
            with permitted(self.file):
                if self.key is None:
                    return np.load(self.file, mmap_mode="r", allow_pickle=False)
                with np.load(self.file, allow_pickle=False) as archive:
                    return archive[self.key]
        except DataError:
            raise
        except _BROKEN as error:
            size = self.file.stat().st_size
            if any(words in str(error) for words in ("Object arrays", "Python objects")):  # numpy's two ways to say it
                why = "it holds Python objects, which could run code when read: store plain numbers of one shape"
            elif size == 0:
                why = "it is empty (0 bytes): write it again"
            else:
                why = f"damaged or cut short, its {size} bytes are no whole array ({error}): write or copy it again"
            raise DataError(f"{self}: {why}") from error


def _members(file: Path) -> dict[str, Stored]:
    """The arrays of an .npz file by key."""
    try:
        with permitted(file), zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy"): Stored(file, name.removesuffix(".npy")) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"{file}: damaged or cut short, its {file.stat().st_size} bytes are no whole .npz ({error}): write or copy it again"
        ) from error


Pair = tuple[Stored, Stored | None]


def _pairs(stored: dict[str, Stored], key: str | None, labels: str | None) -> dict[str, Pair]:
    """Images and labels by split, by the first pair of names that fits."""
    known = {name.lower(): value for name, value in stored.items()}
    candidates: Sequence[tuple[str, str | None]] = (*_SPLIT_NAMES, *_NAMES)
    if key is not None or labels is not None:
        given = key.lower() if key is not None else None
        candidates = [(given or images, (labels or own or "").lower()) for images, own in candidates]
    for images, own in candidates:
        splits = SPLITS if "{split}" in images else ("train",)
        found = {
            split: (known[images.replace("{split}", split)], known.get((own or "").replace("{split}", split)))
            for split in splits
            if images.replace("{split}", split) in known
        }
        if found:
            return found
    return {}


def find(path: Path, key: str | None = None, labels: str | None = None) -> dict[str, Pair]:
    """The arrays at `path` by split; empty where the path holds none that fit."""
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return _pairs(_members(path), key, labels)
        if path.suffix.lower() != ".npy":
            return {}
        beside = path.with_name(f"{labels or path.stem + '_labels'}.npy")
        return {"train": (Stored(path), Stored(beside) if beside.is_file() else None)}
    files = [path / entry.name for entry in listed(path)]
    single = {file.stem: Stored(file) for file in files if file.suffix.lower() == ".npy"}
    found = _pairs(single, key, labels)
    if found:
        return found
    archives = {file.stem.lower(): file for file in files if file.suffix.lower() == ".npz"}
    inside = {split: _pairs(_members(archives[split]), key, labels) for split in SPLITS if split in archives}
    return {split: pairs["train"] for split, pairs in inside.items() if "train" in pairs}


def nothing(root: Path, key: str | None) -> str:
    """The sentence for a path where `find` found nothing."""
    if root.is_file() and root.suffix.lower() == ".npz":
        there = ", ".join(sorted(_members(root))) or "(nothing)"
    elif root.is_file():
        return f"{root} is neither .npy nor .npz: give such a file or a folder of them"
    else:
        there = (
            ", ".join(e.name for e in listed(root) if Path(e.name).suffix.lower() in (".npy", ".npz")) or "no arrays"
        )
    looked = (
        key or "x_train, train_images, train, train_x, images, x, image, data, arr_0 (and the like of val and test)"
    )
    return f"{root}: no array named {looked}; found {there}: rename the arrays or set key: NAME"
