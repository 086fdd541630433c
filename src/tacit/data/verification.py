"""Read a data set whole and say what is wrong with it: unreadable files, doubles, leaks between splits, odd samples."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tacit.core.errors import DataError
from tacit.data.checks import NotFiniteError, content_hash
from tacit.data.episode_reports import READERS, EpisodeVerification, verify_episodes
from tacit.data.inspection import build, layout_of
from tacit.data.samples import Look, Looks, StoredSource

__all__ = ["Finding", "Verification", "verify"]

What = Literal[
    "unreadable",
    "not-finite",
    "leak",
    "duplicate",
    "constant",
    "odd-size",
    "class-in-one-split",
    "class-without-samples",
    "short",
    "variable-rate",
]
_FAULTS: tuple[What, ...] = ("unreadable", "not-finite", "leak")
_CHUNK = 64  # samples a thread takes at once
_MOSTLY = 0.95  # where this share of a split has one size, the others are odd; otherwise sizes differ by design


@dataclass(frozen=True)
class Finding:
    """One thing found: what it is, the samples or classes it concerns, and a sentence."""

    what: What
    names: tuple[str, ...]
    sentence: str

    @property
    def fault(self) -> bool:
        """Whether it spoils training or evaluation; the others are worth knowing."""
        return self.what in _FAULTS


@dataclass(frozen=True)
class Verification:
    """What `tacit data verify` shows: how many samples of each split were looked at, and everything found."""

    kind: str
    path: str
    splits: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """No faults; findings that are no faults may be there."""
        return not any(finding.fault for finding in self.findings)

    def counts(self) -> dict[str, int]:
        """Findings by what they are."""
        return dict(Counter(finding.what for finding in self.findings))

    def to_plain(self) -> dict[str, Any]:
        """Dicts, lists and scalars, for JSON."""
        plain = dataclasses.asdict(self)
        plain["findings"] = [
            {"what": f.what, "fault": f.fault, "names": list(f.names), "sentence": f.sentence} for f in self.findings
        ]
        return {**plain, "ok": self.ok, "counts": self.counts()}

    def text(self, most: int = 20) -> str:
        """Lines for people: faults first, at most `most` of each sort."""
        read = ", ".join(f"{name} {count}" for name, count in self.splits.items())
        verdict = "every sample can be read" if self.ok else "there are faults"
        lines = [f"{self.path}: {self.kind}, samples looked at: {read}: {verdict}"]
        for what in _FAULTS + tuple(sorted({f.what for f in self.findings} - set(_FAULTS))):
            own = [finding for finding in self.findings if finding.what == what]
            if own:
                lines.append(f"  {what}: {len(own)}")
                lines.extend(f"    {finding.sentence}" for finding in own[:most])
            if len(own) > most:
                lines.append(f"    and {len(own) - most} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of a sample that was read; a million of them are held at once, so no name."""

    size: tuple[int, ...] = ()  # (c, h, w), empty if it could not be read
    content: bytes = b""
    constant: bool = False
    finding: Finding | None = None
    remarks: tuple[Finding, ...] = ()


def verify(
    path: str | Path | None = None,
    *,
    kind: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 0,
    **settings: Any,
) -> Verification | EpisodeVerification:
    """Read every sample at `path` in `workers` threads (0: one a core). `progress(done, total)` is called from this thread.

    Two samples are the same when their decoded pixels are. Leaks: the same sample in two splits.
    """
    layout = layout_of(path, kind)
    if layout.kind in READERS:
        return verify_episodes(layout, settings, progress)
    sources: dict[str, StoredSource] = {}
    findings: list[Finding] = []
    for split in layout.splits:
        try:
            sources[split] = build(layout, split, settings)
        except DataError as error:
            findings.extend(
                Finding("unreadable", (f"{layout.path} {split}",), line) for line in str(error).splitlines()
            )
    total = sum(map(len, sources.values()))
    seen: dict[str, list[_Seen]] = {split: [] for split in sources}
    done = 0
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for split, source in sources.items():
            starts = range(0, len(source), _CHUNK)
            for part in pool.map(lambda start, source=source: _look(source, start), starts):
                seen[split].extend(part)
                done += len(part)
                if progress is not None:
                    progress(done, total)
    for split, found in seen.items():
        findings.extend(sample.finding for sample in found if sample.finding is not None)
        findings.extend(remark for sample in found for remark in sample.remarks)
        findings.extend(_odd(found, sources[split].items.name))
    findings.extend(_doubles(seen, sources, "video" if layout.kind == "video" else "picture"))
    findings.extend(_classes(sources))
    unique = tuple(dict.fromkeys(findings))
    return Verification(layout.kind, layout.path, {split: len(found) for split, found in seen.items()}, unique)


