"""Rows of Parquet files by index: a row costs its row group, unless that is among the few kept in memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tacit.core.errors import DataError
from tacit.data.checks import fingerprint, permitted

__all__ = ["Rows", "open_parquet", "refuse_damaged"]


def open_parquet(file: Path) -> pq.ParquetFile:
    """The opened file; raises DataError with its name where it is damaged."""
    try:
        with permitted(file):
            return pq.ParquetFile(file)
    except DataError:
        raise
    except (pa.ArrowException, OSError) as error:
        size = file.stat().st_size
        why = (
            "it is empty (0 bytes)"
            if size == 0
            else f"damaged or cut short, its {size} bytes are no whole Parquet file"
        )
        raise DataError(f"{file}: {why}: fetch or write it again") from error


class Rows:
    """A store of encoded pictures in a column, read by row group; `kept` groups stay in memory in each process."""

    def __init__(self, files: Sequence[Path], column: str, root: Path, kept: int) -> None:
        self.files, self.column, self.root, self.kept = tuple(files), column, root, kept
        self.groups: list[tuple[int, int]] = []  # (file, row group in it)
        rows = [0]
        for number, file in enumerate(files):
            metadata = open_parquet(file).metadata
            for group in range(metadata.num_row_groups):
                self.groups.append((number, group))
                rows.append(metadata.row_group(group).num_rows)
        self._starts = np.cumsum(rows, dtype=np.int64)
        self._fresh()

    def _fresh(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._readers: dict[int, pq.ParquetFile] = {}
        self._cache: OrderedDict[int, pa.Array] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        own = ("files", "column", "root", "kept", "groups", "_starts")
        return {name: self.__dict__[name] for name in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fresh()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _place(self, i: int) -> tuple[int, int]:
        """(place in `groups`, row in that group)."""
        place = int(np.searchsorted(self._starts, i, side="right")) - 1
        return place, i - int(self._starts[place])

    def name(self, i: int) -> str:
        """The file and the row in it."""
        place, row = self._place(i)
        file, group = self.groups[place]
        return f"{self.files[file]} row {int(self._starts[place] - self._starts[place - group]) + row}"

    def open(self, i: int) -> BinaryIO:
        """The encoded bytes."""
        place, row = self._place(i)
        if self._process != os.getpid():
            self._fresh()  # after a fork: file positions and locks of the parent are not ours
        with self._lock:
            if place not in self._cache:
                self._cache[place] = self._group(place)
                if len(self._cache) > self.kept:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(place)
            cell = self._cache[place][row].as_py()
        raw, where = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if raw is None:
            raise DataError(
                f"the cell holds no bytes{f', only the path {where!r}' if where else ''}: write the table with the pictures in it"
            )
        return BytesIO(raw)

    def _group(self, place: int) -> pa.Array:
        file, group = self.groups[place]
        if file not in self._readers:
            self._readers[file] = open_parquet(self.files[file])
        try:
            table = self._readers[file].read_row_group(group, columns=[self.column], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"its row group is damaged ({' '.join(str(error).split())})") from error
        return table.column(0).combine_chunks()

    def fingerprint(self) -> str:
        """See samples.fingerprint."""
        return fingerprint(self.files, self.root if self.root.is_dir() else self.root.parent) + self.column


def refuse_damaged(files: Sequence[Path]) -> None:
    """All damaged files of the split at once, one sentence a line."""
    faults = []
    for file in files:
        try:
            open_parquet(file)
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
