"""Zarr copies of the HDF5 layouts: the same names, shapes and attributes, one chunk a trajectory, for object stores."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tacit.core.errors import DataError, need
from tacit.worlds.pdes.layouts.files import opened, writing

__all__ = ["attribute", "from_zarr", "to_zarr"]


def _zarr() -> Any:
    return need("zarr", "worlds", "reading and writing Zarr copies of fields")


def _plain(value: Any) -> Any:
    """An HDF5 attribute as JSON can hold it."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def attribute(path: Path, name: str) -> Any:
    """An attribute of the root of a Zarr copy, None if it has none of this name."""
    return _zarr().open_group(str(path), mode="r").attrs.get(name)


def to_zarr(path: Path, folder: Path) -> Path:
    """Copy an HDF5 file to `folder/{stem}.zarr`, complete or absent: written beside it and renamed. Its path."""
    target = folder / f"{path.stem}.zarr"
    if target.exists():
        raise DataError(f"{target} exists already: remove it or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{target.name}.{os.getpid()}.part"
    try:
        with opened(path) as file:
            root = _zarr().open_group(str(beside), mode="w")
            _copy(file, root)
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _copy(source: Any, target: Any) -> None:
    target.attrs.update({name: _plain(value) for name, value in source.attrs.items()})
    for name, item in source.items():
        if hasattr(item, "shape"):
            chunks = (1, *item.shape[1:]) if item.ndim > 1 else (max(1, item.shape[0]),)
            made = target.create_array(name, shape=item.shape, dtype=item.dtype, chunks=chunks)
            made[...] = item[...]
            made.attrs.update({key: _plain(value) for key, value in item.attrs.items()})
        else:
            _copy(item, target.create_group(name))


def from_zarr(path: Path, folder: Path) -> Path:
    """The HDF5 file `folder/{stem}.h5` of a Zarr copy, for the readers of the layouts. Its path."""
    if not path.is_dir():
        raise DataError(f"no Zarr group at {path}: give the folder that ends in .zarr")
    target = folder / f"{path.stem}.h5"
    with writing(target) as file:
        _back(_zarr().open_group(str(path), mode="r"), file)
    return target


def _back(source: Any, target: Any) -> None:
    target.attrs.update(dict(source.attrs))
    for name, item in source.members():
        if hasattr(item, "shape"):
            made = target.create_dataset(name, data=item[...])
            made.attrs.update(dict(item.attrs))
        else:
            _back(item, target.create_group(name))
