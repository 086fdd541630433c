"""Look at a data set of episodes, and read it whole: what `tacit data inspect` and `tacit data verify` say of recorded control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.core.errors import DataError
from tacit.core.spec import Spec
from tacit.data import flat_episodes, lerobot, minari, recon, trajectories, trajectory_parquet
from tacit.data.checks import content_hash
from tacit.data.droid import Droid
from tacit.data.episodes import below
from tacit.data.samples import Layout
from tacit.data.video_decoding import open_video

__all__ = ["READERS", "EpisodeReport", "EpisodeVerification", "inspect_episodes", "verify_episodes"]


def _recognise_droid(path: Path) -> Layout | None:
    if not path.is_dir() or below(path, "trajectory.h5") is None:
        return None
    return Layout("droid", str(path), ("all",), "folders with trajectory.h5")


READERS: dict[str, Callable[[Path], Layout | None]] = {
    "lerobot": lerobot.recognise,
    "droid": _recognise_droid,
    "recon": recon.recognise,
    "minari": minari.recognise,
    "d4rl": flat_episodes.recognise_d4rl,
    "ogbench": flat_episodes.recognise_ogbench,
    "trajectory-parquet": trajectory_parquet.recognise,
    "trajectories": trajectories.recognise,
}


_LATE = 8  # rows of a trajectory that may lack a picture: recording stops half a second after the robot at most


class _DroidEpisodes(Droid):
    """DROID with one clip of two frames an episode, and what reports ask of episodes."""

    def __init__(self, path: str, **settings: Any) -> None:
        try:
            super().__init__(path=path, frames=2, windows=1, split="all", **settings)
        except DataError:  # no camera times
            super().__init__(path=path, frames=2, windows=1, split="all", timing="official", **settings)

    def lengths(self) -> np.ndarray[Any, Any]:
        """Frames of the episodes."""
        return np.array([self.rows_of(i)[0].frames for i in range(len(self))], dtype=np.int64)

    def name(self, i: int) -> str:
        """The folder of episode i."""
        return f"{self.rows_of(i)[0].folder.name} from frame 0"

    def watch(self, i: int) -> None:
        """Decode the whole video of episode i."""
        episode = self.rows_of(i)[0]
        film, rows = episode.video, episode.rows
        with open_video(film) as opened:
            seen = sum(1 for _ in opened.walk())
        if seen < max(rows - _LATE, episode.frames):
            raise DataError(f"{film}: the video ends early, {seen} of {rows} frames can be decoded: fetch it again")


def _source(layout: Layout, split: str, settings: dict[str, Any]) -> Any:
    if layout.kind == "droid":
        return _DroidEpisodes(layout.path, **{n: v for n, v in settings.items() if n not in ("frames", "stride")})
    given = {"frames": 2, **settings, "path": layout.path, "split": split}
    return Spec("source", layout.kind, **given).build()


def _splits(layout: Layout, settings: dict[str, Any]) -> dict[str, Any]:
    return {split: _source(layout, split, settings) for split in layout.splits}


@dataclass(frozen=True)
class EpisodeReport:
    """What `tacit data inspect` shows of episodes. lengths: frames of the shortest, middle and longest; actions: lowest and highest."""

    kind: str
    path: str
    why: str
    splits: dict[str, dict[str, Any]]
    channels: int
    shape: tuple[int, ...]
    action_dim: int
    rate: float | None
    factors: tuple[str, ...]
    actions: tuple[tuple[float, ...], tuple[float, ...]]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        seen = f"states of {self.channels} numbers" if self.shape[-2:] == (1, 1) else \
            f"pictures of {self.shape[-2]}x{self.shape[-1]} pixels, {self.channels} channels"  # fmt: skip
        rate = f", {self.rate:g} frames a second" if self.rate else ""
        lines = [f"{self.path}: {self.kind} ({self.why})", f"  {seen}{rate}; actions of {self.action_dim} numbers"]
        low, high = (
            ", ".join(f"{v:.3g}" for v in ends[:8]) + (", ..." if len(ends) > 8 else "") for ends in self.actions
        )
        lines.append(f"  actions from ({low}) to ({high})")
        if self.factors:
            lines.append(f"  beside each frame: {', '.join(self.factors)}")
        for name, split in self.splits.items():
            short, middle, long = split["lengths"]
            lines.append(
                f"  {name}: {split['episodes']} episodes of {short} to {long} frames (median {middle:g}), {split['steps']} transitions"
            )
        return "\n".join(lines)


def inspect_episodes(layout: Layout, settings: dict[str, Any]) -> EpisodeReport:
    """A report on every split; reads the lengths and a sample of clips."""
    sources = _splits(layout, settings)
    first = next(iter(sources.values()))
    facts = first.facts
    some = np.unique(np.linspace(0, len(first) - 1, min(64, len(first))).astype(int))
    action = first.read(some).action[:, :-1].flatten(0, 1)
    splits = {}
    for name, source in sources.items():
        lengths = source.lengths()
        splits[name] = {
            "episodes": len(lengths),
            "lengths": (int(lengths.min()), float(np.median(lengths)), int(lengths.max())),
            "steps": int((lengths - 1).sum()),
            "digest": source.digest(),
        }
    ends = (tuple(action.amin(0).tolist()), tuple(action.amax(0).tolist()))
    return EpisodeReport(
        layout.kind, layout.path, layout.why, splits, facts.channels, facts.shape, facts.action_dim, facts.rate, facts.factors, ends
    )  # fmt: skip


@dataclass(frozen=True)
class EpisodeVerification:
    """What `tacit data verify` shows of episodes: how many of `what` were read of each split, and every fault as a sentence."""

    kind: str
    path: str
    splits: dict[str, int]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    what: str = "transitions"

    @property
    def ok(self) -> bool:
        """No faults; notes may be there."""
        return not self.faults

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ok": self.ok}

    def text(self, most: int = 20) -> str:
        """For people: faults first."""
        read = ", ".join(f"{name} {count}" for name, count in self.splits.items())
        verdict = "all can be read" if self.ok else "there are faults"
        lines = [f"{self.path}: {self.kind}, {self.what} read: {read}: {verdict}"]
        for title, sentences in (("faults", self.faults), ("worth knowing", self.notes)):
            if sentences:
                lines.append(f"  {title}: {len(sentences)}")
                lines.extend(f"    {sentence}" for sentence in sentences[:most])
                if len(sentences) > most:
                    lines.append(f"    and {len(sentences) - most} more")
        return "\n".join(lines)


def verify_episodes(
    layout: Layout, settings: dict[str, Any], progress: Callable[[int, int], None] | None = None
) -> EpisodeVerification:
    """Read every step of every split: what cannot be read or is not finite, episodes in two splits, episodes in which nothing is done."""
    faults: list[str] = []
    notes: list[str] = []
    sources: dict[str, Any] = {}
    for split in layout.splits:
        try:
            sources[split] = _source(layout, split, {**settings, "stride": 1})
        except DataError as error:
            faults.extend(str(error).splitlines())
    total, done = sum(map(len, sources.values())), 0
    firsts: dict[bytes, str] = {}
    counts: dict[str, int] = {}
    for split, source in sources.items():
        idle: dict[str, bool] = {}
        faults.extend(f"{place}: {why}" for place, why in getattr(source, "skipped", {}).items())
        counts[split] = 0
        for i in range(len(source)):
            name = source.name(i)
            episode = name.rpartition(" from frame ")[0]
            try:
                batch = source.read([i])
                if isinstance(source, _DroidEpisodes):
                    source.watch(i)
            except DataError as error:
                sentence = str(error)
                faults.append(sentence if episode in sentence else f"{name}: {sentence}")
                continue
            finally:
                done += 1
                if progress is not None:
                    progress(done, total)
            counts[split] += 1
            idle[episode] = idle.get(episode, True) and bool((batch.action[0, 0] == 0).all())
            if name.endswith(" from frame 0"):
                mark = content_hash(batch.views["image"].data[0].numpy()) + content_hash(batch.action[0].numpy())
                here = f"{split} {episode}"
                if mark in firsts and firsts[mark].partition(" ")[2] != episode:
                    other = firsts[mark]
                    leak = other.partition(" ")[0] != split
                    (faults if leak else notes).append(
                        f"{here} begins as {other} does" + (": the splits share it" if leak else "")
                    )
                firsts.setdefault(mark, here)
        notes.extend(
            f"{split} {episode}: nothing is done in it, every action is 0" for episode, still in idle.items() if still
        )
    return EpisodeVerification(layout.kind, layout.path, counts, tuple(dict.fromkeys(faults)), tuple(notes))
