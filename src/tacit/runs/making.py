"""Data sets of differential equations: made in shards by any engine, restartable, in the published layouts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tacit.core import parts
from tacit.core.errors import RecipeError, RunError, UnknownNameError, unknown
from tacit.core.spec import Spec, plain
from tacit.training.engine import Job, Outcome, run_jobs
from tacit.worlds.pdes import making
from tacit.worlds.pdes.layouts.files import opened, read_facts
from tacit.worlds.pdes.layouts.zarrs import attribute, to_zarr

__all__ = ["Made", "make_pde"]

_SHARD = {"smoke": 32, "vortex": 32, "transport": 64}  # trajectories: a shard is seconds to minutes of work
_LINE = 256
_BLOWN = ("blew up", "is not resolved")  # how the solvers name them


@dataclass(frozen=True)
class Made:
    """A finished data set. drift: the largest relative drift of each conserved quantity over all trajectories."""

    files: list[str]
    count: int
    shards: int
    kept: int
    drift: dict[str, float]
    seconds: float

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "blow_ups": 0}

    def text(self) -> str:
        """For people."""
        drift = ", ".join(f"{name} {value:.1e}" for name, value in self.drift.items()) or "the equation has none"
        shown = self.files if len(self.files) < 4 else [*self.files[:2], f"... {len(self.files)} files in all"]
        kept = f", {self.kept} of them from an earlier start" if self.kept else ""
        return "\n".join(
            (
                f"{self.count:,} trajectories in {self.shards} shards{kept}, {self.seconds:.1f} s, no blow-up",
                f"largest drift of conserved quantities: {drift}",
                *shown,
            )
        )


def make_pde(
    kind: str,
    settings: Iterable[str] = (),
    *,
    count: int,
    out: str | Path,
    split: str = "train",
    seed: int = 0,
    layout: str | None = None,
    shard: int | None = None,
    engine: str = "local",
    device: str = "cpu",
    suffix: str = "",
    quiet: bool = False,
) -> Made:
    """Make `count` trajectories of the world `kind` (settings `name=value`) under `out`; the same call continues one that stopped.

    layout: lpsda, pdearena, well, or zarr (a Zarr copy of the world's own layout); by default the world's own. Trajectory i
    depends on (seed, split, i) alone, so neither the engine nor the shards change a number, and a larger count adds to a set.
    """
    if kind not in parts.kinds("world"):
        raise UnknownNameError(unknown("equation", kind, parts.kinds("world")))
    world = Spec("world", kind, **_read(settings)).resolve(f"make pde {kind}")
    if split not in ("train", "valid", "test"):
        raise UnknownNameError(unknown("split", split, ("train", "valid", "test")))
    fits = making.layouts_of(kind)
    if layout not in (None, "zarr", *fits):
        raise RecipeError(f"--layout {layout}: world {kind!r} can be written as {', '.join((*fits, 'zarr'))}")
    form: Any = fits[0] if layout in (None, "zarr") else layout
    size = _SHARD.get(kind, _LINE) if shard is None else shard
    chosen: Any = split
    job = making.Job(world, count, chosen, seed, size, form, device)
    folder = Path(out)
    making.refuse_other_settings(job, folder)
    outcomes = _run(job, folder, engine, quiet)
    failed = [outcome for outcome in outcomes if outcome.value is None]
    if failed:
        raise RunError(_failures(failed, len(outcomes)))
    files = making.finish(job, folder, suffix)
    if layout == "zarr":
        files = [_copied(path, folder) for path in files]
    drift: dict[str, float] = {}
    for outcome in outcomes:
        for name, value in outcome.value["drift"].items():
            drift[name] = max(drift.get(name, 0.0), value)
    return Made(
        files=[str(path) for path in files],
        count=count,
        shards=len(outcomes),
        kept=sum(outcome.state == "kept" for outcome in outcomes),
        drift=drift,
        seconds=round(sum(outcome.seconds for outcome in outcomes if outcome.state == "done"), 3),
    )


def _read(settings: Iterable[str]) -> dict[str, Any]:
    """`name=value` texts as settings of the world."""
    found = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RecipeError(f"{text!r}: a setting of the equation reads name=value, for example viscosity=[0.01,0.1]")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{name}: {value!r} cannot be read as a value") from error
    return found


def _run(job: making.Job, folder: Path, engine: str, quiet: bool) -> list[Outcome]:
    arguments = {
        "world": {"kind": job.world.kind, "settings": {n: plain(v) for n, v in job.world.items()}},
        "job": {name: getattr(job, name) for name in ("count", "split", "seed", "size", "layout", "device")},
        "folder": str(folder.resolve()),
    }
    notes = folder / "jobs"
    jobs = []
    for k in range(job.shards):
        name = f"{job.world.kind}-{job.layout}-{job.split}-{k:05d}"
        if not making.shard_path(job, folder, k).exists():
            (notes / f"{name}.json").unlink(missing_ok=True)  # the note of a shard that was removed since
        jobs.append(Job(name, {**arguments, "shard": k}))
    start = time.perf_counter()

    def say(done: int, total: int, outcome: Outcome) -> None:
        left = (time.perf_counter() - start) / done * (total - done)
        print(f"{done}/{total} {outcome.state} {outcome.name}, about {left:.0f} s left", flush=True)

    return run_jobs(_shard, jobs, engine=engine, folder=notes, progress=None if quiet else say)


def _shard(world: Mapping[str, Any], job: Mapping[str, Any], folder: str, shard: int) -> dict[str, Any]:
    """One shard, in whatever process: its path and the largest drift of what its equation conserves."""
    spec = Spec("world", world["kind"], **world["settings"])
    path = making.generate(making.Job(spec, **job), Path(folder), shard)
    with opened(path) as file:
        facts = read_facts(file)
    drift = {n.removeprefix("drift_"): float(v.max()) for n, v in facts.items() if n.startswith("drift_")}
    return {"path": str(path), "drift": drift}


def _copied(path: Path, folder: Path) -> Path:
    """The Zarr copy of a finished file; one of an earlier start is kept if it is of the same file."""
    target = folder / f"{path.stem}.zarr"
    if target.exists():
        with opened(path) as file:
            if attribute(target, "tacit_digest") == file.attrs["tacit_digest"]:
                return target
    return to_zarr(path, folder)


def _failures(failed: list[Outcome], total: int) -> str:
    blown = sum(any(word in outcome.error for word in _BLOWN) for outcome in failed)
    named = f", {blown} of them because a trajectory blew up or was not resolved" if blown else ""
    lines = [outcome.error for outcome in failed[:3]]
    more = f"\nand {len(failed) - 3} more" if len(failed) > 3 else ""
    head = f"{len(failed)} of {total} shards were not made{named}; the finished ones are kept"
    return "\n".join((head, *lines)) + more
