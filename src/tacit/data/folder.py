"""Pictures in folders: any folder, one folder a class, or the ImageNet tree. What is what is decided by these rules.

Splits: if the folder has a subfolder `train`, or subfolders named after splits only (train, val, valid, validation, test),
each of those is a split and other subfolders are left alone; otherwise the whole folder is the one split 'train'.
Classes: a split is labelled when at least two direct subfolders hold pictures and all pictures lie directly in such folders
(or all in a subfolder of one name, as in <class>/images/*). The classes are the sorted names of the direct subfolders of all
labelled splits together. `labels` overrules this.
Hidden files (.name, __MACOSX) are left out, links are followed, order is by name, extensions are read in any case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import SPLITS, checked_path, choose, fingerprint, listed
from tacit.data.encoded import EncodedSource
from tacit.data.images import EXTENSIONS
from tacit.data.samples import Layout

__all__ = ["Files", "FolderSource", "recognise"]

Labels = Literal["auto", "folders", "none"]


class Files:
    """A store of picture files: names below `root` in one block of bytes, so that a million of them stay small and shared."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.root = str(root)
        self._block = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def name(self, i: int) -> str:
        """The file's path."""
        return os.path.join(self.root, os.fsdecode(self._block[self._ends[i] : self._ends[i + 1]]))

    def open(self, i: int) -> BinaryIO:
        """The open file."""
        return open(self.name(i), "rb")

    def fingerprint(self) -> str:
        """See samples.fingerprint."""
        return fingerprint([Path(self.name(i)) for i in range(len(self))], Path(self.root))


def _pictures(folder: Path, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of the pictures below `folder`, relative to it; a link to a folder above itself is not followed again."""
    own = os.path.realpath(folder)
    if own in above:
        return
    for entry in listed(folder):
        if entry.is_dir():
            yield from (f"{entry.name}/{name}" for name in _pictures(folder / entry.name, (*above, own)))
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield entry.name


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in listed(folder) if entry.is_dir()]


def _splits(root: Path) -> dict[str, Path]:
    below = _folders(root)
    named = [name for name in SPLITS if name in below]
    if "train" in named or (named and len(named) == len(below) and not any(True for _ in _direct(root))):
        return {name: root / name for name in named}
    return {"train": root}


def _direct(folder: Path) -> Iterator[str]:
    for entry in listed(folder):
        if not entry.is_dir() and os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
            yield entry.name


def _is_labelled(names: Sequence[str], labels: Labels) -> bool:
    if labels != "auto":
        return labels == "folders"
    places = {name.rpartition("/")[0].partition("/") for name in names}  # (first folder, "/", the folders below it)
    return all(first for first, _, _ in places) and len({rest for _, _, rest in places}) == 1 and len(places) > 1


def recognise(path: Path) -> Layout | None:
    """A folder that holds at least one picture, at any depth."""
    if not path.is_dir():
        return None
    splits = _splits(path)
    if not any(True for folder in splits.values() for _ in _pictures(folder)):
        return None
    how = (
        f"split folders {', '.join(splits)} with" if "train" not in splits or splits["train"] != path else "a folder of"
    )
    return Layout("folder", str(path), tuple(splits), f"{how} picture files")


@part("source", "folder")
class FolderSource(EncodedSource):
    """Pictures in folders: any folder, root/<class>/*, or root/{train,val,test}/<class>/* (png jpg bmp webp tif gif).

    channels: 1, 3 or 4 converts; None keeps those of the files, and reads all with 3 where they differ.
    labels: 'folders' takes the first folder level as class, 'none' reads without, 'auto' by the rules above.
    only: a text file with one picture a line (its name, or its path below the split), as the published 1 % and 10 % lists of
    ImageNet; the classes stay those of the whole folder.
    memory: MiB of decoded pictures that may be held when all have one size; 0 decodes at each read.
    unreadable: 'stop' names the file; 'skip' puts the next readable sample in its place, and logs and counts it.
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        channels: Literal[1, 3, 4] | None = None,
        labels: Labels = "auto",
        only: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        unreadable: Literal["stop", "skip"] = "stop",
        memory: Annotated[int, Ge(0)] = 1024,
    ) -> None:
        root = checked_path(path)
        if not root.is_dir():
            raise DataError(f"{root} is a file where a folder of pictures is needed: give the folder that holds it")
        folders = _splits(root)
        choose(split, folders, str(root))
        first = "train" if "train" in folders else split
        names = {name: list(_pictures(folder)) for name, folder in folders.items()}
        if not names[split]:
            raise DataError(
                f"{folders[split]}: no picture in this folder or below it; looked for {', '.join(sorted(EXTENSIONS))}"
            )
        classes: tuple[str, ...] = ()
        if _is_labelled(names[split], labels):
            labelled = (folders[name] for name in folders if _is_labelled(names[name], labels))
            classes = tuple(sorted({below for folder in labelled for below in _folders(folder)}))
        if only is not None:
            names[split] = _listed_only(names[split], checked_path(only))
        super().__init__(
            Files(folders[split], names[split]),
            _labels(names[split], classes, folders[split]) if classes else None,
            root=root,
            split=split,
            classes=classes,
            train=Files(folders[first], names[first]) if first != split else None,
            channels=channels,
            mean=mean,
            std=std,
            unreadable=unreadable,
            memory=memory,
        )


def _listed_only(names: Sequence[str], listing: Path) -> list[str]:
    wanted = {line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()}
    chosen = [name for name in names if name in wanted or name.rpartition("/")[2] in wanted]
    missing = wanted - set(chosen) - {name.rpartition("/")[2] for name in chosen}
    if missing or not chosen:
        first = min(missing) if missing else "(an empty list)"
        raise DataError(
            f"{listing}: {len(missing)} of {len(wanted)} listed pictures are not in the split, the first is {first}"
        )
    return chosen


def _labels(names: Sequence[str], classes: tuple[str, ...], folder: Path) -> NDArray[np.int64]:
    index = {name: i for i, name in enumerate(classes)}
    loose = next((name for name in names if "/" not in name), None)
    if loose is not None:
        raise DataError(
            f"{folder / loose} lies in no class folder, and labels: folders asks for one: move it into its class's folder "
            "or set labels: none"
        )
    return np.array([index[name.partition("/")[0]] for name in names], dtype=np.int64)
