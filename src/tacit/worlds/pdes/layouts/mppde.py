"""The layout of MP-PDE (arXiv 2202.03376): `{CE|WE}_{train|valid|test}_{experiment}.h5`.

One group named like the split, datasets in float64: pde_{t}-{x} (n, t, x) at one or more resolutions, with the attributes dt, dx,
nt, nx, tmin, tmax and x; alpha, beta, gamma (n,) for the combined equation, bc_left, bc_right (0 Dirichlet, 1 Neumann) and c (n,)
for the wave equation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.ops.fields import Field, grid_step
from tacit.worlds.pdes.layouts.files import member, opened, read_facts, tensor, write_facts, writing

__all__ = ["STEMS", "Labels", "file_name", "read", "resolutions", "write"]

Labels = Literal["correct", "official"]
STEMS = {"transport": "CE", "wave": "WE"}
_COEFFICIENTS = ("alpha", "beta", "gamma")


def file_name(equation: str, split: str, experiment: str) -> str:
    """The published name: CE_train_E1.h5, WE_valid_WE3.h5."""
    if equation not in STEMS:
        raise UnknownNameError(unknown("equation with MP-PDE files", equation, STEMS))
    return f"{STEMS[equation]}_{split}_{experiment}.h5"


def write(path: Path, fields: Sequence[Field], split: str, labels: Labels = "correct") -> None:
    """One file with the group `split`, a dataset for each field: the same trajectories at several resolutions.

    labels: as in `read`; "official" writes waves backwards in time and the x of the combined equation with both ends of the domain.
    """
    if not fields:
        raise DataError(f"{path}: there is no field to write")
    with writing(path) as file:
        group = file.create_group(split)
        for field in fields:
            wave = field.equation == "wave"
            u = field.values["u"].double().cpu().numpy()
            x, time = field.space[0][0].double().cpu().numpy(), field.time[0].double().cpu().numpy()
            dx = (x[-1] - x[0]) / len(x) if wave else float(grid_step(field.space[0])[0])
            if labels == "official":
                u, x = (u[:, ::-1], x) if wave else (u, np.linspace(0, dx * len(x), len(x)))
            data = group.create_dataset(f"pde_{u.shape[1]}-{u.shape[2]}", data=u)
            span = {"dt": (time[-1] - time[0]) / len(time), "tmin": time[0], "tmax": time[-1]}
            data.attrs.update({**span, "dx": dx, "nt": u.shape[1], "nx": u.shape[2], "x": x})
        known = fields[0].parameters
        if wave:
            for name in ("bc_left", "bc_right"):
                group.create_dataset(name, data=(known[name] > 0).long().cpu().numpy())
            group.create_dataset("c", data=known["speed"].double().cpu().numpy())
        else:
            for name in _COEFFICIENTS:
                group.create_dataset(name, data=known[name].double().cpu().numpy())
        write_facts(file, fields[0])
        file.attrs["labels"] = labels


def resolutions(path: Path, split: str) -> dict[int, int]:
    """The numbers of points that a file holds, finest first, and how many trajectories there are of each."""
    with opened(path) as file:
        group = member(file, split, path)
        found = {int(name.rpartition("-")[2]): len(group[name]) for name in group if name.startswith("pde_")}
    if not found:
        raise DataError(f"{path}: needs a dataset named pde_{{t}}-{{x}}, found {', '.join(group) or 'none'}")
    return dict(sorted(found.items(), reverse=True))


def read(
    path: Path,
    split: str,
    points: int | None = None,
    rows: slice = slice(None),
    labels: Labels = "correct",
) -> Field:
    """The trajectories of a file on `points` points (the finest by default), some `rows` of it.

    The published files give the combined equation an x that holds both ends of the domain, while its solver stepped by
    dx = length / points: on that x advection is too fast by points / (points - 1). "correct" returns x_j = j dx, on which the equation
    holds; "official" returns x as it was written. Waves lie backwards in time in those files and are turned round by "correct".
    A file of `write` says which of the two it holds, so that both come back as they were.
    """
    known = resolutions(path, split)
    points = next(iter(known)) if points is None else points
    if points not in known:
        raise DataError(f"{path} holds {', '.join(map(str, known))} points, not {points}: choose one of them")
    with opened(path) as file:
        group = member(file, split, path)
        (name,) = (one for one in group if one.startswith("pde_") and one.endswith(f"-{points}"))
        u, attributes = tensor(group, name, path, rows), dict(group[name].attrs)
        wave = "c" in group
        ours = str(file.attrs.get("labels", "official")) == "correct"
        facts = read_facts(file, rows) or _facts(group, path, rows, wave)
    x, dx = _axis(attributes, u, wave, ours, path)
    if labels == "correct" and not ours:
        u, x = (u.flip(1), x) if wave else (u, torch.arange(points, dtype=torch.float64) * dx)
    time = torch.linspace(float(attributes["tmin"]), float(attributes["tmax"]), u.shape[1], dtype=torch.float64)
    n = len(u)
    even = torch.arange(points, dtype=torch.float64).expand(n, -1)  # Chebyshev's points are not even, and need not be
    equation = "wave" if wave else "transport"
    field = Field(equation, {"u": u}, time.expand(n, -1).contiguous(), (even,), (not wave,), facts).check()
    return field.replace(space=(x.expand(n, -1).contiguous(),))


def _axis(attributes: Mapping[str, Any], u: Tensor, wave: bool, ours: bool, path: Path) -> tuple[Tensor, float]:
    """x [points] and dx as written, if they and the data belong together."""
    missing = [name for name in ("dx", "tmin", "tmax", "x") if name not in attributes]
    if missing:
        raise DataError(
            f"{path}: the data lack the attribute {missing[0]!r}, they have {', '.join(attributes) or 'none'}"
        )
    x, dx = torch.as_tensor(np.asarray(attributes["x"], dtype=np.float64)), float(attributes["dx"])
    if len(x) != u.shape[2]:
        raise DataError(f"{path}: the domain does not match: x has {len(x)} points, the trajectories have {u.shape[2]}")
    extent = float(x[-1] - x[0])
    expected = extent / (len(x) - 1) if ours and not wave else extent / len(x)
    if abs(dx - expected) > 1e-3 * abs(expected):
        raise DataError(
            f"{path}: the domain does not match: x runs over {extent:g} on {len(x)} points, dx says {dx:g} where"
            f" {expected:g} belongs to it"
        )
    return x, dx


def _facts(group: Any, path: Path, rows: slice, wave: bool) -> dict[str, Tensor]:
    """Coefficients under the names of the worlds "shocks" and "wave": walls are -1 (Dirichlet) or 1 (Neumann)."""
    if not wave:
        return {name: tensor(group, name, path, rows) for name in _COEFFICIENTS}
    walls = {name: 2 * tensor(group, name, path, rows) - 1 for name in ("bc_left", "bc_right")}
    return {**walls, "speed": tensor(group, "c", path, rows)}
