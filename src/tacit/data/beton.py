"""FFCV's .beton files, version 2, read without that library: JPEG and raw pictures, one integer label.

Layout (little endian): a header of 24 bytes, one descriptor of 1,041 bytes a field, one aligned record a sample, data pages, and at
the end the table of (sample, place, size) of everything in the pages. The files of a folder are its splits, by their names.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import SPLITS, checked_labels, checked_path, choose, listed, permitted
from tacit.data.encoded import EncodedSource
from tacit.data.ranges import Ranges
from tacit.data.samples import Layout

__all__ = ["BetonSource", "recognise"]

_HEADER = np.dtype([("version", "<u2"), ("fields", "<u2"), ("page", "<u4"), ("samples", "<u8"), ("table", "<u8")])
_FIELD = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "V1024")])
_IMAGE = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("place", "<u8")])
_TABLE = np.dtype([("sample", "<u8"), ("place", "<u8"), ("size", "<u8")])
_TYPES = {  # type id -> what a record holds
    0: np.dtype("<f8"),
    1: np.dtype("<i8"),
    2: _IMAGE,
    3: np.dtype([("place", "<u8"), ("size", "<u8")]),
    4: np.dtype("<u8"),
    5: np.dtype([("place", "<u8"), ("size", "<u8")]),
}
_JPEG = 0


@dataclass(frozen=True)
class _Opened:
    """The table of contents of a file: for each sample the picture's record and size, and the label."""

    images: NDArray[np.void]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64] | None


class Pictures(Ranges):
    """Byte ranges of which some are raw pixels [h w 3]; those come out with a header that picture readers know (PPM)."""

    def __init__(self, file: Path, images: NDArray[np.void], sizes: NDArray[np.int64]) -> None:
        n = len(images)
        places = images["place"].astype(np.int64)
        super().__init__([file], np.zeros(n, dtype=np.int64), places, sizes, [f"sample {i}" for i in range(n)], file)
        self.images = images

    def open(self, i: int) -> BinaryIO:
        """The encoded picture."""
        found = super().open(i)
        record = self.images[i]
        if record["mode"] == _JPEG:
            return found
        return BytesIO(b"P6 %d %d 255\n" % (record["width"], record["height"]) + found.read())


@functools.lru_cache(maxsize=8)
def _opened(file: Path, stamp: tuple[int, int]) -> _Opened:
    size = stamp[0]
    with permitted(file), open(file, "rb") as raw:
        head = raw.read(_HEADER.itemsize)
        header = np.frombuffer(head, dtype=_HEADER)[0] if len(head) == _HEADER.itemsize else None
        if header is None or header["version"] != 2 or header["table"] > size:
            raise DataError(f"{file}: is no whole .beton file of version 2: write it again")
        fields = np.frombuffer(raw.read(_FIELD.itemsize * int(header["fields"])), dtype=_FIELD)
        unknown = [int(field["type"]) for field in fields if int(field["type"]) not in _TYPES]
        if unknown:
            raise DataError(
                f"{file}: has a field of type {unknown[0]}, which is not known: write pictures and integer labels"
            )
        record = np.dtype([(f"f{i}", _TYPES[int(field["type"])]) for i, field in enumerate(fields)], align=True)
        count = int(header["samples"])
        stored = raw.read(record.itemsize * count)
        raw.seek(int(header["table"]))
        table = np.frombuffer(
            raw.read()[: (size - int(header["table"])) // _TABLE.itemsize * _TABLE.itemsize], dtype=_TABLE
        )
    if len(stored) < record.itemsize * count:
        raise DataError(f"{file}: ends among its records: write it again")
    records = np.frombuffer(stored, dtype=record)
    of = {
        kind: next((f"f{i}" for i, field in enumerate(fields) if int(field["type"]) == kind), None) for kind in (1, 2)
    }
    if of[2] is None:
        raise DataError(f"{file}: has no field of pictures")
    images = records[of[2]]
    order = np.argsort(table["place"], kind="stable")
    at = np.searchsorted(table["place"][order], images["place"])
    if len(table) == 0 or (at >= len(table)).any() or (table["place"][order][at] != images["place"]).any():
        raise DataError(f"{file}: its allocation table does not know all pictures: write it again")
    sizes = table["size"][order][at].astype(np.int64)
    raw_pixels = images["width"].astype(np.int64) * images["height"] * 3
    sizes = np.where(images["mode"] == _JPEG, sizes, raw_pixels)
    return _Opened(images, sizes, None if of[1] is None else records[of[1]].astype(np.int64))


def _open(file: Path) -> _Opened:
    stat = file.stat()
    return _opened(file, (stat.st_size, stat.st_mtime_ns))


def _splits(root: Path) -> dict[str, Path]:
    if root.is_file():
        return {"train": root} if root.suffix == ".beton" else {}
    found: dict[str, Path] = {}
    for entry in listed(root):
        if entry.name.endswith(".beton"):
            words = re.split(r"[-_.]", entry.name.lower())
            split = next((word for word in words if word in SPLITS), Path(entry.name).stem)
            if split in found:
                raise DataError(
                    f"{root}: both {found[split].name} and {entry.name} are {split!r}: give the path of one of them"
                )
            found[split] = root / entry.name
    return found


def recognise(path: Path) -> Layout | None:
    """A .beton file, or a folder that holds some."""
    splits = _splits(path)
    return Layout("beton", str(path), tuple(splits), "FFCV's .beton files") if splits else None


@part("source", "beton")
class BetonSource(EncodedSource):
    """FFCV's .beton files (version 2) with a field of pictures, JPEG or raw, and perhaps one of integer labels.

    channels, memory, unreadable: as for 'folder'.
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        channels: Literal[1, 3, 4] | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        unreadable: Literal["stop", "skip"] = "stop",
        memory: Annotated[int, Ge(0)] = 1024,
    ) -> None:
        root = checked_path(path)
        splits = _splits(root)
        if not splits:
            raise DataError(f"{root}: no .beton file at this path")
        file = splits[choose(split, splits, str(root))]
        found = _open(file)
        labels = (
            found.labels if found.labels is None else checked_labels(found.labels, len(found.images), None, str(file))
        )
        train = _open(splits["train"]) if split != "train" and "train" in splits else None
        super().__init__(
            Pictures(file, found.images, found.sizes),
            labels,
            root=root,
            split=split,
            classes=() if labels is None else tuple(map(str, range(int(labels.max()) + 1))),
            train=Pictures(splits["train"], train.images, train.sizes) if train is not None else None,
            channels=channels,
            mean=mean,
            std=std,
            unreadable=unreadable,
            memory=memory,
        )
