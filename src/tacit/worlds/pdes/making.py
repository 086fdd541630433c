"""Making data sets in shards: idempotent, restartable, the same bits whatever the number of workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tacit.core.errors import DataError
from tacit.core.random import key
from tacit.core.spec import Spec, plain
from tacit.ops.fields import Field
from tacit.worlds.pdes import draws
from tacit.worlds.pdes.invariants import drift
from tacit.worlds.pdes.layouts import lpsda, smoke, well
from tacit.worlds.pdes.layouts.files import opened

__all__ = ["Job", "finish", "generate", "layouts_of", "refuse_other_settings", "shard_path", "trajectories"]

_BATCH = {"burgers": 8}  # trajectories at a time on a CPU: what stays in its cache
_CELLS = {"smoke": 128**2, "vortex": 4 * 64**2}  # of the plane at a time
_DEFAULT_BATCH = 64


def layouts_of(kind: str) -> tuple[str, ...]:
    """The published layouts that can hold a world, its own first."""
    own = {"smoke": ("pdearena",)} | dict.fromkeys(lpsda.STEMS, ("lpsda",))
    return (*own.get(kind, ()), "well")


@dataclass(frozen=True)
class Job:
    """What to make: `count` trajectories of a world, split into shards of `size`, in a published layout.

    layout: "lpsda" (one file in the end), "pdearena" (every shard is a published file whose trajectories share one
    buoyancy), "well" (every shard is a file of The Well). Trajectory i of a split depends on (seed, split, i) alone.
    """

    world: Spec
    count: int
    split: Literal["train", "valid", "test"] = "train"
    seed: int = 0
    size: int = 32
    layout: Literal["lpsda", "pdearena", "well"] = "lpsda"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 1:
            raise DataError(
                f"needs at least one trajectory and one a shard, found count={self.count}, size={self.size}"
            )
        if self.layout not in layouts_of(self.world.kind):
            fits = " or ".join(repr(name) for name in layouts_of(self.world.kind))
            raise DataError(f"world {self.world.kind!r} has no {self.layout!r} layout: use {fits}")
        jitter = self.world.resolve().get("jitter", 0.0)
        if self.layout == "well" and jitter > 0:
            raise DataError(
                f"The Well has one set of axes a file, and with jitter={jitter:g} every trajectory of {self.world.kind!r} has"
                " its own: set jitter=0, or use another layout"
            )

    @property
    def shards(self) -> int:
        """How many shards there are: `generate` takes 0 .. shards - 1."""
        return -(-self.count // self.size)

    def indices(self, shard: int) -> range:
        """The trajectories of a shard."""
        if not 0 <= shard < self.shards:
            raise DataError(
                f"shard {shard} does not exist: {self.count} trajectories make shards 0 to {self.shards - 1}"
            )
        return range(shard * self.size, min((shard + 1) * self.size, self.count))

    def digest(self) -> str:
        """Changes with whatever changes the numbers (not with `count`, so that a set may grow, nor with the device)."""
        parts = [plain(self.world.resolve()), self.split, self.seed, self.size, self.layout]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def trajectories(world: Spec, seed: int, indices: Sequence[int], device: str = "cpu", **known: float) -> Field:
    """Trajectories in batches that fit the cache (on a CPU), joined. `known` goes to the world (buoyancy)."""
    built = world.build()
    batch = len(indices)
    if device == "cpu" and world.kind in _CELLS:
        batch = max(1, _CELLS[world.kind] // built.settings["points"] ** 2)
    elif device == "cpu":
        batch = _BATCH.get(world.kind, _DEFAULT_BATCH)
    parts = [built.generate(seed, indices[at : at + batch], device, **known) for at in range(0, len(indices), batch)]
    return Field.join(parts)


def _buoyancy(job: Job, shard: int) -> float:
    """The one of a published smoke file, drawn for each file."""
    low, high = job.world.resolve()["buoyancy"]
    return round(float(draws.uniform(key(job.seed, job.split), [shard], "file buoyancy", low, high)[0]), 5)


def shard_path(job: Job, folder: Path, shard: int) -> Path:
    """Where `generate` puts a shard."""
    if job.layout == "pdearena":
        count = len(job.indices(shard))
        return folder / str(smoke.Name(job.split, job.seed + 1000 * shard, _buoyancy(job, shard), count))
    if job.layout == "well":
        return folder / job.world.kind / "data" / job.split / f"{job.world.kind}_{shard:05d}.hdf5"
    return folder / "shards" / f"{job.world.kind}-{job.split}-{shard:05d}.h5"


def _made(job: Job, path: Path, count: int) -> bool:
    """Whether the shard at `path` is there, of these settings and complete; other settings are refused."""
    if not path.exists():
        return False
    with opened(path) as file:
        found = str(file.attrs.get("tacit_digest", ""))
    if found.partition("-")[0] != job.digest():
        raise DataError(f"{path} was made from other settings: choose another folder or remove it")
    return found == f"{job.digest()}-{count}"


def refuse_other_settings(job: Job, folder: Path) -> None:
    """An error if the folder holds a shard of this name that was made from other settings."""
    for shard in range(job.shards):
        _made(job, shard_path(job, folder, shard), len(job.indices(shard)))


def generate(job: Job, folder: Path, shard: int) -> Path:
    """Make one shard, unless it is there already; its path. Any process may make any shard, in any order, again."""
    indices, path = job.indices(shard), shard_path(job, folder, shard)
    if _made(job, path, len(indices)):
        return path
    known = {"buoyancy": _buoyancy(job, shard)} if job.layout == "pdearena" else {}
    field = trajectories(job.world, key(job.seed, job.split), indices, job.device, **known).to("cpu")
    drifts = {f"drift_{name}": value for name, value in drift(field).items()}
    field = field.replace(parameters={**field.parameters, **drifts})
    write: Callable[..., None] = {"lpsda": lpsda.write, "pdearena": smoke.write, "well": well.write}[job.layout]
    write(path, field, job.split, {"tacit_digest": f"{job.digest()}-{len(indices)}"})
    return path


def finish(job: Job, folder: Path, suffix: str = "") -> list[Path]:
    """The published files once all shards are there: for LPSDA the shards joined into one, otherwise the shards themselves."""
    if job.layout != "lpsda":
        return [generate(job, folder, shard) for shard in range(job.shards)]
    names = [shard_path(job, folder, shard) for shard in range(job.shards)]
    missing = [path.name for path in names if not path.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of {job.shards} shards are not made yet, the first is {missing[0]}: generate them"
        )
    parts = [generate(job, folder, shard) for shard in range(job.shards)]
    path = folder / lpsda.file_name(job.world.kind, job.split, job.count, suffix)
    if not _made(job, path, job.count):
        lpsda.join(path, parts, {"equation": job.world.build().equation, "tacit_digest": f"{job.digest()}-{job.count}"})
    return [path]
