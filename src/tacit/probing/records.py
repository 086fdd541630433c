"""Result tables: one row per item. Held as columns, read one by one as Record, written as Parquet."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tacit.core.errors import DataError
from tacit.core.values import Record, columns

__all__ = ["Records", "read_records", "write_records"]

_WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        *((name, _WORDS) for name in ("run", "model", "benchmark", "protocol")),
        ("item", pa.string()),
        *((name, _WORDS) for name in ("group", "prediction", "answer")),
        ("score", pa.float64()),
        ("correct", pa.bool_()),
        ("seed", pa.int64()),
    ]
)


class Records(Sequence[Record]):
    """A sequence of Record held as columns: a hundred thousand rows are a few arrays, not as many objects.

    Compares and indexes like a list of Record; `table` gives the pyarrow table, `a + b` joins.
    """

    def __init__(self, rows: pa.Table | Iterable[Record] = ()) -> None:
        if not isinstance(rows, pa.Table):
            held = columns(list(rows))
            rows = pa.table(
                [pa.array(held[f.name], f.type.value_type if f.type == _WORDS else f.type) for f in SCHEMA],
                SCHEMA.names,
            )
        missing = [name for name in SCHEMA.names if name not in rows.column_names]
        if missing:
            raise DataError(
                f"a table of results needs the columns {', '.join(SCHEMA.names)}; missing: {', '.join(missing)}"
            )
        self.table: pa.Table = rows.select(SCHEMA.names).cast(SCHEMA)

    @classmethod
    def of(cls, n: int, **given: Any) -> Records:
        """n rows from columns; a single value stands for all rows, an absent column has Record's default."""
        defaults = {f.name: f.default for f in dataclasses.fields(Record)}
        arrays = []
        for f in SCHEMA:
            value = given.get(f.name, defaults[f.name])
            if isinstance(value, pa.Array | pa.ChunkedArray):
                arrays.append(value)
            elif isinstance(value, str | int | float | bool) or value is None:
                plain = f.type.value_type if f.type == _WORDS else f.type
                if f.type == _WORDS:
                    arrays.append(
                        pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n), pa.array([value], plain))
                    )
                else:
                    arrays.append(pa.repeat(pa.scalar(value, plain), n))
            else:
                arrays.append(pa.array(value))
        return cls(pa.table(arrays, SCHEMA.names))

    @classmethod
    def joined(cls, parts: Iterable[Records]) -> Records:
        """All rows of all parts, in order."""
        tables = [part.table for part in parts]
        return cls(pa.concat_tables(tables).unify_dictionaries()) if tables else cls()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Record]:
        held = [self.column(f.name).to_pylist() for f in dataclasses.fields(Record)]
        names = [f.name for f in dataclasses.fields(Record)]
        for row in zip(*held, strict=True):
            yield Record(**dict(zip(names, row, strict=True)))

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> Record | Records:
        if isinstance(index, slice):
            return Records(self.table.take(pa.array(range(len(self))[index], pa.int64())))
        return Record(**self.table.slice(range(len(self))[index], 1).to_pylist()[0])

    def __add__(self, other: Sequence[Record]) -> Records:
        return Records.joined([self, other if isinstance(other, Records) else Records(other)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # like a list

    def __repr__(self) -> str:
        return f"Records({len(self)} rows)"

    def column(self, name: str) -> pa.ChunkedArray:
        """One column; words are decoded."""
        held = self.table[name]
        return held.cast(pa.string()) if held.type == _WORDS else held

    def only(self, **equal: Any) -> Records:
        """The rows whose columns equal the given values."""
        mask = None
        for name, value in equal.items():
            same = pc.equal(self.column(name), value)
            mask = same if mask is None else pc.and_(mask, same)
        return self if mask is None else Records(self.table.filter(mask))

    def groups(self, *names: str) -> Mapping[tuple[Any, ...], Records]:
        """The rows by the values of some columns, in order of first occurrence."""
        lists = [self.column(name).to_pylist() for name in names]
        rows: dict[tuple[Any, ...], list[int]] = {}
        for i, values in enumerate(zip(*lists, strict=True)):
            rows.setdefault(values, []).append(i)
        return {values: Records(self.table.take(pa.array(at, pa.int64()))) for values, at in rows.items()}


def _file_safe(name: str) -> str:
    """`knn/k=20,t=0.07@1` -> `knn-k=20,t=0.07@1`: what every file system takes."""
    return re.sub(r"[^A-Za-z0-9.,=@_+-]", "-", name).lstrip(".") or "-"


def _folder_of(benchmark: str) -> str:
    return _file_safe(benchmark if re.search(r"@[^@]+$", benchmark) else f"{benchmark}@1")


def write_records(folder: str | Path, records: Sequence[Record]) -> list[Path]:
    """Write results/<benchmark>@<version>/<protocol>.parquet under `folder`, one file per benchmark and protocol.

    A file is complete or absent: it is written beside and renamed, and replaces an earlier one. A benchmark without '@version'
    is version 1. Returns the files.
    """
    table = records if isinstance(records, Records) else Records(records)
    written: dict[Path, tuple[str, str]] = {}
    groups = table.groups("benchmark", "protocol")
    for names in groups:
        path = Path(folder) / "results" / _folder_of(names[0]) / f"{_file_safe(names[1])}.parquet"
        if path in written:
            raise DataError(f"{written[path]} and {names} would share the file {path}: rename one of them")
        written[path] = names
    for path, names in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            pq.write_table(groups[names].table, beside, compression="zstd")
            os.replace(beside, path)
        finally:
            Path(beside).unlink(missing_ok=True)
    return list(written)


def read_records(path: str | Path) -> Records:
    """The rows of one Parquet file, or of all of them under a folder (in order of their names)."""
    path = Path(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    files = [file for file in files if not file.name.startswith(".") and (file == path or "results" in file.parts)]
    if not path.exists() or not files:
        raise DataError(
            f"no results at {path}: expected a Parquet file, or a run folder with results/<benchmark>/<protocol>.parquet"
        )
    parts = []
    for file in files:
        try:
            parts.append(Records(pq.read_table(file)))
        except (pa.ArrowInvalid, DataError) as error:
            raise DataError(f"{file} is no table of results ({error}): remove it and evaluate again") from error
    return Records.joined(parts)
