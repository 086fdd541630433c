"""Look at data, and read them whole (`tacit data inspect`, `tacit data verify`): trajectories of equations, and all other kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.data import inspection, verification
from tacit.data.checks import content_hash, evenly
from tacit.data.episode_reports import EpisodeReport, EpisodeVerification
from tacit.worlds.pdes.layouts import lpsda, mppde, smoke
from tacit.worlds.pdes.source import StoredTrajectories

__all__ = ["FieldReport", "FieldSet", "inspect", "recognise_fields", "verify"]

_SPLITS = ("train", "valid", "test")
_LOOKED_AT = 64
_KIND = "pde-files"


def inspect(path: str, kind: str | None = None) -> inspection.Report | EpisodeReport | FieldReport:
    """A report on every split at `path`, or on 'digits'; kind: read it as this source."""
    sets = recognise_fields(path) if kind in (None, _KIND) else ()
    if sets or kind == _KIND:
        return _inspected(path, _some(path, sets))
    where, kind = _named(path, kind)
    return inspection.inspect(where, kind=kind)


def verify(
    path: str, kind: str | None = None, progress: Callable[[int, int], None] | None = None
) -> verification.Verification | EpisodeVerification:
    """Read all at `path`; `progress(done, total)`. kind: read it as this source."""
    sets = recognise_fields(path) if kind in (None, _KIND) else ()
    if sets or kind == _KIND:
        return _verified(path, _some(path, sets), progress)
    where, kind = _named(path, kind)
    return verification.verify(where, kind=kind, progress=progress)


def _named(path: str, kind: str | None) -> tuple[str | None, str | None]:
    """'digits' is a kind of data, not a path."""
    return (None, "digits") if path == "digits" else (path, kind)


def _some(path: str, sets: tuple[FieldSet, ...]) -> tuple[FieldSet, ...]:
    if not sets:
        raise DataError(
            f"{path}: no files of trajectories; looked for {', '.join(lpsda.STEMS.values())}, {', '.join(mppde.STEMS.values())} and"
            " NavierStokes2D files of a split (KdV_train_10000.h5), and data/SPLIT/*.hdf5 of The Well"
        )
    return sets


@dataclass(frozen=True)
class FieldSet:
    """Files of one equation that `pde-files` reads, and the settings to read them with."""

    layout: str
    splits: tuple[str, ...]
    settings: dict[str, Any]

    def source(self, split: str) -> StoredTrajectories:
        """The trajectories of a split; nothing is kept in memory."""
        return StoredTrajectories(**self.settings, layout=self.layout, split=split, memory=0)  # type: ignore[arg-type]


@dataclass(frozen=True)
class FieldReport:
    """What `tacit data inspect` shows of trajectories; parameters: lowest and highest of those looked at, of the first split."""

    kind: str
    path: str
    sets: tuple[dict[str, Any], ...]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        lines = []
        for one in self.sets:
            settings = {"layout": one["layout"], **one["settings"]}
            reading = " ".join(f"data.{name}={value}" for name, value in settings.items() if name != "path")
            lines.append(f"{self.path}: {one['equation']} (data={self.kind} {reading})")
            grid = " x ".join(map(str, one["shape"]))
            sides = ", ".join(f"{side:g}" for side in one["lengths"])
            lines.append(
                f"  {', '.join(one['components'])} on {grid} (time, space); {one['duration']:g} long, domain {sides}"
            )
            for name, (low, high) in one["parameters"].items():
                lines.append(f"  {name}: {low:.4g}" + (f" to {high:.4g}" if high > low else " throughout"))
            lines.extend(f"  {split}: {count} trajectories" for split, count in one["splits"].items())
        return "\n".join(lines)


def recognise_fields(path: str | Path) -> tuple[FieldSet, ...]:
    """The sets of trajectories at a folder or file; empty where there are none. Only names are looked at."""
    root = Path(path)
    if root.is_dir():
        names = [one.name for one in root.iterdir() if one.suffix in (".h5", ".hdf5")]
    else:
        names = [root.name] if root.suffix in (".h5", ".hdf5") else []
    return tuple(_sets(root, names))


def _sets(root: Path, names: list[str]) -> Iterator[FieldSet]:
    here = {"path": str(root)}
    for equation, stem in lpsda.STEMS.items():
        if splits := _of(stem, names):
            yield FieldSet("lpsda", splits, {**here, "equation": equation})
    several = {split for stem in mppde.STEMS.values() for split in _of(stem, names)}
    if several:
        yield FieldSet("mp-pde", tuple(split for split in _SPLITS if split in several), here)
    parsed = [smoke.Name.parse(name) for name in names]
    if any(parsed) and root.is_dir():
        yield FieldSet("pdearena", tuple(s for s in _SPLITS if any(name and name.split == s for name in parsed)), here)
    if splits := tuple(s for s in _SPLITS if any((root / "data" / s).glob("*.h*5"))):
        yield FieldSet("well", splits, here)


def _of(stem: str, names: list[str]) -> tuple[str, ...]:
    return tuple(s for s in _SPLITS if any(name.startswith((f"{stem}_{s}_", f"{stem}_{s}.")) for name in names))


def _inspected(path: str | Path, sets: Iterable[FieldSet]) -> FieldReport:
    """A report on every set; reads the sizes of all files and some trajectories of the first split."""
    found = []
    for one in sets:
        sources = {split: one.source(split) for split in one.splits}
        first = next(iter(sources.values()))
        field = first.fields([int(i) for i in evenly(len(first), _LOOKED_AT)])[0]
        numbers = {name: value for name, value in field.parameters.items() if value.ndim == 1}
        found.append(
            {
                "layout": one.layout,
                "settings": one.settings,
                "equation": field.equation,
                "components": list(field.values),
                "shape": list(first.facts.shape or ()),
                "duration": float((field.time[:, -1] - field.time[:, 0]).mean()),
                "lengths": [float(length.mean()) for length in field.lengths],
                "parameters": {name: [float(v.min()), float(v.max())] for name, v in numbers.items()},
                "splits": {split: len(source) for split, source in sources.items()},
                "digests": {split: source.digest() for split, source in sources.items()},
            }
        )
    return FieldReport(_KIND, str(path), tuple(found))


def _verified(
    path: str | Path, sets: Iterable[FieldSet], progress: Callable[[int, int], None] | None = None
) -> EpisodeVerification:
    """Read every trajectory: what is cut short, not finite, has gaps in time or a domain that does not match; what two splits share."""
    faults: list[str] = []
    notes: list[str] = []
    sources: dict[str, StoredTrajectories] = {}
    for one in sets:
        name = f"{one.settings['equation']} " if "equation" in one.settings else ""
        for split in one.splits:
            try:
                sources[f"{name}{split}"] = one.source(split)
            except DataError as error:
                faults.append(f"{name}{split}: {error}")
    total, done = sum(map(len, sources.values())), 0
    counts = dict.fromkeys(sources, 0)
    places: dict[bytes, str] = {}
    for split, source in sources.items():
        values: dict[str, list[Tensor]] = {}
        for i in range(len(source)):
            done += 1
            try:
                field = source.fields([i])[0]
            except (DataError, OSError) as error:
                faults.append(f"{split} {i}: {error}")
                continue
            finally:
                if progress is not None:
                    progress(done, total)
            counts[split] += 1
            for name, value in field.parameters.items():
                if value.ndim == 1:
                    values.setdefault(name, []).append(value)
            mark = content_hash(torch.stack(list(field.values.values())).numpy())
            here = f"{split} {i}"
            if (other := places.setdefault(mark, here)) != here:
                leak = other.rpartition(" ")[0] != split
                (faults if leak else notes).append(
                    f"{here} is {other} again" + (": the splits share it" if leak else "")
                )
        seen = {name: torch.cat(parts) for name, parts in values.items()}
        broken = [f"{name} in {int((~v.isfinite()).sum())}" for name, v in seen.items() if not bool(v.isfinite().all())]
        if broken:
            faults.append(f"{split}: parameters are not finite in some trajectories: {', '.join(broken)}")
        alike = [f"{name} {float(v[0]):g}" for name, v in seen.items() if len(v) > 1 and bool((v == v[0]).all())]
        if alike:
            notes.append(f"{split}: the same in every trajectory, so nothing can be learned of it: {', '.join(alike)}")
    return EpisodeVerification(_KIND, str(path), counts, tuple(faults), tuple(notes), what="trajectories")
