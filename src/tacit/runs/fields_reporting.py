"""What a report shows of solutions of differential equations: fields, films, spectra, conserved quantities, views, errors."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.data.checks import evenly
from tacit.models.features import POOLED
from tacit.ops.fields import Field
from tacit.reports import FieldPictures, Films, Lines, Map, Table, line_frames
from tacit.reports.numbers import short
from tacit.runs import target as targets
from tacit.runs.regressing import Regressed
from tacit.runs.regression_tasks import factors
from tacit.worlds.pdes.invariants import EQUATIONS, conserved

__all__ = ["field_sections", "regression_sections", "regression_words"]

_SHOWN, _PAIRS, _SAID = 6, 6, 4
_ROUNDING = 1e-24  # of the largest power of a spectrum: below it, curves would stretch the axis and say nothing
_MAPPED = 1000
_TIMES = ("first frame", "middle frame", "last frame")


def regression_sections(found: Regressed | None) -> list[Any]:
    """A table for each task, then the published metrics."""
    if found is None:
        return [Table([], absent="The run was not probed: `tacit probe` does it.")]
    tables = [found.table(task) for task in found.tasks]
    return tables + [found.table("plain", metric) for metric in found.published if "plain" in found.tasks]


def regression_words(found: Regressed) -> str:
    """The verdict of the task plain under all labels and under the fewest, in words; coefficients of the equation first."""
    table = found.table(found.tasks[0])
    said: list[str] = []
    for protocol in _foremost(table.protocols):
        row = {r.model: r for r in table.row(protocol) if r is not None}
        if "trained" not in row or not ("linear/all" in protocol or "linear/50-" in protocol):
            continue
        others = ", ".join(
            f"{table.style.plain(r.value)} {name}" for name, r in row.items() if name not in ("trained", "constant")
        )
        mark = table.clearly_best(protocol)
        clear = "" if mark is None else f"; clearly best: {mark.model}"
        said.append(f"{protocol} {table.style.cell(row['trained'])}" + (f" ({others}{clear})" if others else ""))
    more = "; the rest is in the first table" if len(said) > _SAID else ""
    return (
        f"Share of the variance left unexplained: {'; '.join(said[:_SAID])}{more}."
        if said
        else "Nothing was measured yet."
    )


def field_sections(found: targets.Target) -> list[Any]:
    """Pictures, films, spectra and conserved quantities of a few trajectories; their views; a map of the representation."""
    source: Any = found.source()
    chosen = evenly(len(source), _SHOWN).tolist()
    sections: list[Any] = []
    for field in source.fields(chosen):
        sections += _of_field(field)
    return [*sections, _views(found), _map(found)]


def _of_field(field: Field) -> list[Any]:
    captions = _captions(field)
    name = field.equation
    line = len(field.space) == 1
    pictures: dict[str, Any]
    films: dict[str, Any]
    if line:
        pictures = {key: u.flip(1) for key, u in field.values.items()}  # time upwards
        lead = "Each picture is one trajectory: space to the right, time upwards."
        films = {key: line_frames(u) for key, u in field.values.items()}
        ends = (f"{key} from {float(u.min()):.3g} to {float(u.max()):.3g}" for key, u in field.values.items())
        film_lead = f"The same trajectories as graphs over space, frame by frame: {', '.join(ends)}."
    else:
        at = [0, field.time.shape[1] // 2, field.time.shape[1] - 1]
        pictures = {f"{key}, {when}": _upright(u[:, k]) for key, u in field.values.items() if key != "p"
                    for when, k in zip(_TIMES, at, strict=True)}  # fmt: skip
        lead = "Each column is one trajectory: x to the right, y upwards."
        films = {key: _upright(u) for key, u in field.values.items() if key in ("s", "vx", "vy")}
        film_lead = "The same trajectories in time."
    return [
        FieldPictures(pictures, title=f"Solutions of {name}", lead=lead, captions=captions),
        Films(films, title=f"Films of {name}", lead=film_lead, captions=captions, graphs=line),
        Lines(
            _spectra(field), title=f"Spectra of {name}", xlabel="wave number", log=True,
            lead="Power by wave number, mean over the trajectories shown. A steep fall says that the grid resolves the field.",
        ),
        Lines(_quantities(field), title=f"Quantities of {name} over time", xlabel="time", lead=_QUANTITIES),
    ]  # fmt: skip


_QUANTITIES = (
    "What the equation conserves, as its change since the first frame relative to the size of the field; then the mean square of "
    "each field relative to its first, which need not stay."
)


def _foremost(names: Iterable[str]) -> list[str]:
    """Coefficients of the equation before the amplitudes of the start's modes."""
    return sorted(names, key=lambda name: name.startswith("mode_"))


