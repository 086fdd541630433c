"""`tacit make rooms`: trajectories of Two Rooms on disk, in shards that can be made by any engine and continued."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tacit.core.errors import RunError
from tacit.core.spec import Spec, plain
from tacit.runs.made_folder import claim, given_settings
from tacit.training.engine import Job, run_jobs, summary
from tacit.worlds.rooms.files import write_shard

__all__ = ["MadeRooms", "make_rooms"]


@dataclass(frozen=True)
class MadeRooms:
    """A finished data set: where, how many trajectories and transitions, and how many shards an earlier start had made."""

    folder: str
    count: int
    transitions: int
    shards: int
    kept: int

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        kept = f", {self.kept} of them from an earlier start" if self.kept else ""
        return (
            f"{self.count:,} trajectories, {self.transitions:,} transitions in {self.shards} shards{kept}: {self.folder}\n"
            f"train on them with: data=rooms-file data.path={Path(self.folder).parent}"
        )


def make_rooms(
    out: str | Path,
    settings: Iterable[str] = (),
    *,
    count: int = 10_000,
    split: str = "train",
    shard: int = 1000,
    pictures: bool = False,
    engine: str = "serial",
) -> MadeRooms:
    """Write `count` trajectories of 90 actions to OUT/<split>/*.npz; settings are those of the source 'rooms' (crossing=0.6 seed=1).

    The same call continues one that stopped. Trajectory i depends on (seed, split, i) alone: a larger count adds to a set. A folder made
    with other settings is refused.
    """
    own = ("count", "frames", "split")
    given = given_settings(settings, own, "walks", "crossing=0.6, layout=pldm, seed=1")
    spec = Spec("source", "rooms", **given, split=split).resolve("make rooms")
    told = {name: value for name, value in plain(spec).items() if name not in ("count", "frames")} | {
        "pictures": pictures,
        "shard": shard,
    }
    folder = claim(out, split, "rooms.json", told)
    starts = range(0, count, shard)
    jobs = []
    for start in starts:
        path = folder / f"{start:08d}.npz"
        stop = min(start + shard, count)
        name = f"rooms-{start:08d}-{stop:08d}"
        if not path.is_file():
            (folder / "jobs" / f"{name}.json").unlink(missing_ok=True)  # the note of a shard that was removed since
        jobs.append(Job(name, {"settings": {n: plain(v) for n, v in given.items()} | {"split": split}, "start": start, "stop": stop,
                               "path": str(path.resolve()), "pictures": pictures}))  # fmt: skip
    outcomes = run_jobs(_shard, jobs, engine=engine, folder=folder / "jobs")
    if any(outcome.error for outcome in outcomes):
        raise RunError(summary(outcomes))
    return MadeRooms(
        str(folder),
        count,
        sum(outcome.value for outcome in outcomes),
        len(jobs),
        sum(o.state == "kept" for o in outcomes),
    )


def _shard(settings: dict[str, Any], start: int, stop: int, path: str, pictures: bool) -> int:
    source = Spec("source", "rooms", **settings, count=stop).build()
    return write_shard(source, range(start, stop), Path(path), pictures=pictures)
