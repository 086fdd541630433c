"""`tacit make arm`: episodes of the simulated arm on disk, in the layout of one's own trajectories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.core.errors import RunError, need
from tacit.core.spec import Spec, plain
from tacit.runs.made_folder import claim, given_settings
from tacit.training.disk import replace
from tacit.training.engine import Job, run_jobs, summary

__all__ = ["MadeArm", "make_arm"]

_OWN = ("episodes", "frames", "split")


@dataclass(frozen=True)
class MadeArm:
    """A finished set: where, how many episodes and transitions, and how many files an earlier start had made."""

    folder: str
    count: int
    transitions: int
    kept: int

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        kept = f", {self.kept} of them from an earlier start" if self.kept else ""
        return (
            f"{self.count:,} episodes, {self.transitions:,} transitions{kept}: {self.folder}\n"
            f"train on them with: tacit train robots.arm_small data=trajectories data.path={Path(self.folder).parent} data.frames=3 "
            "data.stride=1"
        )


def make_arm(
    out: str | Path,
    settings: Iterable[str] = (),
    *,
    count: int = 400,
    split: str = "train",
    shard: int = 50,
    engine: str = "serial",
) -> MadeArm:
    """Write `count` episodes to OUT/<split>/*.npz: frames, actions, state, cube, camera; settings are those of the source 'arm'.

    The same call continues one that stopped. Episode i depends on (seed, split, i) alone: a larger count adds to a set. A folder made with
    other settings is refused.
    """
    need("mujoco", "robots", "the robot's arm")
    given = given_settings(settings, _OWN, "episodes", "steps=30, wander=0.2, side=128, seed=1")
    spec = Spec("source", "arm", **given, split=split).resolve("make arm")
    told = {name: value for name, value in plain(spec).items() if name not in ("episodes", "frames")}
    folder = claim(out, split, "arm.json", told)
    paths = [folder / f"{i:06d}.npz" for i in range(count)]
    kept = sum(path.is_file() for path in paths)
    jobs = []
    for start in range(0, count, shard):
        own = [i for i in range(start, min(start + shard, count)) if not paths[i].is_file()]
        if own:
            name = f"arm-{own[0]:06d}-{own[-1]:06d}"
            (folder / "jobs" / f"{name}.json").unlink(missing_ok=True)  # the note of files that were removed since
            told_ = {n: plain(v) for n, v in given.items()} | {"split": split}
            jobs.append(Job(name, {"settings": told_, "numbers": own, "folder": str(folder.resolve())}))
    outcomes = run_jobs(_episodes, jobs, engine=engine, folder=folder / "jobs")
    if any(outcome.error for outcome in outcomes):
        raise RunError(summary(outcomes))
    return MadeArm(str(folder), count, count * spec["steps"], kept)


def _episodes(settings: dict[str, Any], numbers: list[int], folder: str) -> int:
    source = Spec("source", "arm", **settings, episodes=max(numbers) + 1, frames=2).build()
    for i in numbers:
        _write(Path(folder) / f"{i:06d}.npz", source.episode(i))
    return len(numbers)


def _write(path: Path, arrays: dict[str, Any]) -> None:
    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    replace(path, write)