def _look(source: StoredSource, start: int) -> list[_Seen]:
    return [_see(source, i) for i in range(start, min(start + _CHUNK, len(source)))]


def _see(source: StoredSource, i: int) -> _Seen:
    try:
        seen = source.items.look(i) if isinstance(source.items, Looks) else _looked_at(source.items.image(i).numpy())
    except DataError as error:
        name = source.items.name(i)
        what: What = "not-finite" if isinstance(error, NotFiniteError) else "unreadable"
        return _Seen(finding=Finding(what, (name,), f"{name}: {error}"))
    name = source.items.name(i) if seen.remarks else ""
    remarks = tuple(Finding(what, (name,), f"{name}: {sentence}") for what, sentence in seen.remarks)  # type: ignore[arg-type]
    return _Seen(seen.size, seen.content, seen.constant, remarks=remarks)


def _looked_at(values: np.ndarray) -> Look:
    return Look(values.shape, content_hash(values), bool((values == values[:, :1, :1]).all()))


def _odd(found: list[_Seen], name: Callable[[int], str]) -> Iterator[Finding]:
    for i, sample in enumerate(found):
        if sample.constant:
            yield Finding("constant", (name(i),), f"{name(i)}: every pixel has one value")
    sizes = Counter(sample.size for sample in found if sample.size)
    if len(sizes) < 2:
        return
    usual, count = sizes.most_common(1)[0]
    if count < _MOSTLY * sizes.total():
        return
    for i, sample in enumerate(found):
        if sample.size and sample.size != usual:
            own, others = ("x".join(map(str, size[1:])) for size in (sample.size, usual))
            yield Finding("odd-size", (name(i),), f"{name(i)}: {own} pixels where {count} others have {others}")


def _doubles(seen: dict[str, list[_Seen]], sources: dict[str, StoredSource], word: str) -> Iterator[Finding]:
    places: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for split, found in seen.items():
        for i, sample in enumerate(found):
            if sample.content and not sample.constant:
                places[sample.content].append((split, i))
    for same in places.values():
        if len(same) == 1:
            continue
        names = tuple(sources[split].items.name(i) for split, i in same)
        splits = tuple(dict.fromkeys(split for split, _ in same))
        if len(splits) > 1:
            yield Finding("leak", names, f"the same {word} is in {_and(splits)}: {_and(names)}")
        else:
            yield Finding("duplicate", names, f"the same {word} is {len(names)} times in {splits[0]}: {_and(names)}")


def _classes(sources: dict[str, StoredSource]) -> Iterator[Finding]:
    labelled = {split: source for split, source in sources.items() if source.labels is not None}
    classes = next((source.classes for source in labelled.values()), ())
    counts = {
        split: np.bincount(source.labels, minlength=len(classes))
        for split, source in labelled.items()
        if source.labels is not None
    }
    for i, name in enumerate(classes):
        there = [split for split, count in counts.items() if count[i]]
        if not there:
            yield Finding("class-without-samples", (name,), f"class {name!r} has no samples in {_and(tuple(counts))}")
        elif len(there) < len(counts):
            missing = tuple(split for split in counts if split not in there)
            yield Finding(
                "class-in-one-split", (name,), f"class {name!r} is in {_and(there)} and not in {_and(missing)}"
            )


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
