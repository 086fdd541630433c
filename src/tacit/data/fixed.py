"""Sets of small pictures of one size in the files they were published in: STL-10 (binary version) and SVHN (cropped digits).

STL-10 (Coates 2011): {train,test,unlabeled}_X.bin, uint8 of 3 x 96 x 96 values a picture, each channel column by column;
{train,test}_y.bin, uint8 from 1 to 10; class_names.txt.
SVHN (Netzer 2011): {train,test,extra}_32x32.mat with X uint8 [32 32 3 n] and y [n 1] from 1 to 10, where 10 is the digit 0.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import checked_labels, checked_path, choose, fingerprint, permitted
from tacit.data.samples import Held, Layout, StoredSource

__all__ = ["Stl10Source", "SvhnSource", "recognise_stl10", "recognise_svhn"]

_SIDE = 96
_RECORD = 3 * _SIDE * _SIDE
_STL = ("train", "test", "unlabeled")
_SVHN = ("train", "test", "extra")


class Columns:
    """Items over STL-10's pictures, mapped into memory: channels of 96 columns of 96 values."""

    channels = 3
    shape: tuple[int, int] | None = (_SIDE, _SIDE)
    dtype = torch.uint8

    def __init__(self, file: Path, labels: NDArray[np.int64] | None) -> None:
        size = file.stat().st_size
        if size == 0 or size % _RECORD:
            raise DataError(
                f"{file}: {size} bytes are not a whole number of pictures of {_RECORD} bytes: the file is cut short; "
                "extract the archive again"
            )
        self.file, self.labels, self._count = file, labels, size // _RECORD

    def __len__(self) -> int:
        return self._count

    def name(self, i: int) -> str:
        """The file and the record."""
        return f"{self.file} record {i}"

    def size(self, i: int) -> tuple[int, int, int]:  # noqa: ARG002 (all have one size)
        """(c, h, w)."""
        return 3, _SIDE, _SIDE

    def image(self, i: int) -> Tensor:
        """[3 96 96]."""
        with permitted(self.file), open(self.file, "rb") as file:
            file.seek(i * _RECORD)
            values = np.frombuffer(file.read(_RECORD), dtype=np.uint8)
        if len(values) < _RECORD:
            raise DataError("the file has become shorter since the set was opened")
        return torch.from_numpy(values.reshape(3, _SIDE, _SIDE).transpose(0, 2, 1).copy())

    def everything(self) -> Tensor | None:
        """[n 3 96 96]."""
        with permitted(self.file):
            values = np.fromfile(self.file, dtype=np.uint8).reshape(-1, 3, _SIDE, _SIDE)
        return torch.from_numpy(values.transpose(0, 1, 3, 2).copy())

    def fingerprint(self) -> str:
        """See checks.fingerprint."""
        return fingerprint([self.file], self.file.parent)


def _folder(path: Path, inside: str, file: str) -> Path | None:
    """`path` or its folder `inside`, whichever holds `file`."""
    return next((place for place in (path, path / inside) if (place / file).is_file()), None)


def recognise_stl10(path: Path) -> Layout | None:
    """A folder with train_X.bin (or the folder that holds stl10_binary)."""
    folder = _folder(path, "stl10_binary", "train_X.bin")
    if folder is None:
        return None
    splits = tuple(split for split in _STL if (folder / f"{split}_X.bin").is_file())
    return Layout("stl10", str(path), splits, "STL-10, binary version")


@part("source", "stl10")
class Stl10Source(StoredSource):
    """STL-10, binary version: 96x96 colour; splits train, test (10 classes) and unlabeled (100,000 pictures, without labels)."""

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        memory: int = 1024,
    ) -> None:
        root = checked_path(path)
        folder = _folder(root, "stl10_binary", "train_X.bin")
        if folder is None:
            raise DataError(f"{root}: no train_X.bin here or in stl10_binary: extract stl10_binary.tar.gz here")
        choose(split, [s for s in _STL if (folder / f"{s}_X.bin").is_file()], str(root))
        labels: NDArray[np.int64] | None = None
        classes: tuple[str, ...] = ()
        items = Columns(folder / f"{split}_X.bin", None)
        if split != "unlabeled":
            names = folder / "class_names.txt"
            truth = folder / f"{split}_y.bin"
            for file in (names, truth):
                if not file.is_file():
                    raise DataError(f"{file}: this file of STL-10 is missing: extract the archive again")
            classes = tuple(line.strip() for line in names.read_text().splitlines() if line.strip())
            stored = np.fromfile(truth, dtype=np.uint8).astype(np.int64) - 1
            labels = items.labels = checked_labels(stored, len(items), len(classes), str(truth))
        super().__init__(
            items,
            path=str(root),
            split=split,
            classes=classes if labels is not None else (),
            reference=None if split == "train" else partial(Columns, folder / "train_X.bin", None),
            mean=mean,
            std=std,
            memory=memory,
        )


def recognise_svhn(path: Path) -> Layout | None:
    """A folder with at least one of {train,test,extra}_32x32.mat."""
    splits = tuple(split for split in _SVHN if (path / f"{split}_32x32.mat").is_file())
    return Layout("svhn", str(path), splits, "SVHN, cropped digits") if splits else None


@part("source", "svhn")
class SvhnSource(StoredSource):
    """SVHN, cropped digits: 32x32 colour, ten digits; splits train, test and extra. All pictures are held in memory."""

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        root = checked_path(path)
        there = [s for s in _SVHN if (root / f"{s}_32x32.mat").is_file()]
        if not there:
            raise DataError(
                f"{root}: no train_32x32.mat, test_32x32.mat or extra_32x32.mat here: give the folder that has them"
            )
        choose(split, there, str(root))
        super().__init__(
            _digits(root / f"{split}_32x32.mat"),
            path=str(root),
            split=split,
            classes=tuple(map(str, range(10))),
            reference=partial(_digits, root / "train_32x32.mat") if split != "train" and "train" in there else None,
            mean=mean,
            std=std,
        )


def _digits(file: Path) -> Held:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with permitted(file):
            found = loadmat(file, variable_names=["X", "y"])
    except (MatReadError, ValueError, TypeError, OSError, EOFError, NotImplementedError) as error:
        raise DataError(f"{file}: damaged or cut short, no MATLAB 5 file ({error}): fetch it again") from error
    pictures, labels = found.get("X"), found.get("y")
    if pictures is None or labels is None or pictures.dtype != np.uint8 or pictures.shape[:3] != (32, 32, 3):
        shape = None if pictures is None else pictures.shape
        raise DataError(
            f"{file}: needs X uint8 [32 32 3 n] and y [n 1], found X {shape}: fetch the cropped digits again"
        )
    checked = checked_labels(np.asarray(labels).astype(np.int64) % 10, pictures.shape[3], 10, str(file))
    images = torch.from_numpy(np.ascontiguousarray(pictures.transpose(3, 2, 0, 1)))
    return Held(images, checked, [(str(file), len(images))])
