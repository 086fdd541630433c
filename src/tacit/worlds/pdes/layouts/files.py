"""What the HDF5 layouts share: opening, complete-or-absent writing, checks of a file against its own domain."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.core.errors import DataError, need, unknown
from tacit.ops.fields import Field

__all__ = [
    "FACTS",
    "h5py",
    "member",
    "of_split",
    "opened",
    "read_facts",
    "tensor",
    "uniform_axis",
    "write_facts",
    "writing",
]

FACTS = "facts"
"""A group of our own beside the published ones: parameters of the trajectories. Other readers do not look at it."""


def h5py() -> ModuleType:
    """The package h5py, or a sentence on how to get it."""
    return need("h5py", "worlds", "reading and writing HDF5 files of fields")


@contextmanager
def writing(path: Path) -> Iterator[Any]:
    """An open HDF5 file that appears under `path` only when complete: written beside it and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py().File(beside, "w") as file:
            yield file
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file for reading."""
    if not path.is_file():
        raise DataError(f"no file {path}: give the path of an existing HDF5 file")
    try:
        file = h5py().File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is not a readable HDF5 file ({error}): fetch or make it again") from error
    with file:
        yield file


def of_split(path: Path, stem: str, split: str) -> Path:
    """`path` itself, or if it is a folder its one file `{stem}_{split}*.h5`."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"{stem}_{split}*.h5"))
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise DataError(
            f"{path} should hold one file {stem}_{split}*.h5, found {names}: give a folder with one file a split, or a file"
        )
    return found[0]


def member(group: Any, name: str, path: Path) -> Any:
    """A dataset or group by name, or what there is in its place."""
    if name not in group:
        raise DataError(f"{path}: {unknown('entry', name, list(group))}")
    return group[name]


def tensor(group: Any, name: str, path: Path, rows: slice = slice(None)) -> Tensor:
    """A dataset (or its rows) as a float64 tensor."""
    return torch.from_numpy(np.asarray(member(group, name, path)[rows], dtype=np.float64))


def uniform_axis(x: Tensor, step: Tensor, name: str, path: Path) -> Tensor:
    """Coordinates [n p] if their usual step is what the file says in `step` [n]; else what does not match. Gaps are for `Field.check`."""
    actual = x.diff(dim=1).median(dim=1).values if x.shape[1] > 1 else torch.zeros_like(step)
    wrong = (actual - step).abs() > 1e-3 * step.abs() + 1e-12
    if bool(wrong.any()):
        i = int(wrong.nonzero()[0])
        raise DataError(
            f"{path}: the domain does not match: {name} of trajectory {i} is spaced by {float(actual[i]):.6g},"
            f" d{name} says {float(step[i]):.6g}"
        )
    return x


def write_facts(file: Any, field: Field) -> None:
    """The parameters of the trajectories in the group `facts`."""
    group = file.create_group(FACTS)
    for name, value in field.parameters.items():
        group.create_dataset(name, data=value.double().cpu().numpy())


def read_facts(file: Any, rows: slice = slice(None)) -> dict[str, Tensor]:
    """The parameters that `write_facts` has written, if any."""
    if FACTS not in file:
        return {}
    return {name: torch.from_numpy(np.asarray(data[rows])) for name, data in file[FACTS].items()}
