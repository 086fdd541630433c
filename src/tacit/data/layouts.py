"""What a path is: each kind of source is asked in turn, the most particular first. Only names and headers are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.spec import Spec
from tacit.data import arrays, arrow, beton, cifar, fixed, folder, listing, parquet, tars, video
from tacit.data.checks import checked_path, listed
from tacit.data.episode_reports import READERS as _EPISODES
from tacit.data.samples import Layout, StoredSource

__all__ = ["Layout", "open_source", "recognise"]

_READERS = {
    **_EPISODES,
    "video": video.recognise,
    "cifar": cifar.recognise,
    "stl10": fixed.recognise_stl10,
    "svhn": fixed.recognise_svhn,
    "listing": listing.recognise,
    "hf-disk": arrow.recognise,
    "parquet": parquet.recognise,
    "arrays": arrays.recognise,
    "folder": folder.recognise,
    "tar": tars.recognise,
    "beton": beton.recognise,
}


def recognise(path: str | Path, kind: str | None = None) -> Layout:
    """The layout at `path`: kind of source, splits, and why; raises DataError that says what was looked for.

    kind: ask only this reader, where a folder holds more than one kind of data.
    """
    root = checked_path(path)
    if kind is not None and kind not in _READERS:
        raise UnknownNameError(unknown("kind of data with a path", kind, _READERS))
    for name, reader in _READERS.items():
        layout = reader(root) if kind in (None, name) else None
        if layout is not None:
            return layout
    if kind is not None:
        other = recognise(root)
        raise DataError(
            f"{root}: is laid out for the source {other.kind!r} ({other.why}), not for {kind!r}: leave out the kind"
        )
    if root.is_file():
        raise DataError(
            f"{root}: this file is none that can be read; single files may be .npy, .npz, .parquet, .tar, .beton or lists of videos, "
            "other kinds are folders: give the folder that holds the file"
        )
    there = [entry.name + "/" * entry.is_dir() for entry in listed(root)]
    found = (
        ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "") if there else "an empty folder"
    )
    raise DataError(
        f"{root}: no known layout; found {found}. Looked for CIFAR archives (cifar-10-batches-py and the like), STL-10, SVHN, "
        "Tiny ImageNet, Places365, iNaturalist, VOC, Hugging Face data sets, .parquet, .tar and .beton files, "
        ".npy and .npz arrays (train.npy, x_train, images), lists and folders of videos, episodes with actions (LeRobot, Minari, OGBench, "
        "D4RL, DROID, RECON, folders of .npz, Parquet with a row a step), trajectories of equations (LPSDA, MP-PDE, "
        "PDEArena, The Well), and picture files at any depth"
    )


def open_source(path: str | Path, split: str | None = None, kind: str | None = None, **settings: Any) -> StoredSource:
    """The source that reads `path`, of the given or the recognised kind; `split` None takes the first split.

    Settings are checked as those of a recipe.
    """
    if kind == "digits":
        return Spec("source", kind, split=split or "train", **settings).build()
    layout = recognise(path, kind)
    return Spec("source", layout.kind, path=str(path), split=split or layout.splits[0], **settings).build()
