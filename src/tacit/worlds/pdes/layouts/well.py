"""The exchange format of The Well (arXiv 2412.00568): written, read whole, and read in windows from handles that stay open.

Groups dimensions, boundary_conditions, scalars, t0_fields, t1_fields, t2_fields; fields (n, T, *space, [D]) in float32.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.fields import Field
from tacit.worlds.pdes.layouts.files import h5py, member, opened, read_facts, write_facts, writing

__all__ = ["BOUNDARY", "Windows", "count", "files", "read", "write"]

BOUNDARY = {"WALL": 0, "OPEN": 1, "PERIODIC": 2}
_AXES = ("x", "y", "z")
_VECTORS = {"velocity": "v"}  # components vx, vy of a Field are the vector field "velocity"


def write(path: Path, field: Field, split: str, attributes: dict[str, str] | None = None) -> None:  # noqa: ARG001
    """One file. All trajectories must share their grid and times: the format has one set of coordinates a file."""
    n, axes = len(field), len(field.space)
    for name, x in (("time", field.time), *zip(_AXES, field.space, strict=False)):
        if bool((x != x[:1]).any()):
            raise DataError(
                f"{path.name}: The Well has one {name!r} axis a file and these trajectories differ in it:"
                " make them with jitter=0, or use another layout"
            )
    scalars = {name: v for name, v in field.parameters.items() if v.shape == (n,)}
    with writing(path) as file:
        known = [name for name, v in scalars.items() if bool((v == v[:1]).all())]
        file.attrs.update(
            {
                "dataset_name": field.equation,
                "grid_type": "cartesian",
                "n_spatial_dims": axes,
                "n_trajectories": n,
                "simulation_parameters": known,
                **{name: float(scalars[name][0]) for name in known},
                **(attributes or {}),
            }
        )
        _write_dimensions(file, field)
        _write_boundaries(file, field)
        group = file.create_group("scalars")
        group.attrs["field_names"] = list(scalars)
        for name, value in scalars.items():
            data = group.create_dataset(name, data=value.cpu().numpy().astype(np.float32))
            data.attrs.update({"sample_varying": True, "time_varying": False})
        _write_fields(file, field)
        write_facts(file, field)


def _write_dimensions(file: Any, field: Field) -> None:
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = list(_AXES[: len(field.space)])
    for name, x in (("time", field.time), *zip(_AXES, field.space, strict=False)):
        data = group.create_dataset(name, data=x[0].cpu().numpy().astype(np.float32))
        data.attrs.update({"sample_varying": False, "time_varying": False})


def _write_boundaries(file: Any, field: Field) -> None:
    group = file.create_group("boundary_conditions")
    for name, periodic, x in zip(_AXES, field.periodic, field.space, strict=False):
        kind = "PERIODIC" if periodic else "WALL"
        one = group.create_group(f"{name}_{kind.lower()}")
        one.attrs.update(
            {
                "associated_dims": [name],
                "associated_fields": [],
                "bc_type": kind,
                "sample_varying": False,
                "time_varying": False,
            }
        )
        mask = np.zeros(x.shape[1], dtype=bool)
        mask[[0, -1]] = True
        one.create_dataset("mask", data=mask)


def _write_fields(file: Any, field: Field) -> None:
    axes = _AXES[: len(field.space)]
    vector = [f"v{a}" for a in axes]
    has_vector = all(name in field.values for name in vector)
    scalar = [name for name in field.values if not (has_vector and name in vector)]
    tensors: list[dict[str, Tensor]] = [{name: field.values[name] for name in scalar}, {}, {}]
    if has_vector:
        tensors[1]["velocity"] = torch.stack([field.values[name] for name in vector], -1)
    for rank, fields in enumerate(tensors):
        group = file.create_group(f"t{rank}_fields")
        group.attrs["field_names"] = list(fields)
        for name, value in fields.items():
            data = group.create_dataset(name, data=value.cpu().numpy().astype(np.float32))
            data.attrs.update({"dim_varying": [True] * len(axes), "sample_varying": True, "time_varying": True})


def files(folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder of The Well: those in data/{split}, in order of their names."""
    found = sorted(path for end in ("hdf5", "h5") for path in (folder / "data" / split).glob(f"*.{end}"))
    if not found:
        raise DataError(f"{folder} has no files data/{split}/*.hdf5: give the folder of a data set of The Well")
    return found


def count(path: Path) -> int:
    """How many trajectories a file holds."""
    with opened(path) as file:
        return int(file.attrs["n_trajectories"])


def read(path: Path, equation: str | None = None, rows: slice = slice(None)) -> Field:
    """A file (some `rows` of it) with cartesian axes as a field, in float32; fields that do not vary in time or space are left out.

    equation: by default the name of the data set.
    """
    with opened(path) as file:
        dimensions = member(file, "dimensions", path)
        labels = [str(name) for name in dimensions.attrs["spatial_dims"]]
        n = int(file.attrs["n_trajectories"])

        def axis(name: str) -> Tensor:
            x = torch.from_numpy(np.asarray(member(dimensions, name, path), dtype=np.float64))
            return (x if x.ndim == 2 else x.expand(n, -1))[rows].contiguous()

        kinds = [str(one.attrs["bc_type"]) for one in member(file, "boundary_conditions", path).values()]
        periodic = [str(label) for one in file["boundary_conditions"].values() if one.attrs["bc_type"] == "PERIODIC"
                    for label in one.attrs["associated_dims"]]  # fmt: skip
        unknown_kinds = set(kinds) - set(BOUNDARY)
        if unknown_kinds:
            raise DataError(
                f"{path}: boundary kinds are {', '.join(BOUNDARY)}, found {', '.join(sorted(unknown_kinds))}"
            )
        values: dict[str, Tensor] = {}
        for name, data in member(file, "t0_fields", path).items():
            if data.attrs["time_varying"] and data.attrs["sample_varying"] and all(data.attrs["dim_varying"]):
                values[name] = torch.from_numpy(np.asarray(data[rows]))
        for name, data in member(file, "t1_fields", path).items():
            whole = torch.from_numpy(np.asarray(data[rows]))
            for i, label in enumerate(labels):
                values[f"{_VECTORS.get(name, name + '_')}{label}"] = whole[..., i].contiguous()
        facts = read_facts(file, rows) or {
            name: torch.from_numpy(np.asarray(data[rows]))
            for name, data in file["scalars"].items()
            if data.shape == (n,)
        }
        equation = equation or str(file.attrs["dataset_name"])
        space = tuple(axis(label) for label in labels)
        return Field(equation, values, axis("time"), space, tuple(label in periodic for label in labels), facts)


