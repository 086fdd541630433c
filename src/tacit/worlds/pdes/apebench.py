"""Arrays scraped from APEBench (arXiv 2411.00180): `{name}.json`, `{name}_train.npy`, `{name}_test.npy`.

An array is [samples frames channels *space], x first, on a periodic square; the JSON is {"name", "info"}, info being the
settings of the scenario. Scenarios without `domain_extent` and `dt` ("difficulty", "normalized") live in the unit domain
with unit steps. Files made with exponax 0.1 carry its fault of dispersive steps: diff_kdv is 72 % off after 50 frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import MinLen
from numpy.typing import NDArray

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.values import Batch
from tacit.ops.fields import Field
from tacit.worlds.pdes.source import batch_of, facts_of

__all__ = ["ApebenchTrajectories", "read", "write"]

_SPLITS = ("train", "test")


def read(path: Path, split: str, rows: slice | Sequence[int] = slice(None)) -> Field:
    """Trajectories of `{name}.json`; the numbers among its settings are parameters of every sample, in float64 the axes."""
    info, array = _opened(path, split)
    return _field(path, info, array, rows)


def write(path: Path, field: Field, split: str, settings: Mapping[str, Any]) -> None:
    """The same layout: `path` is the JSON file; settings, for example {"dt": 0.1, "domain_extent": 1.0}, become its info."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = torch.stack(list(field.values.values()), 2)
    np.save(_array(path, split), data.float().cpu().numpy(), allow_pickle=False)
    axes = len(field.space)
    shape = {"num_spatial_dims": axes, "num_points": data.shape[-1], "num_channels": data.shape[2]}
    path.write_text(json.dumps({"name": path.stem, "info": {**shape, **settings}}), encoding="utf-8")


def _array(path: Path, split: str) -> Path:
    if split not in _SPLITS:
        raise UnknownNameError(unknown("split", split, _SPLITS))
    return path.with_name(f"{path.stem}_{split}.npy")


def _opened(path: Path, split: str) -> tuple[Mapping[str, Any], NDArray[Any]]:
    """The settings and the array, mapped and not read."""
    array = _array(path, split)
    for one in (path, array):
        if not one.is_file():
            raise DataError(f"no file {one}: a scraped scenario is {path.stem}.json with {array.name} beside it")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))["info"]
        data = np.load(array, mmap_mode="r", allow_pickle=False)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} and {array.name} are no scraped scenario ({error!r}): scrape it again") from error
    axes = info.get("num_spatial_dims")
    points, channels = info.get("num_points"), info.get("num_channels")
    if data.ndim != 3 + (axes or 0) or data.shape[2:] != (channels, *(points,) * (axes or 0)):
        raise DataError(
            f"{array}: shape {data.shape} does not match {path.name}, which says {channels} channels on {points} points in"
            f" {axes} dimensions"
        )
    return info, data


def _field(path: Path, info: Mapping[str, Any], array: NDArray[Any], rows: slice | Sequence[int]) -> Field:
    data = torch.from_numpy(np.array(array[rows]))
    n, frames, channels, points = data.shape[:4]
    extent, dt = float(info.get("domain_extent", 1.0)), float(info.get("dt", 1.0))
    axis = torch.arange(points, dtype=torch.float64) * extent / points
    names = ["u"] if channels == 1 else [f"u{c}" for c in range(channels)]
    known = {
        name: torch.full((n,), float(value), dtype=torch.float64)
        for name, value in info.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    axes = data.ndim - 3
    return Field(
        path.stem.partition("__")[0],
        {name: data[:, :, c] for c, name in enumerate(names)},
        (torch.arange(frames, dtype=torch.float64) * dt).expand(n, -1).contiguous(),
        (axis.expand(n, -1).contiguous(),) * axes,
        (True,) * axes,
        known,
    ).check()


@part("source", "apebench")
class ApebenchTrajectories:
    """Trajectories of a scenario scraped from APEBench, mapped from disk. path: its `{name}.json`; splits train and test."""

    def __init__(self, *, path: Annotated[str, MinLen(1)], split: str = "train") -> None:
        self.path, self._split = Path(path), split
        self._info, self._data = _opened(self.path, split)
        self.facts = facts_of(self.fields([0])[0])

    def __len__(self) -> int:
        return len(self._data)

    def digest(self) -> str:
        """Changes with the name, size and time of the array and with the settings."""
        stat = _array(self.path, self._split).stat()
        text = json.dumps([self.path.name, self._split, stat.st_size, stat.st_mtime_ns, dict(self._info)], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """View 'image' [n c t *space], raw; facts: time, x (y) and the numbers of the scenario."""
        wanted = [int(i) for i in indices]
        return batch_of(self.fields(wanted)[0], torch.tensor(wanted))

    def fields(self, indices: Sequence[int]) -> list[Field]:
        """The trajectories with the name of their scenario as equation."""
        for i in indices:
            if not 0 <= i < len(self._data):
                raise DataError(f"sample {i} does not exist: there are {len(self)}, from 0 to {len(self) - 1}")
        return [_field(self.path, self._info, self._data, list(indices))]
