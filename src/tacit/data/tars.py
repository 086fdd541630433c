"""Pictures in tar archives, read in place by index: webdataset shards, and ImageNet's official archives.

webdataset: members `<key>.<extension>` in a row; of each key one picture, and its class in `<key>.cls` (a number) or in
`<key>.json` under "label", "cls" or "class". Splits come from the file names (train-000000.tar, imagenet-val-0003.tar) or from
the folder's; shards that say neither are the split 'train'. Braces and pipes are not understood: give the folder.
ImageNet: ILSVRC2012_img_train.tar holds one archive a class (n01440764.tar); ILSVRC2012_img_val.tar is flat, and its labels are
in ILSVRC2012_devkit_t12.tar.gz (extracted or not) beside it.
Opening reads the headers once; the pictures are then read where they lie. Compressed archives cannot be read by index.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import SPLITS, checked_labels, checked_path, choose, listed, permitted
from tacit.data.encoded import EncodedSource
from tacit.data.images import EXTENSIONS
from tacit.data.ranges import Ranges
from tacit.data.samples import Layout

__all__ = ["TarSource", "label_of", "ranges_of", "recognise", "samples", "splits_of"]

_TRAIN, _VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_DEVKIT = "ILSVRC2012_devkit_t12"
_LABELS = ("label", "cls", "class")


@dataclass(frozen=True)
class _Member:
    """A file in an archive: its name there and where its bytes are."""

    name: str
    start: int
    size: int


def _members(file: Path, start: int = 0) -> Iterator[_Member]:
    """The regular files of an archive, or of one that lies inside `file` from byte `start` on; links and folders are left out."""
    try:
        with permitted(file), open(file, "rb") as raw:
            raw.seek(start)
            with tarfile.open(fileobj=raw, mode="r:") as archive:  # its offsets count from the beginning of `file`
                for info in archive:
                    if info.isreg() and not info.name.rpartition("/")[2].startswith("."):
                        yield _Member(info.name, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise DataError(
            f"{file}: is no whole uncompressed tar archive ({error}): fetch it again or unpack it"
        ) from error


def _archives(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix == ".tar" else []
    found: list[Path] = []
    for entry in listed(root):
        if entry.is_dir():
            found.extend(_archives(root / entry.name))
        elif entry.name.endswith(".tar"):
            found.append(root / entry.name)
    return found


def _split_of(file: Path, root: Path) -> str:
    inside = file.relative_to(root).parts[-2::-1] if file != root else ()
    for word in (*re.split(r"[-_.]", file.stem.lower()), *(name.lower() for name in inside)):
        if word in SPLITS:
            return word
    return "train"


def splits_of(root: Path) -> dict[str, list[Path]]:
    """The .tar archives at or below a path, by the split that their names say."""
    splits: dict[str, list[Path]] = defaultdict(list)
    for file in _archives(root):
        splits[_split_of(file, root)].append(file)
    return {split: splits[split] for split in SPLITS if split in splits}


def recognise(path: Path) -> Layout | None:
    """A .tar file, or a folder whose files at any depth are .tar archives."""
    splits = splits_of(path)
    if not splits:
        return None
    count = sum(map(len, splits.values()))
    official = any((path / name).is_file() for name in (_TRAIN, _VAL))
    why = "ImageNet's official archives" if official else f"{count} .tar archive{'s' if count > 1 else ''}"
    return Layout("tar", str(path), tuple(splits), why)


@part("source", "tar")
class TarSource(EncodedSource):
    """Pictures in tar archives, in place: webdataset shards (key.jpg, key.cls or key.json), or ImageNet's official archives.

    Samples are read by index, so the order is shuffled over the whole set and resumes like that of any other source.
    channels, memory, unreadable: as for 'folder'.
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        channels: Literal[1, 3, 4] | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        unreadable: Literal["stop", "skip"] = "stop",
        memory: Annotated[int, Ge(0)] = 1024,
    ) -> None:
        root = checked_path(path)
        splits = splits_of(root)
        if not splits:
            raise DataError(
                f"{root}: no .tar archive at this path or below it; compressed ones cannot be read by index: unpack them to .tar"
            )
        store, labels, classes = _read(splits[choose(split, splits, str(root))], root)
        train = _read(splits["train"], root)[0] if split != "train" and "train" in splits else None
        super().__init__(
            store,
            labels,
            root=root,
            split=split,
            classes=classes,
            train=train,
            channels=channels,
            mean=mean,
            std=std,
            unreadable=unreadable,
            memory=memory,
        )


def _read(files: Sequence[Path], root: Path) -> tuple[Ranges, NDArray[np.int64] | None, tuple[str, ...]]:
    if files[0].name == _TRAIN:
        return _imagenet_train(files[0], root)
    if files[0].name == _VAL:
        return _imagenet_val(files[0], root)
    return _webdataset(files, root)


