"""Parquet as Hugging Face writes it: shards, row groups, class names in the schema, damaged and missing files."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.laws import check_source
from tacit.data.parquet import ParquetSource, recognise
from tacit.data.verification import verify

CLASSES = ["cat", "dog", "owl"]


def picture(seed: int, size: tuple[int, int] = (6, 5)) -> tuple[bytes, np.ndarray]:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue(), values


def write_shard(
    path: Path,
    seeds: range,
    *,
    labels: list[int] | None = None,
    named: bool = True,
    column: str = "image",
    target: str = "label",
    group: int = 2,
    binary: bool = False,
    size=lambda seed: (6, 5),
) -> None:
    """One file as `datasets` writes it: image struct<bytes, path>, label int64, the features as JSON in the schema."""
    encoded = [picture(seed, size(seed))[0] for seed in seeds]
    kind = pa.binary() if binary else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = (
        encoded if binary else [{"bytes": raw, "path": f"{seed}.png"} for raw, seed in zip(encoded, seeds, strict=True)]
    )
    columns = {column: pa.array(cells, kind)}
    features: dict[str, object] = {column: {"_type": "Image"}}
    if labels is not None:
        columns[target] = pa.array(labels, pa.int64())
        features[target] = {"names": CLASSES, "_type": "ClassLabel"}
    table = pa.table(columns)
    if named:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)


@pytest.fixture
def shards(tmp_path):
    """data/{train (2 shards of 5 and 4 rows), test (1 shard of 3)}"""
    write_shard(tmp_path / "data" / "train-00000-of-00002.parquet", range(5), labels=[0, 1, 2, 0, 1])
    write_shard(tmp_path / "data" / "train-00001-of-00002-a09b74b3ef9c3b56.parquet", range(5, 9), labels=[2, 2, 1, 0])
    write_shard(tmp_path / "data" / "test-00000-of-00001.parquet", range(20, 23), labels=[0, 1, 2])
    return tmp_path


def read_all(**settings) -> None:
    source = ParquetSource(**settings)
    source.read(range(len(source)))


def refused(kind=DataError, **settings) -> str:
    with pytest.raises(kind) as caught:
        read_all(**settings)
    return str(caught.value)


@pytest.mark.parametrize("memory", [0, 1024])
def test_shards_rows_and_class_names(shards, memory):
    train, test = (ParquetSource(path=str(shards), split=split, memory=memory) for split in ("train", "test"))
    assert recognise(shards).splits == ("train", "test")
    assert (len(train), len(test)) == (9, 3) and train.facts.classes == tuple(CLASSES)
    batch = train.read([8, 0, 5, 4])
    expected = np.stack([picture(seed)[1] for seed in (8, 0, 5, 4)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(batch.views["image"].data.numpy(), expected)
    assert batch.facts["label"].tolist() == [0, 0, 2, 1] and batch.ids.tolist() == [8, 0, 5, 4]
    assert train.items.name(8) == f"{shards / 'data' / 'train-00001-of-00002-a09b74b3ef9c3b56.parquet'} row 3"
    assert train.facts.mean == test.facts.mean
    check_source(train)
    check_source(test)


def test_every_row_in_any_order_with_the_smallest_cache(shards):
    source = ParquetSource(path=str(shards), memory=0, kept=1)
    order = np.random.default_rng(0).permutation(9)
    data = source.read(order).views["image"].data
    for place, i in enumerate(order):
        np.testing.assert_array_equal(data[place].numpy(), picture(int(i))[1].transpose(2, 0, 1))


def test_a_batch_reads_each_row_group_once(shards, monkeypatch):
    source = ParquetSource(path=str(shards), memory=0, kept=1, mean=(0.5,) * 3, std=(1.0,) * 3)
    rows, read = source.items.store, []
    group = rows._group
    monkeypatch.setattr(rows, "_group", lambda place: read.append(place) or group(place))
    rows._cache.clear()
    source.read([8, 0, 5, 4, 1, 6])
    assert read == sorted(set(read))


def test_a_forked_process_opens_its_own_files(shards, monkeypatch):
    source = ParquetSource(path=str(shards), memory=0)
    before = source.read([0]).views["image"].data
    rows = source.items.store
    inherited = rows._readers
    monkeypatch.setattr("tacit.data.parquet_rows.os.getpid", lambda: -1)
    assert source.read([0]).views["image"].data.equal(before) and rows._readers is not inherited


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (("train.parquet", "validation.parquet"), ("train", "validation")),
        (("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"), ("train", "test")),
        (("pictures.parquet",), ("train",)),
        (("unsupervised-00000-of-00001.parquet", "train-00000-of-00001.parquet"), ("train", "unsupervised")),
        (("train_1.parquet", "train_2.parquet"), ("train",)),
    ],
)
def test_splits_come_from_the_names(tmp_path, files, splits):
    for i, name in enumerate(files):
        write_shard(tmp_path / name, range(2 * i, 2 * i + 2))
    assert recognise(tmp_path).splits == splits
    assert sum(len(ParquetSource(path=str(tmp_path), split=split)) for split in splits) == 2 * len(files)


def test_a_single_file_binary_columns_and_no_labels(tmp_path):
    file = tmp_path / "x.parquet"
    write_shard(file, range(3), column="img", binary=True)
    source = ParquetSource(path=str(file))
    assert source.labels is None and source.facts.classes == () and source.facts.shape == (6, 5)
    check_source(source)


def test_labels_without_names_and_withheld_ones(tmp_path):
    write_shard(tmp_path / "train.parquet", range(3), labels=[0, 4, 1], named=False)
    write_shard(tmp_path / "test.parquet", range(3, 6), labels=[-1, -1, -1])
    assert ParquetSource(path=str(tmp_path)).facts.classes == ("0", "1", "2", "3", "4")
    assert ParquetSource(path=str(tmp_path), split="test").labels is None


def test_ragged_pictures_come_as_a_list(tmp_path):
    write_shard(tmp_path / "train.parquet", range(4), labels=[0, 0, 1, 2], size=lambda seed: (6 + seed, 5))
    source = ParquetSource(path=str(tmp_path))
    assert source.facts.shape is None and [tuple(x.shape) for x in source.read([3, 0]).views["image"].data] == [
        (3, 9, 5),
        (3, 6, 5),
    ]
    check_source(source)


def test_missing_shards_and_several_sets(shards):
    (shards / "data" / "train-00000-of-00002.parquet").unlink()
    assert refused(path=str(shards)) == (
        f"{shards}: split 'train' is in 2 files and 1 of them are missing, the first is number 00000: fetch the files again"
    )
    write_shard(shards / "other" / "train-00000-of-00001.parquet", range(2))
    assert refused(path=str(shards)) == f"{shards}: holds several data sets, in ., other: give the path of one of them"


def test_damaged_files_are_named_all_at_once(shards):
    first, second = sorted((shards / "data").glob("train*"))
    size = first.stat().st_size // 2
    first.write_bytes(first.read_bytes()[:size])
    second.write_bytes(b"")
    assert refused(path=str(shards)) == (
        f"{first}: damaged or cut short, its {size} bytes are no whole Parquet file: fetch or write it again\n"
        f"{second}: it is empty (0 bytes): fetch or write it again"
    )


def test_a_damaged_row_group_and_a_damaged_label_column(tmp_path):
    file = tmp_path / "train.parquet"
    write_shard(file, range(6), labels=[0, 1, 2, 0, 1, 2])
    group = pq.ParquetFile(file).metadata.row_group(1)

    def spoil(column: int) -> None:
        raw = bytearray(file.read_bytes())
        chunk = group.column(column)
        start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
        raw[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
        file.write_bytes(raw)

    spoil(0)
    source = ParquetSource(path=str(file), memory=0, unreadable="skip")
    assert source.read(range(6)).ids.tolist() == [0, 1, 4, 4, 4, 5]
    assert verify(file).counts() == {"unreadable": 2}
    with pytest.raises(DataError, match=rf"^{file} row 2 cannot be read: its row group is damaged \(.*\)\. List all"):
        ParquetSource(path=str(file), memory=0).read([2])
    spoil(2)
    assert re.fullmatch(
        rf"{file}: the column 'label' is damaged \(.*\): fetch or write it again", refused(path=str(file)), re.DOTALL
    )


def test_a_cell_that_is_no_picture(tmp_path):
    file = tmp_path / "train.parquet"
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [
        {"bytes": picture(0)[0], "path": None},
        {"bytes": None, "path": "a.png"},
        {"bytes": b"", "path": None},
        None,
    ]
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), file)
    source = ParquetSource(path=str(file), memory=0)
    reasons = []
    for i in range(1, 4):
        with pytest.raises(DataError) as caught:
            source.read([i])
        reasons.append(
            str(caught.value).removesuffix(
                f". List all such samples with 'tacit data verify {file}', or let neighbours stand in for them: unreadable: skip"
            )
        )
    assert reasons == [
        f"{file} row 1 cannot be read: the cell holds no bytes, only the path 'a.png': write the table with the pictures in it",
        f"{file} row 2 cannot be read: it is empty (0 bytes)",
        f"{file} row 3 cannot be read: the cell holds no bytes: write the table with the pictures in it",
    ]
    assert ParquetSource(path=str(file), unreadable="skip").read([1, 2, 3]).ids.tolist() == [0, 0, 0]


def test_columns_that_do_not_fit(tmp_path):
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), file)
    assert refused(path=str(file)) == (
        f"{file}: no column with encoded pictures (binary, or a struct with bytes); found text (string), n (int64)"
    )
    raw = picture(0)[0]
    pq.write_table(pa.table({"left": [raw], "right": [raw], "kind": [1], "side": [0]}), file)
    assert (
        refused(path=str(file)) == f"{file}: several columns can be the picture, left, right: set image to one of them"
    )
    source = ParquetSource(path=str(file), image="left", label="side")
    assert source.labels.tolist() == [0]
    assert refused(path=str(file), image="left", label="sort") == (
        f"{file}: no column 'sort' with whole numbers; such columns: kind, side: change the setting label"
    )
    assert refused(path=str(file), image="up") == (
        f"{file}: no column 'up' with encoded pictures; such columns: left, right: change the setting image"
    )


def test_labels_that_do_not_fit(tmp_path):
    file = tmp_path / "train.parquet"
    write_shard(file, range(3), labels=[0, 3, 1])
    assert refused(path=str(file)) == (
        f"{tmp_path} column 'label': 1 labels are out of range, the first is 3 of sample 1; labels run from 0 to 2"
    )
    pq.write_table(pa.table({"image": [picture(0)[0]] * 2, "label": [None, 1]}), file)
    assert refused(path=str(file)) == f"{file}: 1 of 2 labels are missing in column 'label': fill them in"


def test_refusals_of_the_path_and_split(shards, monkeypatch):
    empty = shards / "empty"
    empty.mkdir()
    assert refused(path=str(empty)) == f"{empty}: no .parquet file at this path or below it"
    assert refused(UnknownNameError, path=str(shards), split="validation") == (
        f"no split named 'validation'. Known: test, train. These are the splits of {shards}."
    )

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tacit.data.parquet_rows.pq.ParquetFile", deny)
    assert refused(path=str(shards), split="test") == (
        f"{shards / 'data' / 'test-00000-of-00001.parquet'}: permission denied: make it readable for this user"
    )


def test_the_digest_follows_content_and_column(tmp_path):
    file = tmp_path / "train.parquet"
    write_shard(file, range(3), labels=[0, 1, 2])
    seen = [ParquetSource(path=str(file)).digest()]
    write_shard(file, range(1, 4), labels=[0, 1, 2])
    seen.append(ParquetSource(path=str(file)).digest())
    write_shard(file, range(1, 4), labels=[0, 1, 1])
    seen.append(ParquetSource(path=str(file)).digest())
    assert len(set(seen)) == 3 and os.path.exists(file)
