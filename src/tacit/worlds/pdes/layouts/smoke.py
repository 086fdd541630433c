"""The smoke files of PDEArena (arXiv 2209.15616), which are the data of SSLForPDEs (arXiv 2307.05432).

`NavierStokes2D_{mode}_{seed}_{buoyancy:.5f}[_{n} only for train].h5`, one group named like the mode, all float64:
u, vx, vy (n, t, x, y), t (n, t), dt (n,), x (n, x), dx (n,), y, dy, buo_y (n,). Axis 2 is x, axis 3 is y. u is the smoke.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.fields import Field, grid_step
from tacit.worlds.pdes.layouts.files import member, opened, read_facts, tensor, uniform_axis, write_facts, writing

__all__ = ["Name", "files", "read", "write"]

_PATTERN = re.compile(r"NavierStokes2D_(train|valid|test)_(\d+)_(\d+\.\d+)(?:_(\d+))?\.h5")
_OFFSETS = {"train": 100, "valid": 200, "test": 300}
Labels = Literal["correct", "official"]


@dataclass(frozen=True)
class Name:
    """What a file name says. The seed in it is the base seed + 100, 200 or 300 for train, valid, test."""

    split: str
    seed: int
    buoyancy: float
    count: int | None = None

    def __str__(self) -> str:
        tail = f"_{self.count}" if self.split == "train" else ""
        return f"NavierStokes2D_{self.split}_{self.seed + _OFFSETS[self.split]}_{self.buoyancy:.5f}{tail}.h5"

    @classmethod
    def parse(cls, name: str) -> Name | None:
        """The parts of a file name, or None if it is not one of these files."""
        found = _PATTERN.fullmatch(name)
        if found is None:
            return None
        split, seed, buoyancy, count = found.groups()
        return cls(split, int(seed) - _OFFSETS[split], float(buoyancy), int(count) if count else None)


def files(folder: Path, split: str) -> list[Path]:
    """The files of a split, by name alone (the folder may be called anything), in full order of their names."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: give the folder that holds the NavierStokes2D_*.h5 files")
    parsed = ((path, Name.parse(path.name)) for path in sorted(folder.iterdir()))
    found = [path for path, name in parsed if name is not None and name.split == split]
    if not found:
        raise DataError(f"{folder} has no file NavierStokes2D_{split}_*.h5: give the folder that holds them")
    return found


def write(path: Path, field: Field, split: str, attributes: dict[str, str] | None = None) -> None:
    """One file of the published form. Coordinates are written as the field has them."""
    datasets: dict[str, Tensor] = {
        "u": field.values["s"],
        "vx": field.values["vx"],
        "vy": field.values["vy"],
        "t": field.time,
        "dt": field.parameters.get("step", grid_step(field.time)),
        "x": field.space[0],
        "dx": grid_step(field.space[0]),
        "y": field.space[1],
        "dy": grid_step(field.space[1]),
        "buo_y": field.parameters["buoyancy"],
    }
    with writing(path) as file:
        group = file.create_group(split)
        for name, value in datasets.items():
            group.create_dataset(name, data=value.double().cpu().numpy())
        write_facts(file, field)
        file.attrs.update({"equation": field.equation, **(attributes or {})})


def read(
    path: Path,
    split: str | None = None,
    rows: slice = slice(None),
    labels: Labels = "correct",
    dt: float = 1.5,
    viscosity: float = 0.01,
) -> Field:
    """The trajectories of a file.

    labels: the published files write x = linspace(0, L), although values sit at cell centres (i + 1/2) L / N, and a
    time from 18 to 102, although the first frame is step 9 of `dt` and the others follow at the file's own dt;
    "correct" mends both, "official" keeps them.
    Files written here with correct labels are the same either way. A buoyancy that contradicts the file name is refused: some
    copies of the data were made with 0.5 throughout.
    """
    with opened(path) as file:
        groups = [name for name in file if name in _OFFSETS]
        if split is None and len(groups) != 1:
            raise DataError(f"{path} holds {len(groups)} splits ({', '.join(groups) or 'none'}): say which")
        group = member(file, split or groups[0], path)
        values = {name: tensor(group, key, path, rows) for name, key in (("s", "u"), ("vx", "vx"), ("vy", "vy"))}
        time, step = tensor(group, "t", path, rows), tensor(group, "dt", path, rows)
        published = bool((time[:, 0] == 18).all() and (time[:, -1] == 102).all())  # labels that ignore dt
        uniform_axis(time, grid_step(time) if published else step, "t", path)
        space = [uniform_axis(tensor(group, a, path, rows), tensor(group, f"d{a}", path, rows), a, path) for a in "xy"]
        buoyancy = tensor(group, "buo_y", path, rows)
        facts = read_facts(file, rows)
    name = Name.parse(path.name)
    if name is not None and bool(((buoyancy - name.buoyancy).abs() > 2e-5).any()):
        raise DataError(
            f"{path}: its name says buoyancy {name.buoyancy:g}, its data {float(buoyancy[0]):g}:"
            " this copy was made before the generator was mended, fetch or make it again"
        )
    if labels == "correct" and float(space[0][0, 0]) == 0:
        time, space = _mended(time, step, space, dt)
    parameters = {"viscosity": torch.full_like(buoyancy, viscosity), **facts, "buoyancy": buoyancy}
    stagger = {"vx": (-0.5, 0.0), "vy": (0.0, -0.5)}
    return Field("smoke", values, time, tuple(space), (False, False), parameters, stagger).check()


def _mended(time: Tensor, step: Tensor, space: list[Tensor], dt: float) -> tuple[Tensor, list[Tensor]]:
    """Cell centres in place of linspace(0, L), and the time that was simulated."""
    mended = []
    for x in space:
        points = x.shape[1]
        centres = (torch.arange(points, dtype=x.dtype) + 0.5) / points
        mended.append(centres * x[:, -1:])
    frames = torch.arange(time.shape[1], dtype=time.dtype) * step.unsqueeze(1)
    return 9 * dt + frames, mended
