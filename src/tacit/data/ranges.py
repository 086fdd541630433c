"""Encoded samples that lie inside larger files, as byte ranges: members of tar archives, pages of other containers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.data.checks import fingerprint

__all__ = ["Ranges"]


class Ranges:
    """A store of byte ranges: sample i is the `sizes[i]` bytes from `starts[i]` of `files[which[i]]`, called `names[i]`.

    Files are opened for each read, so the store may be used in threads and after a fork.
    """

    def __init__(
        self,
        files: Sequence[Path],
        which: NDArray[np.int64],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int64],
        names: Sequence[str],
        root: Path,
    ) -> None:
        self.files, self.which, self.starts, self.sizes = tuple(files), which, starts, sizes
        self.names, self.root = tuple(names), root

    def __len__(self) -> int:
        return len(self.which)

    def name(self, i: int) -> str:
        """The file and what the range is called in it."""
        return f"{self.files[self.which[i]]} {self.names[i]}"

    def open(self, i: int) -> BinaryIO:
        """The bytes."""
        size = int(self.sizes[i])
        with open(self.files[self.which[i]], "rb") as file:
            found = os.pread(file.fileno(), size, int(self.starts[i]))
        if len(found) < size:
            raise DataError(f"its file ends after {len(found)} of its {size} bytes: the copy was cut short")
        return BytesIO(found)

    def fingerprint(self) -> str:
        """See checks.fingerprint."""
        return fingerprint(self.files, self.root if self.root.is_dir() else self.root.parent)
