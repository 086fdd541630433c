"""Checks and small sums that all readers share: paths, splits, labels, the digest of files, mean and deviation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown

__all__ = [
    "LOOKED_AT",
    "MIB",
    "SPLITS",
    "NotFiniteError",
    "checked_labels",
    "checked_path",
    "choose",
    "content_hash",
    "evenly",
    "fingerprint",
    "listed",
    "permitted",
    "statistics",
]

SPLITS = ("train", "val", "valid", "validation", "test")  # names of folders, files and keys that mean a split
LOOKED_AT = 1000  # samples that statistics and surveys of large sets look at, evenly spaced
MIB = 2**20
HASHED_WHOLE = 256 * MIB  # sets of files up to this size are hashed by content, larger ones by name, size and time


class NotFiniteError(DataError):
    """A stored sample holds NaN or infinite values."""


def statistics(pictures: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of values in [0, 1]; every picture weighs the same, whatever its size.

    A channel without any spread gets standard deviation 1, so that normalising leaves it at 0 instead of NaN.
    """
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0
    count = 0
    for picture in pictures:
        values = picture.flatten(1).double()
        if picture.dtype == torch.uint8:
            values /= 255
        first, second, count = first + values.mean(1), second + values.square().mean(1), count + 1
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        raise DataError("no sample could be read to compute mean and std from: give the settings mean and std")
    mean = first / count
    variance = (second / count - mean.square()).clamp(min=0)
    std = torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance))
    return tuple(mean.tolist()), tuple(std.tolist())


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` indices below n, evenly spaced, first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def choose(split: str, splits: Iterable[str], path: str) -> str:
    """`split` if it is there, else the sentence that names the ones there are."""
    known = tuple(splits)
    if split not in known:
        raise UnknownNameError(unknown("split", split, known, f"These are the splits of {path}."))
    return split


@contextmanager
def permitted(path: str | Path) -> Iterator[None]:
    """Turns a PermissionError inside the block into the sentence that names `path`."""
    try:
        yield
    except PermissionError as error:
        raise DataError(f"{path}: permission denied: make it readable for this user") from error


def listed(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden files and the __MACOSX folders of archives."""
    with permitted(folder), os.scandir(folder) as found:
        return sorted((e for e in found if not e.name.startswith((".", "__MACOSX"))), key=lambda e: e.name)


def checked_path(path: str | Path) -> Path:
    """The path with ~ expanded, if there is something at it."""
    found = Path(path).expanduser()
    with permitted(found):
        there = found.exists()
    if not there:
        above = next((p for p in found.parents if p.exists()), Path())
        raise DataError(f"{found}: there is nothing at this path; the nearest folder that exists is {above}")
    return found


def checked_labels(labels: NDArray[np.generic], n: int, classes: int | None, name: str) -> NDArray[np.int64]:
    """Labels as int64 [n]; refused when their number, type or range is wrong. [n 1] is taken as [n]."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "iu":
        raise DataError(f"{name}: labels must be whole numbers, one a sample; found {flat.dtype} of shape {flat.shape}")
    if len(flat) != n:
        raise DataError(f"{name}: {n} samples but {len(flat)} labels: one label a sample is needed")
    whole = flat.astype(np.int64)
    wrong = np.flatnonzero((whole < 0) | (whole >= (np.iinfo(np.int64).max if classes is None else classes)))
    if wrong.size:
        there = "0 and above" if classes is None else f"0 to {classes - 1}"
        raise DataError(
            f"{name}: {wrong.size} labels are out of range, the first is {whole[wrong[0]]} of sample {wrong[0]}; "
            f"labels run {'from ' if classes is not None else ''}{there}"
        )
    return whole


def fingerprint(files: Sequence[Path], root: Path) -> str:
    """A hash over the files: their contents up to 256 MiB in all, otherwise their names, sizes and times of change."""
    stats = [_stat(file) for file in files]
    whole = sum(size for size, _ in stats) <= HASHED_WHOLE
    state = hashlib.blake2b(digest_size=16)
    for file, stat in zip(files, stats, strict=True):
        state.update(os.fsencode(file.relative_to(root)) + b"\0")
        state.update(_content(file) if whole else repr(stat).encode())
        state.update(b"\0")
    return state.hexdigest()


def _stat(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return -1, 0  # a dead link is a state like any other; reading the sample says what is wrong
    return found.st_size, found.st_mtime_ns


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b"unreadable"


def content_hash(values: NDArray[np.generic], salt: str = "") -> bytes:
    """16 bytes that depend on every value, on the shape and on `salt`."""
    state = hashlib.blake2b(f"{values.shape}{values.dtype}{salt}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return state.digest()
