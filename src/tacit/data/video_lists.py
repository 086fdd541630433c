"""Videos in lists and folders: rows of path and label as published, folders of videos, tar shards with videos.

A list has one video a line, `<path> <label>`; the label is a whole number behind the last space or comma, or behind `::`, so paths
may hold spaces. Lists without labels have the path alone. A `.npy` file may hold the paths as text. Relative paths start at the
list's folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.data import tars
from tacit.data.checks import SPLITS, checked_labels, fingerprint, listed, permitted
from tacit.data.images import EXTENSIONS as PICTURES
from tacit.data.ranges import Ranges
from tacit.data.video_decoding import VIDEOS

__all__ = [
    "Listed",
    "Places",
    "folder_splits",
    "list_splits",
    "read_folder",
    "read_list",
    "read_lists",
    "read_tars",
    "tar_splits",
    "videos_below",
]

_LISTS = (".csv", ".txt", ".npy")
_ROW = re.compile(r'^\s*"?(?P<path>.*?)"?\s*(?:::|[ \t,])\s*(?P<label>-?\d+)\s*$')


@dataclass(frozen=True)
class Listed:
    """Videos of one split, by name below `root` or by absolute path, or in `tar` ranges; what is known of each.

    windows: (start, stop) in seconds of what counts of each video [n 2]. factors: name -> [n ...]. absent: listed videos that are not
    there. rate: pictures a second where a video is a folder of pictures.
    """

    root: Path
    names: Sequence[str]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    windows: NDArray[np.float64] | None = None
    factors: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    rate: float = 12.0
    tar: Ranges | None = None

    def only(self, there: Sequence[bool], names: Sequence[str]) -> Listed:
        """The rows whose videos are there, under the names that were found; the others become `absent`."""
        keep = np.asarray(there, dtype=bool)
        return Listed(
            self.root,
            list(names),
            None if self.labels is None else self.labels[keep],
            self.classes,
            None if self.windows is None else self.windows[keep],
            {name: values[keep] for name, values in self.factors.items()},
            tuple(name for name, here in zip(self.names, keep, strict=True) if not here),
            self.rate,
        )


class Places:
    """Names of video files in one block of bytes, so that a million of them stay small and are shared by workers."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.root, self._block = str(root.absolute()), b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def name(self, i: int) -> str:
        """The path."""
        return os.path.join(self.root, os.fsdecode(self._block[self._ends[i] : self._ends[i + 1]]))

    def open(self, i: int) -> str:
        """The path: FFmpeg opens it itself."""
        return self.name(i)

    def fingerprint(self) -> str:
        """See checks.fingerprint: by content up to 256 MiB in all, else by names, sizes and times of change."""
        return fingerprint([Path(self.name(i)) for i in range(len(self))], Path(os.path.sep))


