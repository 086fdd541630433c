"""Pictures in Parquet as Hugging Face writes them: encoded bytes in a column, labels beside, class names in the schema.

The image column is a struct {bytes, path} or plain binary; the label column whole numbers. Splits come from the file names
(train-00000-of-00004.parquet, validation.parquet) or else from the folder's name (train/0000.parquet); files that say neither
are the one split 'train'. Reading is by row group: a row costs its whole group unless the group is in the small cache, so
writers should keep groups small (Hugging Face: 100 rows).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import SPLITS, checked_labels, checked_path, choose, listed
from tacit.data.encoded import EncodedSource
from tacit.data.parquet_rows import Rows, open_parquet, refuse_damaged
from tacit.data.samples import Layout

__all__ = ["ParquetSource", "class_names", "column_of", "recognise"]

_SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?", re.ASCII)
_LABELS = ("label", "labels", "fine_label", "target", "y")


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".parquet" else []
    found: list[Path] = []
    for entry in listed(root):
        if entry.is_dir():
            found.extend(_files(root / entry.name))
        elif entry.name.endswith(".parquet"):
            found.append(root / entry.name)
    return found


def _split_of(file: Path, root: Path) -> str:
    shard = _SHARD.fullmatch(file.stem)
    if shard:
        return shard["split"]
    inside = file.relative_to(root).parts[-2::-1] if file != root else ()
    for word in (re.split(r"[-_.]\d", file.stem)[0], *inside):
        if word.lower() in SPLITS:
            return word.lower()
    return "train"


def _splits(root: Path) -> dict[str, list[Path]]:
    """The files by split, in order; shards that are missing and several configurations in one folder are refused."""
    splits: dict[str, list[Path]] = defaultdict(list)
    order = {split: place for place, split in enumerate(SPLITS)}
    configurations: set[str] = set()
    for file in _files(root):
        splits[_split_of(file, root)].append(file)
        inside = file.relative_to(root).parts[:-1] if file != root else ()
        configurations.add("/".join(part for part in inside if part.lower() not in (*SPLITS, "data")))
    if len(configurations) > 1:
        raise DataError(
            f"{root}: holds several data sets, in {', '.join(sorted(name or '.' for name in configurations))}: "
            "give the path of one of them"
        )
    for split, files in splits.items():
        shards = [match for match in (_SHARD.fullmatch(file.stem) for file in files) if match]
        if shards and root.is_dir():
            there = {int(shard["number"]) for shard in shards}
            missing = sorted(set(range(int(shards[0]["count"]))) - there)
            if missing:
                raise DataError(
                    f"{root}: split {split!r} is in {int(shards[0]['count'])} files and {len(missing)} of them are missing, "
                    f"the first is number {missing[0]:05}: fetch the files again"
                )
    return {split: splits[split] for split in sorted(splits, key=lambda name: (order.get(name, len(order)), name))}


def recognise(path: Path) -> Layout | None:
    """A .parquet file, or a folder with .parquet files at any depth; the first of them has a column that can hold pictures."""
    files = _files(path)
    if not files or not _may_hold_pictures(files[0]):
        return None
    splits = _splits(path)
    count = len(files)
    return Layout("parquet", str(path), tuple(splits), f"{count} .parquet file{'s' if count > 1 else ''}")


def _may_hold_pictures(file: Path) -> bool:
    try:
        return any(_is_picture(field.type) for field in open_parquet(file).schema_arrow)
    except DataError:
        return True  # damaged: the source says so


def _is_picture(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_picture(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def column_of(schema: pa.Schema, wanted: str | None, role: str, file: Path) -> str | None:
    """The name of the image or label column: the wanted one, or the one that can be it."""
    fits = _is_picture if role == "image" else pa.types.is_integer
    fitting = [field.name for field in schema if fits(field.type)]
    if wanted is not None:
        if wanted in fitting:
            return wanted
        what = "encoded pictures" if role == "image" else "whole numbers"
        raise DataError(
            f"{file}: no column {wanted!r} with {what}; such columns: {', '.join(fitting) or '(none)'}: change the setting {role}"
        )
    if role == "label":
        return next((name for name in _LABELS if name in fitting), None)
    if len(fitting) == 1 or "image" in fitting:
        return "image" if "image" in fitting else fitting[0]
    found = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if not fitting:
        raise DataError(f"{file}: no column with encoded pictures (binary, or a struct with bytes); found {found}")
    raise DataError(f"{file}: several columns can be the picture, {', '.join(fitting)}: set image to one of them")


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """The names in the Hugging Face note of the schema, () without one."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        return tuple(map(str, feature.get("names", ())))
    except (KeyError, ValueError, TypeError, AttributeError):
        return ()  # a table of another writer


def _labels(files: Sequence[Path], column: str, names: tuple[str, ...]) -> NDArray[np.int64] | None:
    """The label column of all files; None where every label is -1, which stands for a withheld one."""
    parts = []
    for file in files:
        try:
            values = open_parquet(file).read(columns=[column], use_threads=False).column(0)
        except (pa.ArrowException, OSError) as error:
            why = " ".join(str(error).split())
            raise DataError(f"{file}: the column {column!r} is damaged ({why}): fetch or write it again") from error
        if values.null_count:
            raise DataError(
                f"{file}: {values.null_count} of {len(values)} labels are missing in column {column!r}: fill them in"
            )
        parts.append(values.to_numpy().astype(np.int64))
    labels = np.concatenate(parts)
    if labels.size and (labels == -1).all():
        return None
    return checked_labels(labels, len(labels), len(names) or None, f"{files[0].parent} column {column!r}")


@part("source", "parquet")
class ParquetSource(EncodedSource):
    """Hugging Face Parquet: a file or a folder of shards (train-00000-of-00004.parquet), encoded pictures, labels beside.

    image, label: the columns, where they are not the only ones that fit. channels, memory, unreadable: as for 'folder'.
    kept: row groups that stay in memory in each process.
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
        kept: Annotated[int, Gt(0)] = 8,
    ) -> None:
        root = checked_path(path)
        splits = _splits(root)
        if not splits:
            raise DataError(f"{root}: no .parquet file at this path or below it")
        files = splits[choose(split, splits, str(root))]
        refuse_damaged(files)
        schema = open_parquet(files[0]).schema_arrow
        column = column_of(schema, image, "image", files[0]) or ""
        target = column_of(schema, label, "label", files[0])
        names = class_names(schema, target) if target else ()
        labels = _labels(files, target, names) if target else None
        if labels is not None and labels.size and not names:
            tops = [_labels(others, target, ()) for others in splits.values()] if target else []
            names = tuple(map(str, range(max(int(own.max()) for own in tops if own is not None and own.size) + 1)))
        super().__init__(
            Rows(files, column, root, kept),
            labels,
            root=root,
            split=split,
            classes=names if labels is not None else (),
            train=Rows(splits["train"], column, root, kept) if split != "train" and "train" in splits else None,
            channels=channels,
            mean=mean,
            std=std,
            unreadable=unreadable,
            memory=memory,
        )
