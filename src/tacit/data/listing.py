"""Pictures whose labels stand in a list beside them: Tiny ImageNet, Places365, iNaturalist and PASCAL VOC as published.

Tiny ImageNet: wnids.txt, train/<wnid>/images/*, val/images/* with val/val_annotations.txt (name, wnid, box), test/images/*.
Places365: places365_{train_standard,train_challenge,val}.txt with lines `/a/abbey/00000001.jpg 0`, categories_places365.txt; pictures
below data_large, data_256, val_large, val_256 or the folder itself.
iNaturalist: {train,val}<year>.json in the form of COCO (images, annotations, categories), pictures under the names given there.
PASCAL VOC: VOC<year>/{JPEGImages,Annotations,ImageSets/Main}; a picture has several classes: facts['labels'] int64 [n 20] is 1 where the
class is there, 0 where it is not, -1 where every instance of it is marked difficult.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from xml.etree import ElementTree

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import checked_labels, checked_path, choose, listed, permitted
from tacit.data.encoded import EncodedSource
from tacit.data.folder import Files
from tacit.data.samples import Layout

__all__ = ["ListingSource", "recognise"]

_VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class _Listed:
    """Pictures of a split by name below `root`, their labels, the classes, and what else is known."""

    root: Path
    names: list[str]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    factors: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise DataError(f"{file}: this list is missing: extract the archive again")
    with permitted(file):
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _numbered(names: list[str], known: Mapping[str, int], file: Path) -> NDArray[np.int64]:
    strange = next((name for name in names if name not in known), None)
    if strange is not None:
        raise DataError(f"{file}: names the class {strange!r}, which is none of the {len(known)} that are known")
    return np.array([known[name] for name in names], dtype=np.int64)


# Tiny ImageNet


def _tiny_splits(root: Path) -> tuple[str, ...]:
    if not (root / "wnids.txt").is_file() or not (root / "val" / "val_annotations.txt").is_file():
        return ()
    return tuple(split for split in ("train", "val", "test") if (root / split).is_dir())


def _tiny(root: Path, split: str) -> _Listed:
    classes = tuple(sorted(line.strip() for line in _lines(root / "wnids.txt")))
    known = {wnid: i for i, wnid in enumerate(classes)}
    if split == "train":
        names = [f"{wnid}/images/{e.name}" for wnid in classes for e in listed(root / "train" / wnid / "images")]
        return _Listed(
            root / "train", names, _numbered([n.split("/")[0] for n in names], known, root / "train"), classes
        )
    folder = root / split / "images"
    if split == "test":
        return _Listed(folder, [entry.name for entry in listed(folder)], None, ())
    file = root / "val" / "val_annotations.txt"
    rows = [line.split("\t") for line in _lines(file)]
    return _Listed(folder, [row[0] for row in rows], _numbered([row[1] for row in rows], known, file), classes)


# Places365

_PLACES = {
    "train": "places365_train_standard.txt",
    "challenge": "places365_train_challenge.txt",
    "val": "places365_val.txt",
}


def _places_splits(root: Path) -> tuple[str, ...]:
    if not (root / "categories_places365.txt").is_file():
        return ()
    return tuple(split for split, file in _PLACES.items() if (root / file).is_file())


def _places(root: Path, split: str) -> _Listed:
    rows = [line.rpartition(" ") for line in _lines(root / "categories_places365.txt")]
    names = {int(number): name.removeprefix("/") for name, _, number in rows}
    classes = tuple(names[i] for i in sorted(names))
    file = root / _PLACES[split]
    listing = [line.rpartition(" ") for line in _lines(file)]
    pictures = [name.removeprefix("/") for name, _, _ in listing]
    folders = ["val_large", "val_256"] if split == "val" else ["data_large", "data_256"]
    place = next((root / f for f in (*folders, ".") if (root / f / pictures[0]).is_file()), None)
    if place is None:
        raise DataError(
            f"{file}: its first picture {pictures[0]} is not in {', '.join(folders)} or {root}: extract the pictures there"
        )
    labels = checked_labels(np.array([int(n) for _, _, n in listing]), len(pictures), len(classes), str(file))
    return _Listed(place, pictures, labels, classes)


# iNaturalist


def _naturalist_files(root: Path) -> dict[str, Path]:
    found = {}
    for file in sorted(root.glob("*.json")):
        for split in ("train", "val", "test"):
            if file.stem.startswith(split) and file.stem[len(split) :].isdigit():
                found[split] = file
    return found


def _naturalist_splits(root: Path) -> tuple[str, ...]:
    return tuple(_naturalist_files(root))


def _naturalist(root: Path, split: str) -> _Listed:
    file = _naturalist_files(root)[split]
    try:
        with permitted(file):
            found = json.loads(file.read_text(encoding="utf-8"))
        names = {int(image["id"]): str(image["file_name"]) for image in found["images"]}
        categories = sorted(found.get("categories", ()), key=lambda category: int(category["id"]))
        of = {int(a["image_id"]): int(a["category_id"]) for a in found.get("annotations", ())}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is not JSON in the form of COCO with images (id, file_name): {error!r}") from error
    ids = list(names)
    if not of:
        return _Listed(root, list(names.values()), None, ())
    lacking = [names[i] for i in ids if i not in of]
    if lacking:
        raise DataError(f"{file}: {len(lacking)} of {len(ids)} pictures have no annotation, the first is {lacking[0]}")
    numbers = [int(category["id"]) for category in categories] or sorted(set(of.values()))
    classes = tuple(str(c.get("name", c["id"])) for c in categories) or tuple(map(str, numbers))
    known = {str(number): i for i, number in enumerate(numbers)}
    return _Listed(root, list(names.values()), _numbered([str(of[i]) for i in ids], known, file), classes)


# PASCAL VOC


def _voc_folder(root: Path) -> Path | None:
    for folder in (root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))):
        if (folder / "ImageSets" / "Main").is_dir() and (folder / "JPEGImages").is_dir():
            return folder
    return None


def _voc_splits(root: Path) -> tuple[str, ...]:
    folder = _voc_folder(root)
    if folder is None:
        return ()
    return tuple(
        s for s in ("train", "val", "trainval", "test") if (folder / "ImageSets" / "Main" / f"{s}.txt").is_file()
    )


def _voc(root: Path, split: str) -> _Listed:
    folder = _voc_folder(root)
    assert folder is not None  # noqa: S101 (the split was chosen from it)
    keys = [line.split()[0] for line in _lines(folder / "ImageSets" / "Main" / f"{split}.txt")]
    labels = np.zeros((len(keys), len(_VOC)), dtype=np.int64)
    known = {name: i for i, name in enumerate(_VOC)}
    for row, key in enumerate(keys):
        file = folder / "Annotations" / f"{key}.xml"
        if not file.is_file():
            if row:
                raise DataError(f"{file}: the annotation of a listed picture is missing: extract the archive again")
            labels = np.zeros((0, 0), dtype=np.int64)  # a test set without annotations
            break
        try:
            boxes = ElementTree.parse(file).getroot().findall("object")
            found = [(str(box.findtext("name")), box.findtext("difficult") == "1") for box in boxes]
        except ElementTree.ParseError as error:
            raise DataError(f"{file}: is no whole XML file ({error}): extract the archive again") from error
        numbers = _numbered([name for name, _ in found], known, file)
        for number, (_, difficult) in zip(numbers, found, strict=True):
            labels[row, number] = max(labels[row, number], 1) if not difficult else labels[row, number] or -1
    factors = {"labels": labels} if len(labels) else {}
    return _Listed(folder / "JPEGImages", [f"{key}.jpg" for key in keys], None, (), factors)


_LAYOUTS: dict[str, tuple[str, Callable[[Path], tuple[str, ...]], Callable[[Path, str], _Listed]]] = {
    "tiny-imagenet": ("Tiny ImageNet", _tiny_splits, _tiny),
    "places365": ("Places365", _places_splits, _places),
    "inaturalist": ("iNaturalist", _naturalist_splits, _naturalist),
    "voc": ("PASCAL VOC", _voc_splits, _voc),
}


def recognise(path: Path) -> Layout | None:
    """A folder with the lists of one of the four."""
    for name, splits, _ in _LAYOUTS.values() if path.is_dir() else ():
        found = splits(path)
        if found:
            return Layout("listing", str(path), found, f"{name} as published")
    return None


@part("source", "listing")
class ListingSource(EncodedSource):
    """Pictures with lists as published: Tiny ImageNet, Places365, iNaturalist (COCO-like JSON), PASCAL VOC (several labels a picture).

    channels, memory, unreadable: as for 'folder'. A listed picture that is not there is unreadable.
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
        fitting = next(((splits, read) for _, of, read in _LAYOUTS.values() if (splits := of(root))), None)
        if fitting is None:
            names = ", ".join(name for name, _, _ in _LAYOUTS.values())
            raise DataError(f"{root}: has the lists of none of {names}: give the folder that was extracted")
        splits, read = fitting
        found = read(root, choose(split, splits, str(root)))
        train = read(root, "train") if split != "train" and "train" in splits else None
        super().__init__(
            Files(found.root, found.names),
            found.labels,
            root=root,
            split=split,
            classes=found.classes,
            train=Files(train.root, train.names) if train is not None else None,
            channels=channels,
            mean=mean,
            std=std,
            unreadable=unreadable,
            memory=memory,
            factors=found.factors,
        )