class Windows:
    """Windows of consecutive frames from a folder of The Well: the items of its own reader, from handles that stay open.

    Item: input_fields [Ti *space c], output_fields [To *space c], constant_scalars [s], space_grid [*space D],
    input_time_grid, output_time_grid (relative), boundary_conditions [D 2]. Vector components become name_x, name_y.
    Handles are opened in the process that reads and at most `handles` are kept, so that workers may be forked.
    """

    def __init__(
        self, paths: Sequence[Path], steps_in: int = 1, steps_out: int = 1, stride: int = 1, handles: int = 64
    ) -> None:
        self.paths, self.span = [Path(p) for p in paths], 1 + stride * (steps_in + steps_out - 1)
        self.steps_in, self.steps_out, self.stride, self.handles = steps_in, steps_out, stride, handles
        self._open: OrderedDict[int, _Handle] = OrderedDict()
        self._owner = os.getpid()
        counts = []
        for path in self.paths:
            with opened(path) as file:
                frames = file["dimensions"]["time"].shape[-1]
                if frames < self.span:
                    raise DataError(
                        f"{path} has {frames} frames, a window of {self.span} does not fit: ask for fewer steps"
                    )
                counts.append((int(file.attrs["n_trajectories"]), frames - self.span + 1))
        self._windows = [w for _, w in counts]
        self._ends: NDArray[np.int64] = np.cumsum([n * w for n, w in counts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        which = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[which - 1]) if which else 0
        trajectory, start = divmod(index - first, self._windows[which])
        handle = self._handle(which)
        rows = slice(start, start + self.span, self.stride)
        frames = torch.from_numpy(handle.frames(trajectory, rows))
        time = handle.time[rows] - handle.time[start]
        return {
            "input_fields": frames[: self.steps_in],
            "output_fields": frames[self.steps_in :],
            "constant_scalars": handle.scalars[trajectory],
            "space_grid": handle.grid,
            "boundary_conditions": handle.boundaries,
            "input_time_grid": time[: self.steps_in],
            "output_time_grid": time[self.steps_in :],
        }

    def _handle(self, which: int) -> _Handle:
        if self._owner != os.getpid():  # a forked worker must not share the parent's handles
            self._open, self._owner = OrderedDict(), os.getpid()
        if which not in self._open:
            if len(self._open) >= self.handles:
                self._open.popitem(last=False)[1].file.close()
            self._open[which] = _Handle(self.paths[which])
        self._open.move_to_end(which)
        return self._open[which]

    def close(self) -> None:
        """Close every handle of this process."""
        while self._open:
            self._open.popitem()[1].file.close()


def _in_order(group: Any) -> list[Any]:
    """The datasets of a group in the order of its `field_names`, as the format's own reader has them; HDF5 sorts by letter."""
    return [group[str(name)] for name in group.attrs.get("field_names", list(group))]


class _Handle:
    """One open file and what of it is the same for every item."""

    def __init__(self, path: Path) -> None:
        self.file = h5py().File(path, "r")
        dimensions = self.file["dimensions"]
        labels = [str(name) for name in dimensions.attrs["spatial_dims"]]
        self.time = torch.from_numpy(np.asarray(dimensions["time"], dtype=np.float32))
        axes = [torch.from_numpy(np.asarray(dimensions[label], dtype=np.float32)) for label in labels]
        self.grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        self.boundaries = torch.zeros(len(labels), 2, dtype=torch.int64)
        for one in self.file["boundary_conditions"].values():
            for label in one.attrs["associated_dims"]:
                self.boundaries[labels.index(str(label))] = BOUNDARY[str(one.attrs["bc_type"])]
        scalars = [np.asarray(data) for data in _in_order(self.file["scalars"]) if not data.attrs.get("time_varying")]
        n = int(self.file.attrs["n_trajectories"])
        columns = [np.broadcast_to(s.reshape(-1), (n,)) for s in scalars]
        self.scalars = torch.from_numpy(np.stack(columns, -1) if columns else np.zeros((n, 0), dtype=np.float32))
        self._fields = [
            (data, rank, bool(data.attrs["sample_varying"]), bool(data.attrs["time_varying"]))
            for rank in range(3)
            for data in _in_order(self.file[f"t{rank}_fields"])
        ]

    def frames(self, trajectory: int, rows: slice) -> NDArray[np.float32]:
        """All fields of some frames, components flattened: [t *space c]."""
        parts = []
        for data, rank, varies, moves in self._fields:
            part = data[trajectory if varies else 0, rows if moves else slice(None)]
            parts.append(part.reshape(*part.shape[: part.ndim - rank], -1) if rank else part[..., None])
        return np.concatenate(parts, -1) if len(parts) > 1 else parts[0]
