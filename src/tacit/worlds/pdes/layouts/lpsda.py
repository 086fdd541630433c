"""The layout of LPSDA (arXiv 2202.07643) and of PDEArena's Kuramoto-Sivashinsky files.

`{KdV|KS|Heat}_{train_{n}|valid|test}[_{suffix}].h5`, one group named like the split, datasets in float64:
pde_{t}-{x} (n, t, x), x (n, x), dx (n,), t (n, t), dt (n,), and v (n,) where the viscosity varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.ops.fields import Field, grid_step
from tacit.worlds.pdes.layouts.files import member, opened, read_facts, tensor, uniform_axis, write_facts, writing

__all__ = ["STEMS", "burgers_of_file", "file_name", "join", "read", "write"]

STEMS = {"kdv": "KdV", "ks": "KS", "heat": "Heat", "burgers": "Burgers"}
"""How the files of an equation begin. The published Burgers data are Heat files, converted when they are read."""


def file_name(equation: str, split: str, count: int, suffix: str = "") -> str:
    """The published name; only the training split carries its size."""
    if equation not in STEMS:
        raise UnknownNameError(unknown("equation with LPSDA files", equation, STEMS))
    size = f"_{count}" if split == "train" else ""
    return f"{STEMS[equation]}_{split}{size}{'_' + suffix if suffix else ''}.h5"


def write(path: Path, field: Field, split: str, attributes: dict[str, str] | None = None) -> None:
    """One file with the group `split`. `attributes` go to the root of the file."""
    (u,) = field.values.values()
    x = field.space[0]
    with writing(path) as file:
        group = file.create_group(split)
        group.create_dataset(f"pde_{u.shape[1]}-{u.shape[2]}", data=u.double().cpu().numpy())
        rows = {"x": x, "dx": grid_step(x), "t": field.time, "dt": grid_step(field.time)}
        if field.equation == "ks" and "viscosity" in field.parameters:
            rows["v"] = field.parameters["viscosity"]
        for name, value in rows.items():
            group.create_dataset(name, data=value.double().cpu().numpy())
        write_facts(file, field)
        file.attrs.update({"equation": field.equation, **(attributes or {})})


def join(path: Path, parts: Sequence[Path], attributes: dict[str, str]) -> None:
    """The files `parts`, of one grid, one after another in one file; no more than one of them is in memory at a time."""
    with ExitStack() as stack:
        files = [stack.enter_context(opened(part)) for part in parts]
        with writing(path) as whole:
            for group in files[0]:
                target = whole.create_group(group)
                for name in files[0][group]:
                    rows = [len(file[group][name]) for file in files]
                    data = target.create_dataset(
                        name, shape=(sum(rows), *files[0][group][name].shape[1:]), dtype=files[0][group][name].dtype
                    )
                    start = 0
                    for file, n in zip(files, rows, strict=True):
                        data[start : start + n] = file[group][name][...]
                        start += n
            whole.attrs.update(attributes)


def read(path: Path, equation: str, split: str | None = None, rows: slice = slice(None)) -> Field:
    """The trajectories of a file (some `rows` of it). split: the group, by default the only one.

    Failed solves that the published generator leaves as rows of zeros are refused by name.
    """
    with opened(path) as file:
        groups = [name for name in file if name in ("train", "valid", "test")]
        if split is None and len(groups) != 1:
            raise DataError(f"{path} holds {len(groups)} splits ({', '.join(groups) or 'none'}): say which")
        group = member(file, split or groups[0], path)
        keys = [name for name in group if name.startswith("pde_")]
        if len(keys) != 1:
            raise DataError(f"{path}: needs one dataset named pde_{{t}}-{{x}}, found {', '.join(keys) or 'none'}")
        u = tensor(group, keys[0], path, rows)
        x = uniform_axis(tensor(group, "x", path, rows), tensor(group, "dx", path, rows), "x", path)
        t = uniform_axis(tensor(group, "t", path, rows), tensor(group, "dt", path, rows), "t", path)
        parameters = read_facts(file, rows)
        if "v" in group:
            parameters["viscosity"] = tensor(group, "v", path, rows)
    empty = (u == 0).flatten(1).all(1)
    if bool(empty.any()):
        raise DataError(
            f"{path}: {int(empty.sum())} trajectories are all zero (their solve had failed), the first is"
            f" {int(empty.nonzero()[0])}: leave them out by rows"
        )
    name = "psi" if equation == "heat" else "u"
    return Field(equation, {name: u}, t, (x,), (True,), parameters).check()


def burgers_of_file(u: Tensor, length: Tensor, viscosity: Tensor) -> Tensor:
    """True Burgers velocity of the field that the published code calls Burgers: u = -(400 nu^2 / L) u_file.

    That code differentiates by x / L with the sign flipped, divides by 2 nu where it should multiply, and by 100.
    """
    factor = -400 * viscosity**2 / length
    return u * factor.reshape(-1, *(1,) * (u.ndim - 1)).to(torch.float64)
