"""Pictures inside larger files, read in place: tar shards, ImageNet's archives, Hugging Face Arrow, FFCV's beton."""

from __future__ import annotations

import io
import json
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy.io import savemat

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.laws import check_source
from tacit.data.arrow import ArrowSource
from tacit.data.beton import BetonSource
from tacit.data.layouts import recognise
from tacit.data.tars import TarSource
from tacit.data.verification import verify


def values(seed: int, size: tuple[int, int] = (6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def png(seed: int, size: tuple[int, int] = (6, 5)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values(seed, size)).save(file, "PNG")
    return file.getvalue()


def pack(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def is_picture(tensor, seed: int) -> bool:
    return np.array_equal(tensor.numpy(), values(seed).transpose(2, 0, 1))


@pytest.fixture
def shards(tmp_path):
    for shard in range(2):
        members = {}
        for i in range(3):
            seed = 3 * shard + i
            members[f"sample{seed:04}.png"] = png(seed)
            members[f"sample{seed:04}.cls"] = str(seed % 4).encode()
            members[f"sample{seed:04}.txt"] = b"a caption"
        (tmp_path / f"set-train-{shard:06}.tar").write_bytes(pack(members))
    members = {"val/a.b.png": png(20), "val/a.json": b'{"label": 3, "text": "x"}'}
    (tmp_path / "set-val-000000.tar").write_bytes(pack(members))
    return tmp_path


def test_webdataset_shards_are_one_set_by_index(shards):
    assert (recognise(shards).kind, recognise(shards).splits) == ("tar", ("train", "val"))
    source = TarSource(path=str(shards))
    check_source(source)
    batch = source.read([5, 0])
    assert is_picture(batch.views["image"].data[0], 5) and is_picture(batch.views["image"].data[1], 0)
    assert batch.facts["label"].tolist() == [1, 0]
    assert source.items.name(5).endswith("set-train-000001.tar sample0005.png")
    again = pickle.loads(pickle.dumps(source))
    assert is_picture(again.read([3]).views["image"].data[0], 3)


def test_labels_may_stand_in_json_and_extensions_may_have_dots(shards):
    source = TarSource(path=str(shards), split="val")
    assert source.labels.tolist() == [3] and is_picture(source.read([0]).views["image"].data[0], 20)


def test_a_sample_without_a_label_among_others_is_counted(shards):
    (shards / "set-train-000001.tar").write_bytes(pack({"x.png": png(9)}))
    with pytest.raises(
        DataError, match=r"1 of 4 samples have no label \(\.cls or \.json\): give all of them one, or none"
    ):
        TarSource(path=str(shards))


def test_a_label_that_is_no_number_is_quoted(shards):
    (shards / "set-train-000001.tar").write_bytes(pack({"x.png": png(9), "x.cls": b"owl"}))
    with pytest.raises(DataError, match=re.escape("set-train-000001.tar x.cls: b'owl' is no number and no JSON")):
        TarSource(path=str(shards))


def test_a_shard_cut_short_is_named(shards):
    file = shards / "set-train-000001.tar"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(DataError, match=re.escape(f"{file}: is no whole uncompressed tar archive")):
        TarSource(path=str(shards))
    assert not verify(shards).ok


def test_a_compressed_archive_says_what_to_do(tmp_path):
    (tmp_path / "train.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"compressed ones cannot be read by index: unpack them to \.tar"):
        TarSource(path=str(tmp_path))


def test_loose_pictures_are_preferred_to_archives_beside_them(shards):
    (shards / "a.png").write_bytes(png(1))
    assert recognise(shards).kind == "folder"


@pytest.fixture
def imagenet_archives(tmp_path):
    inner = {
        f"{wnid}.tar": pack({f"{wnid}_{i}.JPEG": png(10 * w + i) for i in range(2)})
        for w, wnid in enumerate(("n01440764", "n02119789"))
    }
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(pack(inner))
    val = {f"ILSVRC2012_val_{i:08}.JPEG": png(30 + i) for i in (2, 1, 3)}
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(pack(val))
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n1\n")
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    rows = [(1, "n02119789", 0), (2, "n01440764", 0), (3, "n00001740", 2)]
    savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kinds)[:, None]})
    return tmp_path


def test_imagenet_trains_from_its_archive_of_archives(imagenet_archives):
    source = TarSource(path=str(imagenet_archives))
    check_source(source)
    assert source.classes == ("n01440764", "n02119789") and source.labels.tolist() == [0, 0, 1, 1]
    assert is_picture(source.read([3]).views["image"].data[0], 11)


@pytest.mark.parametrize("packed", [False, True])
def test_imagenet_val_takes_its_labels_from_the_devkit(imagenet_archives, packed):
    devkit = imagenet_archives / "ILSVRC2012_devkit_t12"
    if packed:
        with tarfile.open(imagenet_archives / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
            archive.add(devkit, arcname=devkit.name)
        devkit.rename(imagenet_archives / "away")
    source = TarSource(path=str(imagenet_archives), split="val")
    assert source.labels.tolist() == [1, 0, 1] and source.classes == ("n01440764", "n02119789")
    assert is_picture(source.read([0]).views["image"].data[0], 31)  # by name, whatever the order in the archive


def save_to_disk(folder: Path, seeds: range, split: str, labels: list[int] | None = None) -> None:
    """What `datasets.Dataset.save_to_disk` writes, in two files."""
    folder.mkdir(parents=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features: dict[str, object] = {"image": {"_type": "Image"}}
    if labels is not None:
        features["label"] = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    note = {"huggingface": json.dumps({"info": {"features": features}})}
    names = []
    for number, part in enumerate((list(seeds)[:2], list(seeds)[2:])):
        columns = {"image": pa.array([{"bytes": png(seed), "path": None} for seed in part], kind)}
        if labels is not None:
            columns["label"] = pa.array([labels[seed - seeds.start] for seed in part], pa.int64())
        table = pa.table(columns).replace_schema_metadata(note)
        names.append(f"data-{number:05}-of-00002.arrow")
        with pa.OSFile(str(folder / names[-1]), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": split, "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


@pytest.fixture
def saved(tmp_path):
    save_to_disk(tmp_path / "train", range(5), "train", [0, 1, 1, 0, 1])
    save_to_disk(tmp_path / "test", range(10, 13), "test", [1, 0, 0])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return tmp_path


def test_a_saved_hugging_face_set_is_read(saved):
    assert (recognise(saved).kind, recognise(saved).splits) == ("hf-disk", ("train", "test"))
    source = ArrowSource(path=str(saved), split="test")
    check_source(source)
    assert source.classes == ("cat", "dog") and source.labels.tolist() == [1, 0, 0]
    assert is_picture(source.read([2]).views["image"].data[0], 12)
    assert is_picture(pickle.loads(pickle.dumps(source)).read([0]).views["image"].data[0], 10)
    assert recognise(saved / "train").splits == ("train",)


def test_a_split_that_was_not_saved_is_refused(saved):
    with pytest.raises(UnknownNameError, match="validation"):
        ArrowSource(path=str(saved), split="validation")


def test_a_missing_arrow_file_is_named(saved):
    (saved / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"1 of 2 files are missing, the first is data-00001-of-00002\.arrow"):
        ArrowSource(path=str(saved))


def test_an_arrow_file_cut_short_is_named(saved):
    file = saved / "train" / "data-00000-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:150])
    with pytest.raises(DataError, match=re.escape(f"{file}: damaged or cut short, no whole Arrow stream")):
        ArrowSource(path=str(saved))


def write_beton(file: Path, seeds: range, raw: set[int]) -> None:
    """Version 2: pictures (compressed, or raw pixels for the seeds in `raw`) and an integer label."""
    pages = b""
    start = 1 << 12
    records, table = b"", b""
    for i, seed in enumerate(seeds):
        content = values(seed).tobytes() if seed in raw else png(seed)
        place = start + len(pages)
        records += (
            np.array([(seed in raw, 5, 6, place)], dtype="u1,<u2,<u2,<u8").tobytes()
            + b"\0\0\0"
            + np.int64(seed % 3).tobytes()
        )
        table += np.array([i, place, len(content)], dtype="<u8").tobytes()
        pages += content
    fields = b"".join(
        bytes([kind]) + name.ljust(16, b"\0") + bytes(1024) for kind, name in ((2, b"image"), (1, b"label"))
    )
    header = np.array([(2, 2, 1 << 12, len(seeds), start + len(pages))], dtype="<u2,<u2,<u4,<u8,<u8").tobytes()
    file.write_bytes((header + fields + records).ljust(start, b"\0") + pages + table)


def test_beton_files_give_compressed_and_raw_pictures(tmp_path):
    write_beton(tmp_path / "train.beton", range(4), raw={1, 3})
    write_beton(tmp_path / "val.beton", range(7, 9), raw=set())
    assert (recognise(tmp_path).kind, recognise(tmp_path).splits) == ("beton", ("train", "val"))
    source = BetonSource(path=str(tmp_path))
    check_source(source)
    assert source.labels.tolist() == [0, 1, 2, 0]
    assert all(is_picture(picture, seed) for seed, picture in enumerate(source.read(range(4)).views["image"].data))


def test_a_beton_file_cut_short_is_named(tmp_path):
    write_beton(tmp_path / "train.beton", range(4), raw=set())
    file = tmp_path / "train.beton"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(DataError, match=re.escape(f"{file}: is no whole .beton file of version 2")):
        BetonSource(path=str(tmp_path))
