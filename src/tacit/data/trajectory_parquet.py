"""One's own trajectories as Parquet: a row a step. `episode` (number or name), `step`, `image` (encoded) or `state`, `action`.

Files: train.parquet, valid.parquet, test.parquet in one folder, or any number of .parquet in train/, valid/, test/. Other columns of
numbers, or of lists of numbers of one length, become facts. Row i's action leads to row i + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Ge
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import checked_path
from tacit.data.episodes import SPLITS, Array, EpisodeSource, between
from tacit.data.images import decode
from tacit.data.parquet_rows import open_parquet
from tacit.data.samples import Layout

__all__ = ["TrajectoryParquet", "recognise"]

_NEEDED = ("episode", "step", "action")


def _files(root: Path) -> dict[str, list[Path]]:
    found = {}
    for split in SPLITS:
        one, folder = root / f"{split}.parquet", root / split
        files = [one] if one.is_file() else sorted(folder.glob("*.parquet")) if folder.is_dir() else []
        if files:
            found[split] = files
    return found


def recognise(path: Path) -> Layout | None:
    """Parquet files of splits whose columns are episode, step and action."""
    files = _files(path) if path.is_dir() else {}
    if "train" not in files:
        return None
    try:
        names = set(open_parquet(files["train"][0]).schema_arrow.names)
    except DataError:
        return None
    return (
        Layout("trajectory-parquet", str(path), tuple(files), "Parquet with a row a step")
        if set(_NEEDED) <= names
        else None
    )


class _Rows:
    rate: float | None = None

    def __init__(self, path: Path) -> None:
        self.root = checked_path(path)
        files = _files(self.root)
        if "train" not in files:
            raise DataError(
                f"{self.root} holds neither train.parquet nor train/*.parquet: a row a step, with episode, step, action"
            )
        self.files = [file for some in files.values() for file in some]
        self.names: list[str] = []
        lengths, splits, self._tables = list[int](), dict[str, NDArray[np.int64]](), list[pa.Table]()
        for split, some in files.items():
            begin = len(lengths)
            for file in some:
                for name, table in _episodes(file):
                    self.names.append(f"{file.name} episode {name}")
                    self._tables.append(table)
                    lengths.append(len(table))
            splits[split] = np.arange(begin, len(lengths))
        self.lengths = np.array(lengths, dtype=np.int64)
        self.splits: Mapping[str, NDArray[np.int64]] | None = splits if len(splits) > 1 else None
        first = self._tables[0]
        self._pictures = "image" in first.column_names
        if not self._pictures and "state" not in first.column_names:
            raise DataError(f"{self.files[0]}: has neither image nor state: {', '.join(first.column_names)}")
        numeric = [
            n
            for n in first.column_names
            if n not in (*_NEEDED, "image", "state") and _is_numeric(first.schema.field(n).type)
        ]
        self._extra = [*numeric, *(["state"] if self._pictures and "state" in first.column_names else [])]
        self._actions = [_matrix(t["action"], name) for t, name in zip(self._tables, self.names, strict=True)]

    def observe(self, episode: int, rows: NDArray[np.int64]) -> dict[str, Array]:
        """See `Episodes`."""
        table = self._tables[episode].take(pa.array(rows))
        facts = {n: _matrix(table[n], self.names[episode]) for n in self._extra}
        if not self._pictures:
            return {"states": _matrix(table["state"], self.names[episode]), **facts}
        frames = []
        for row, cell in zip(rows, table["image"].to_pylist(), strict=True):
            raw = cell.get("bytes") if isinstance(cell, dict) else cell
            if raw is None:
                raise DataError(
                    f"{self.names[episode]} row {row}: the cell holds no bytes: write the table with the pictures in it"
                )
            try:
                frames.append(decode(BytesIO(raw)).permute(1, 2, 0).numpy())
            except DataError as error:
                raise DataError(f"{self.names[episode]} row {row}: {error}") from error
        return {"frames": np.stack(frames), **facts}

    def act(self, episode: int, rows: NDArray[np.int64]) -> Array:
        """See `Episodes`."""
        return between(self._actions[episode], rows)


def _episodes(file: Path) -> list[tuple[Any, pa.Table]]:
    """The episodes of a file in the order of their names, each in the order of its steps, whole."""
    names = open_parquet(file).schema_arrow.names
    missing = [n for n in _NEEDED if n not in names]
    if missing:
        raise DataError(f"{file} has the columns {', '.join(names)}: {', '.join(missing)} must be among them")
    table = pq.read_table(file).sort_by([("episode", "ascending"), ("step", "ascending")])
    labels, steps = table["episode"].to_pylist(), table["step"].to_numpy()
    edges = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
    found = []
    for a, b in pairwise(edges):
        if (np.diff(steps[a:b]) != 1).any():
            raise DataError(f"{file}: the steps of episode {labels[a]} have a gap or a double: they must rise by 1")
        found.append((labels[a], table.slice(a, b - a)))
    return found


def _is_numeric(kind: Any) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) else kind
    return bool(pa.types.is_floating(inner) or pa.types.is_integer(inner))


def _matrix(column: Any, where: str) -> NDArray[np.float32]:
    values = column.to_pylist()
    wide = {len(v) if isinstance(v, list) else 1 for v in values}
    if len(wide) != 1 or None in values:
        raise DataError(
            f"{where}: a column of numbers has rows of {sorted(wide)} numbers or none: all rows need the same"
        )
    return np.array(values, dtype=np.float32).reshape(len(values), -1)


@part("source", "trajectory-parquet")
class TrajectoryParquet(EpisodeSource):
    """One's own trajectories as Parquet: a row a step, with episode, step, action and image (encoded) or state; other numbers are facts.

    train.parquet, valid.parquet and test.parquet in a folder, or folders of files by these names. See `EpisodeSource`.
    """

    def __init__(
        self,
        *,
        path: str,
        frames: Annotated[int, Ge(2)] = 17,
        stride: Annotated[int, Ge(0)] = 0,
        every: Annotated[int, Ge(1)] = 1,
        side: Annotated[int, Ge(0)] = 0,
        short: Literal["stop", "skip"] = "stop",
        split: str = "train",
    ) -> None:
        super().__init__(
            _Rows(Path(path)), frames=frames, stride=stride, every=every, side=side, split=split, held=0.1, short=short
        )