def _upright(u: Tensor) -> Tensor:
    """[... x y] as pictures: y upwards, x to the right."""
    return u.transpose(-1, -2).flip(-2)


def _captions(field: Field) -> list[str]:
    known = [
        k
        for k, v in field.parameters.items()
        if v.ndim == 1 and k not in ("length", "horizon", "step") and not k.startswith("drift_")
    ]
    shown = _foremost(known)[:2]
    return [", ".join(f"{k} {short(float(field.parameters[k][i]))}" for k in shown) for i in range(len(field))]


def _spectra(field: Field) -> dict[str, dict[str, tuple[Any, Any]]]:
    at = [0, field.time.shape[1] // 2, field.time.shape[1] - 1]
    panels = {}
    for name, u in field.values.items():
        curves = {}
        for when, k in zip(_TIMES, at, strict=True):
            frame = u[:, k].double()
            power = torch.fft.rfft(frame, dim=-1).abs().square() / frame.shape[-1] ** 2
            power = power.mean(dim=tuple(range(power.ndim - 1)))[1:]
            power = power.where(power > _ROUNDING * power.max(), torch.nan)  # dealiased modes are nothing but rounding
            curves[when] = (np.arange(1, len(power) + 1), power.numpy())
        panels[name] = curves
    return panels


def _quantities(field: Field) -> dict[str, dict[str, tuple[Any, Any]]]:
    panels: dict[str, dict[str, tuple[Any, Any]]] = {}
    size = torch.ones_like(field.time[:, 0])
    for length in field.lengths:
        size = size * length
    square = torch.stack([v[:, 0].square().flatten(1).mean(1) for v in field.values.values()]).sum(0)
    scale = size * square.sqrt().clamp_min(1e-12)
    kept = conserved(field) if field.equation in EQUATIONS else {}  # files may hold any other
    for name, q in kept.items():
        panels[f"change of {name}"] = _each(field, (q - q[:, :1]) / scale.unsqueeze(1))
    for name, u in field.values.items():
        mean = u.double().square().flatten(2).mean(2)
        panels[f"mean square of {name}"] = _each(field, mean / mean[:, :1].clamp_min(1e-12))
    return panels


def _each(field: Field, q: Tensor) -> dict[str, tuple[Any, Any]]:
    return {f"trajectory {i + 1}": (field.time[i].numpy(), q[i].double().numpy()) for i in range(min(len(q), 4))}


def _views(found: targets.Target) -> FieldPictures:
    """The first channels of the plain crop and of the two views of a few samples."""
    source = found.source()
    chosen = evenly(len(source), _PAIRS)
    batch = source.read(chosen)
    made = found.views(batch, found.recipe.seed, 0)
    plain = torch.as_tensor(found.views.plain(batch).views["image"].data)
    line = len(source.facts.shape or ()) == 2
    channels = dict(enumerate(("u", "x", "t"))) if line else _plane_channels(plain.shape[1])
    rows: dict[str, Tensor] = {}
    for c, name in channels.items():
        shown = {"plain": plain, **{view: torch.as_tensor(v.data) for view, v in made.views.items()}}
        for view, x in shown.items():
            rows[f"{name}, {view}"] = x[:, c].flip(1) if line else _upright(x[:, c])
    return FieldPictures(
        rows,
        title="What the encoder is told to ignore",
        lead=f"Channels of each crop ({', '.join(channels.values())}{'' if line else ' of the first frame'}), as the encoder sees them:"
        " not moved, and moved by two random elements of the symmetry group.",
        captions=[""] * len(chosen),
    )


def _plane_channels(channels: int) -> dict[int, str]:
    """The first frame of x, vx and vy of [5t x y]."""
    frames = channels // 5
    return {0: "x", 3 * frames: "vx", 4 * frames: "vy"}


def _map(found: targets.Target) -> Map:
    """The first two principal components, coloured by the quarter in which the foremost factor lies."""
    source: Any = found.source()
    z = found.features(source).layers[POOLED].double()
    at = torch.from_numpy(evenly(len(z), _MAPPED))
    known = {name: v for name, v in factors(source).items() if bool(v.isfinite().all())}
    centred = z - z.mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors.flip(1)[:, :2]
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    points = (centred @ axes)[at]
    method = "The first two principal components of the learned features."
    if not known:
        return Map(points, method=method)
    name = _foremost(known)[0]
    values = known[name]
    edges = values.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype))
    ends = [float(values.min()), *edges.tolist(), float(values.max())]
    classes = [f"{short(a)} to {short(b)}" for a, b in pairwise(ends)]
    labels = torch.bucketize(values, edges)[at]
    lead = f"Each dot is one trajectory, its colour the quarter in which its {name} lies."
    return Map(points, lead=lead, labels=labels, classes=classes, method=method, named=False)