def videos_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of the videos below `folder`, relative to it, by name; a link to a folder above itself is not followed again."""
    own = os.path.realpath(folder)
    if own in above:
        return
    for entry in listed(folder):
        if entry.is_dir():
            yield from (f"{entry.name}/{name}" for name in videos_below(folder / entry.name, (*above, own)))
        elif os.path.splitext(entry.name)[1].lower() in VIDEOS:
            yield entry.name


# lists


def list_splits(path: Path) -> dict[str, Path]:
    """The lists at a path: itself, or those of a folder that are called after splits (train.csv, val.csv, test.csv)."""
    if path.is_file():
        return {"train": path} if path.suffix.lower() in _LISTS and _is_list(path) else {}
    if not path.is_dir():
        return {}
    found: dict[str, Path] = {}
    for split in SPLITS:
        for file in (path / f"{split}.csv", path / f"{split}.txt"):
            if split not in found and file.is_file() and _is_list(file):
                found[split] = file
    return found


def _is_list(file: Path) -> bool:
    """Whether the first lines name videos or pictures."""
    if file.suffix == ".npy":
        try:
            return bool(np.load(file, mmap_mode="r", allow_pickle=False).dtype.kind == "U")
        except (ValueError, OSError):
            return False
    try:
        with permitted(file), open(file, encoding="utf-8", newline="") as text:
            lines = [line for line in (text.readline() for _ in range(3)) if line.strip()]
    except UnicodeDecodeError:
        return False
    return bool(lines) and any(
        re.search(r"\.(\w+)\"?(\s*(::|[ \t,]).*)?$", line.strip()) and _names_video(line) for line in lines
    )


def _names_video(line: str) -> bool:
    words = re.findall(r"\.\w+", line.lower())
    return any(word in VIDEOS or word in PICTURES for word in words)


def read_list(file: Path, videos: Path | None) -> Listed:
    """The rows of a list; a row whose label is no whole number is named with its number."""
    root = videos or file.resolve().parent
    if file.suffix == ".npy":
        return Listed(root, [str(name) for name in np.load(file, allow_pickle=False).reshape(-1)])
    with permitted(file):
        rows = [
            (number, row.strip()) for number, row in enumerate(file.read_text("utf-8").splitlines(), 1) if row.strip()
        ]
    if not rows:
        raise DataError(f"{file}: the list is empty: one video a line is needed, `<path> <label>`")
    bare = [os.path.splitext(row.strip('"'))[1].lower() in VIDEOS | PICTURES for _, row in rows]
    if all(bare):
        return Listed(root, [row.strip('"') for _, row in rows])
    names, labels = [], np.empty(len(rows), dtype=np.int64)
    for place, (number, row) in enumerate(rows):
        found = _ROW.match(row)
        if found is None:
            last = re.split(r"::|[ \t,]", row)[-1]
            raise DataError(
                f"{file}: line {number} ends in {last[:40]!r} where the number of its class is needed; a row reads `<path> <label>`, with "
                "a space, a comma or :: between: take out headers, and number the classes from 0"
            )
        names.append(found["path"])
        labels[place] = int(found["label"])
    if (labels == -1).all():
        return Listed(root, names)
    checked = checked_labels(labels, len(names), None, str(file))
    return Listed(root, names, checked, tuple(map(str, range(int(checked.max()) + 1))))


def read_lists(lists: Mapping[str, Path], split: str, videos: Path | None) -> Listed:
    """One of several lists; the classes are those of all of them."""
    found = read_list(lists[split], videos)
    if found.labels is None:
        return found
    others = (read_list(file, videos).classes for name, file in lists.items() if name != split)
    return replace(found, classes=max((found.classes, *others), key=len))


# folders


def folder_splits(path: Path) -> dict[str, Path]:
    """Split folders with videos (by the rules of the source 'folder'), or the folder itself as 'train'; none if it holds no video first."""
    if not path.is_dir() or not _first_is_video(path):
        return {}
    below = [entry.name for entry in listed(path) if entry.is_dir()]
    named = [name for name in SPLITS if name in below]
    loose = any(os.path.splitext(e.name)[1].lower() in VIDEOS for e in listed(path) if not e.is_dir())
    if "train" in named or (named and len(named) == len(below) and not loose):
        return {name: path / name for name in named}
    return {"train": path}


def _first_is_video(folder: Path) -> bool:
    """Whether the first picture or video that is met is a video: pictures decide for the source 'folder'."""
    return next(_kinds(folder, ()), False)


def _kinds(folder: Path, above: tuple[str, ...]) -> Iterator[bool]:
    own = os.path.realpath(folder)
    if own in above:
        return
    for entry in listed(folder):
        if entry.is_dir():
            yield from _kinds(folder / entry.name, (*above, own))
        else:
            ending = os.path.splitext(entry.name)[1].lower()
            if ending in VIDEOS or ending in PICTURES:
                yield ending in VIDEOS


def read_folder(splits: Mapping[str, Path], split: str) -> Listed:
    """Videos of a split; classes are the first folders below where all videos lie in such folders and there are at least two."""
    names = {name: list(videos_below(folder)) for name, folder in splits.items()}
    first = {name: {one.partition("/")[0] for one in held if "/" in one} for name, held in names.items()}
    labelled = [
        name for name, held in names.items() if held and len(first[name]) > 1 and all("/" in one for one in held)
    ]
    if split not in labelled:
        return Listed(splits[split], names[split])
    classes = tuple(sorted(set().union(*(first[name] for name in labelled))))
    place = {name: i for i, name in enumerate(classes)}
    labels = np.array([place[name.partition("/")[0]] for name in names[split]], dtype=np.int64)
    return Listed(splits[split], names[split], labels, classes)


# tar shards


def tar_splits(path: Path) -> dict[str, list[Path]]:
    """Splits of tar shards (by the rules of the source 'tar') whose first sample with a picture or video has a video."""
    splits = tars.splits_of(path)
    for file in splits[next(iter(splits))][:1] if splits else ():
        for _, parts in tars.samples(file):
            endings = {f".{extension}" for extension in parts}
            if endings & (VIDEOS | PICTURES):
                return splits if endings & VIDEOS else {}
    return {}


def read_tars(files: Sequence[Path], root: Path) -> Listed:
    """The videos of shards with their labels, read in place."""
    which, found, labels = [], [], []
    for number, file in enumerate(files):
        for key, parts in tars.samples(file):
            videos = [member for extension, member in parts.items() if f".{extension}" in VIDEOS]
            if videos:
                which.append(number)
                found.append(videos[0])
                labels.append(tars.label_of(file, key, parts))
    unlabelled = sum(label is None for label in labels)
    if unlabelled and unlabelled < len(labels):
        raise DataError(
            f"{files[0].parent}: {unlabelled} of {len(labels)} samples have no label (.cls or .json): give all of them one, or none"
        )
    store = tars.ranges_of(files, which, found, root)
    if unlabelled or not labels:
        return Listed(root, [], tar=store)
    checked = checked_labels(np.array(labels), len(labels), None, str(files[0].parent))
    return Listed(root, [], checked, tuple(map(str, range(int(checked.max()) + 1))), tar=store)
