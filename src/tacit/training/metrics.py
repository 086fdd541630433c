"""The numbers of a run as rows (step, name, value) in one Parquet file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tacit.core.errors import CheckpointError
from tacit.training.disk import replace

__all__ = ["FILE", "Metrics", "read_metrics"]

FILE = "metrics.parquet"
_SCHEMA = pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())])


def read_metrics(folder: str | Path) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The steps [k] and values [k] of every metric of a run folder, by name, in the order they were written."""
    table = _read(Path(folder) / FILE)
    steps, names = table["step"].to_numpy(), np.asarray(table["name"].to_pylist(), dtype=object)
    values = table["value"].to_numpy()
    return {name: (steps[names == name], values[names == name]) for name in dict.fromkeys(names)}


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, memory_map=False)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} holds no {FILE}: is it a run folder that has logged anything?") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}). It holds the numbers of the run alone, no weights: delete it to go on without "
            "the earlier numbers"
        ) from error
    if table.schema != _SCHEMA:
        raise CheckpointError(
            f"{path} should have the columns step, name, value; it has {', '.join(table.column_names)}"
        )
    return table


class Metrics:
    """Collects rows and rewrites the file whole, so that it is never half written.

    Opening keeps the rows up to `step` and forgets those beyond it: they belong to steps that will be taken again.
    `patience`: seconds for which rows may stay in memory when no checkpoint asks for them.
    """

    def __init__(self, folder: Path, step: int = 0, *, patience: float = 5.0) -> None:
        self.path, self.patience = folder / FILE, patience
        earlier = _read(self.path) if self.path.exists() else _SCHEMA.empty_table()
        kept = int(np.count_nonzero(earlier["step"].to_numpy() <= step))  # rows are in the order of their steps
        self._written = earlier.slice(0, kept)
        self._rows: list[tuple[int, str, float]] = []
        self._changed = self._written.num_rows != earlier.num_rows
        self._last = time.monotonic()

    def __len__(self) -> int:
        return self._written.num_rows + len(self._rows)

    def add(self, step: int, name: str, value: float) -> None:
        """One row."""
        self._rows.append((step, name, float(value)))

    def write(self, *, now: bool = True) -> None:
        """Put all rows on the disk; with now=False only if the last time is longer ago than `patience`."""
        if not (self._rows or self._changed) or not (now or time.monotonic() - self._last > self.patience):
            return
        columns = list(zip(*self._rows, strict=True)) or [(), (), ()]
        fresh = pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)
        table = pa.concat_tables([self._written, fresh]).combine_chunks()
        replace(self.path, lambda beside: pq.write_table(table, beside))
        self._written, self._rows, self._changed = table, [], False
        self._last = time.monotonic()
