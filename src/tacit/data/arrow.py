"""A Hugging Face data set saved to disk (`Dataset.save_to_disk`, `DatasetDict.save_to_disk`), read without that library.

dataset_dict.json {"splits": [...]} with one folder a split, or one folder; in it state.json, which lists the Arrow stream files in
order, and dataset_info.json, which names the columns and classes. The files are mapped into memory, not loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import checked_labels, checked_path, choose, fingerprint, permitted
from tacit.data.encoded import EncodedSource
from tacit.data.parquet import class_names, column_of
from tacit.data.samples import Layout

__all__ = ["ArrowSource", "recognise"]


class Cells:
    """A store of encoded pictures in a column of Arrow stream files, mapped into memory in each process."""

    def __init__(self, files: Sequence[Path], column: str, root: Path) -> None:
        self.files, self.column, self.root = tuple(files), column, root
        self._cells: pa.ChunkedArray | None = None
        self._process = 0
        self._count = len(self._mapped())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cells": None}

    def _mapped(self) -> pa.ChunkedArray:
        if self._cells is None or self._process != os.getpid():
            self._cells = pa.chunked_array([c for file in self.files for c in _table(file).column(self.column).chunks])
            self._process = os.getpid()
        return self._cells

    def __len__(self) -> int:
        return self._count

    def name(self, i: int) -> str:
        """The folder and the row."""
        return f"{self.files[0].parent} row {i}"

    def open(self, i: int) -> BinaryIO:
        """The encoded bytes, or the file that the cell names."""
        cell = self._mapped()[i].as_py()
        raw, where = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if raw is not None:
            return BytesIO(raw)
        if where:
            return open(where, "rb")
        raise DataError("the cell holds neither bytes nor a path")

    def fingerprint(self) -> str:
        """See checks.fingerprint."""
        return fingerprint(self.files, self.root) + self.column


def _table(file: Path) -> pa.Table:
    try:
        with permitted(file), pa.memory_map(str(file)) as mapped:
            return pa.ipc.open_stream(mapped).read_all()
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise DataError(
            f"{file}: damaged or cut short, no whole Arrow stream ({why}): save the data set again"
        ) from error


def _json(file: Path) -> dict[str, Any]:
    try:
        with permitted(file):
            found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error}): save the data set again") from error
    if not isinstance(found, dict):
        raise DataError(f"{file}: holds no JSON object: save the data set again")
    return found


def _splits(root: Path) -> dict[str, Path]:
    if (root / "dataset_dict.json").is_file():
        return {str(name): root / str(name) for name in _json(root / "dataset_dict.json").get("splits", ())}
    if (root / "state.json").is_file():
        return {str(_json(root / "state.json").get("_split") or "train").partition("[")[0]: root}
    return {}


def _files(folder: Path) -> list[Path]:
    names = [entry["filename"] for entry in _json(folder / "state.json").get("_data_files", ())]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        lacking = (
            f"{len(missing)} of {len(names)} files are missing, the first is {missing[0]}"
            if missing
            else "lists no files"
        )
        raise DataError(f"{folder / 'state.json'}: {lacking}: save the data set again")
    return [folder / name for name in names]


def recognise(path: Path) -> Layout | None:
    """A folder with dataset_dict.json, or with state.json and dataset_info.json."""
    if not path.is_dir() or not ((path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()):
        return None
    splits = _splits(path)
    return Layout("hf-disk", str(path), tuple(splits), "a Hugging Face data set saved to disk") if splits else None


@part("source", "hf-disk")
class ArrowSource(EncodedSource):
    """A Hugging Face data set as `save_to_disk` writes it: Arrow files with encoded pictures, class names in their schema.

    image, label: the columns, where they are not the only ones that fit. channels, memory, unreadable: as for 'folder'.
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        image: str | None = None,
        label: str | None = None,
        channels: Literal[1, 3, 4] | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        unreadable: Literal["stop", "skip"] = "stop",
        memory: Annotated[int, Ge(0)] = 1024,
    ) -> None:
        root = checked_path(path)
        splits = _splits(root)
        if not splits:
            raise DataError(f"{root}: no dataset_dict.json or state.json here: give the folder that save_to_disk wrote")
        files = _files(splits[choose(split, splits, str(root))])
        first = _table(files[0])
        column = column_of(first.schema, image, "image", files[0]) or ""
        target = column_of(first.schema, label, "label", files[0])
        labels: NDArray[np.int64] | None = None
        names: tuple[str, ...] = ()
        if target is not None:
            values = np.concatenate([_table(file).column(target).to_numpy() for file in files])
            if not (values == -1).all():  # which stands for withheld ones
                names = class_names(first.schema, target)
                labels = checked_labels(values, len(values), len(names) or None, f"{files[0].parent} column {target!r}")
                names = names or tuple(map(str, range(int(labels.max()) + 1)))
        super().__init__(
            Cells(files, column, root),
            labels,
            root=root,
            split=split,
            classes=names,
            train=Cells(_files(splits["train"]), column, root) if split != "train" and "train" in splits else None,
            channels=channels,
            mean=mean,
            std=std,
            unreadable=unreadable,
            memory=memory,
        )
