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

__all__ = ["Job", "finish", "generate", "trajectories"]

_BATCH = {"smoke": 1, "vortex": 4, "burgers": 8}  # trajectories at a time on a CPU: what stays in its cache
_DEFAULT_BATCH = 64


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
        if (self.layout == "pdearena") != (self.world.kind == "smoke") and self.layout != "well":
            fits = "pdearena" if self.world.kind == "smoke" else "lpsda"
            raise DataError(f"world {self.world.kind!r} has no {self.layout!r} layout: use {fits!r} or 'well'")

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
    batch = _BATCH.get(world.kind, _DEFAULT_BATCH) if device == "cpu" else len(indices)
    parts = [built.generate(seed, indices[at : at + batch], device, **known) for at in range(0, len(indices), batch)]
    return Field.join(parts)


def generate(job: Job, folder: Path, shard: int) -> Path:
    """Make one shard, unless it is there already; its path. Any process may make any shard, in any order, again."""
    indices = job.indices(shard)
    seed = key(job.seed, job.split)
    known: dict[str, float] = {}
    if job.layout == "pdearena":
        low, high = job.world.resolve()["buoyancy"]
        known["buoyancy"] = round(float(draws.uniform(seed, [shard], "file buoyancy", low, high)[0]), 5)
        name = smoke.Name(job.split, job.seed + 1000 * shard, known["buoyancy"], len(indices))
        path = folder / str(name)
    elif job.layout == "well":
        path = folder / job.world.kind / "data" / job.split / f"{job.world.kind}_{shard:05d}.hdf5"
    else:
        path = folder / "shards" / f"{job.world.kind}-{job.split}-{shard:05d}.h5"
    digest = f"{job.digest()}-{len(indices)}"
    if path.exists():
        with opened(path) as file:
            found = file.attrs.get("tacit_digest", "")
        if found == digest:
            return path
        if str(found).partition("-")[0] != job.digest():
            raise DataError(f"{path} was made from other settings: choose another folder or remove it")
    field = trajectories(job.world, seed, indices, job.device, **known).to("cpu")
    drifts = {f"drift_{name}": value for name, value in drift(field).items()}
    field = field.replace(parameters={**field.parameters, **drifts})
    write: Callable[..., None] = {"lpsda": lpsda.write, "pdearena": smoke.write, "well": well.write}[job.layout]
    write(path, field, job.split, {"tacit_digest": digest})
    return path


def finish(job: Job, folder: Path, suffix: str = "") -> list[Path]:
    """The published files once all shards are there: for LPSDA the shards joined into one, otherwise the shards themselves."""
    if job.layout != "lpsda":
        return [generate(job, folder, shard) for shard in range(job.shards)]
    names = [folder / "shards" / f"{job.world.kind}-{job.split}-{shard:05d}.h5" for shard in range(job.shards)]
    missing = [path.name for path in names if not path.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of {job.shards} shards are not made yet, the first is {missing[0]}: generate them"
        )
    parts = [generate(job, folder, shard) for shard in range(job.shards)]
    whole = Field.join([lpsda.read(path, job.world.kind, job.split) for path in parts])
    path = folder / lpsda.file_name(job.world.kind, job.split, job.count, suffix)
    lpsda.write(path, whole, job.split, {"tacit_digest": job.digest()})
    return [path]