def _webdataset(files: Sequence[Path], root: Path) -> tuple[Ranges, NDArray[np.int64] | None, tuple[str, ...]]:
    which: list[int] = []
    found: list[_Member] = []
    labels: list[int] = []
    for number, file in enumerate(files):
        for key, parts in samples(file):
            pictures = [member for extension, member in parts.items() if f".{extension}" in EXTENSIONS]
            if not pictures:
                continue
            which.append(number)
            found.append(pictures[0])
            label = label_of(file, key, parts)
            if label is not None:
                labels.append(label)
    if labels and len(labels) < len(found):
        raise DataError(
            f"{files[0].parent}: {len(found) - len(labels)} of {len(found)} samples have no label (.cls or .json): "
            "give all of them one, or none"
        )
    if not found:
        raise DataError(f"{files[0]}: holds no picture; looked for members {', '.join(sorted(EXTENSIONS))}")
    store = ranges_of(files, which, found, root)
    if not labels:
        return store, None, ()
    checked = checked_labels(np.array(labels), len(found), None, str(files[0].parent))
    return store, checked, tuple(map(str, range(int(checked.max()) + 1)))


def samples(file: Path) -> Iterator[tuple[str, dict[str, _Member]]]:
    """Members with one key, which ends at the first dot of the base name, stand in a row."""
    key, parts = "", dict[str, _Member]()
    for member in _members(file):
        folder, slash, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        own = folder + slash + stem
        if own != key and parts:
            yield key, parts
            parts = {}
        key, parts[extension.lower().rpartition(".")[2]] = own, member
    if parts:
        yield key, parts


def label_of(file: Path, key: str, parts: dict[str, _Member]) -> int | None:
    """The class of a sample from its .cls or .json, or None."""
    for extension in ("cls", "json"):
        if extension not in parts:
            continue
        member = parts[extension]
        with open(file, "rb") as raw:
            raw.seek(member.start)
            text = raw.read(member.size)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"{file} {key}.{extension}: {text[:40]!r} is no number and no JSON: mend or remove it"
            ) from error
        if isinstance(value, dict):
            value = next((value[name] for name in _LABELS if name in value), None)
        if isinstance(value, int):
            return value
        if extension == "cls":
            raise DataError(f"{file} {key}.cls: holds {text[:40]!r}; the number of a class is needed")
    return None


def ranges_of(files: Sequence[Path], which: Sequence[int], found: Sequence[_Member], root: Path) -> Ranges:
    """A store of these members."""
    starts = np.array([member.start for member in found], dtype=np.int64)
    sizes = np.array([member.size for member in found], dtype=np.int64)
    return Ranges(files, np.array(which, dtype=np.int64), starts, sizes, [member.name for member in found], root)


def _imagenet_train(file: Path, root: Path) -> tuple[Ranges, NDArray[np.int64], tuple[str, ...]]:
    inner = sorted(_members(file), key=lambda member: member.name)
    strange = [member.name for member in inner if not re.fullmatch(r"n\d{8}\.tar", member.name)]
    if strange:
        raise DataError(f"{file}: holds {strange[0]} where one archive a class is expected (n01440764.tar)")
    found: list[_Member] = []
    labels: list[int] = []
    for label, archive in enumerate(inner):
        own = list(_members(file, archive.start))
        found.extend(own)
        labels.extend([label] * len(own))
    classes = tuple(member.name.removesuffix(".tar") for member in inner)
    return ranges_of([file], [0] * len(found), found, root), np.array(labels, dtype=np.int64), classes


def _imagenet_val(file: Path, root: Path) -> tuple[Ranges, NDArray[np.int64] | None, tuple[str, ...]]:
    found = sorted(_members(file), key=lambda member: member.name)
    store = ranges_of([file], [0] * len(found), found, root)
    devkit = _devkit(file.parent)
    if devkit is None:
        return store, None, ()
    truth, meta = devkit
    wnids = _wnids(meta)
    classes = tuple(sorted(wnids.values()))
    place = {wnid: i for i, wnid in enumerate(classes)}
    numbers = [int(line) for line in truth.split()]
    unknown = sorted(set(numbers) - set(wnids))
    if unknown:
        raise DataError(
            f"{file.parent}/{_DEVKIT}: its ground truth names the class {unknown[0]}, which its meta.mat lacks"
        )
    labels = np.array([place[wnids[number]] for number in numbers], dtype=np.int64)
    return store, checked_labels(labels, len(found), len(classes), str(file)), classes


def _devkit(folder: Path) -> tuple[str, bytes] | None:
    """The ground truth of the validation pictures and meta.mat, from the extracted devkit or its archive."""
    inside = ("ILSVRC2012_validation_ground_truth.txt", "meta.mat")
    data = folder / _DEVKIT / "data"
    if all((data / name).is_file() for name in inside):
        return (data / inside[0]).read_text(), (data / inside[1]).read_bytes()
    packed = folder / f"{_DEVKIT}.tar.gz"
    if not packed.is_file():
        return None
    try:
        with tarfile.open(packed, "r:gz") as archive:
            opened = [archive.extractfile(f"{_DEVKIT}/data/{name}") for name in inside]
            truth, meta = (file.read() if file else b"" for file in opened)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise DataError(
            f"{packed}: holds no {_DEVKIT}/data/{inside[0]} that can be read ({error}): fetch it again"
        ) from error
    return truth.decode(), meta


def _wnids(meta: bytes) -> dict[int, str]:
    """ILSVRC2012 number -> WordNet id of the 1,000 leaf classes of meta.mat (synsets without children)."""
    from scipy.io import loadmat

    synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if int(s["num_children"]) == 0}
