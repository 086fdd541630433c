"""Look at a data set without reading it all: kind, splits, counts, sizes, channels, statistics."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.core.errors import DataError
from tacit.core.spec import Spec
from tacit.data.checks import LOOKED_AT, MIB, evenly
from tacit.data.episode_reports import READERS, EpisodeReport, inspect_episodes
from tacit.data.layouts import Layout, recognise
from tacit.data.samples import Looks, StoredSource

__all__ = ["Report", "SplitReport", "inspect", "layout_of"]


@dataclass(frozen=True)
class SplitReport:
    """One split. Sizes are (minimum, median, maximum) pixels over the `looked_at` samples; channels: stored channels -> samples."""

    samples: int
    classes: dict[str, int]  # name -> samples, in class order; empty without labels
    looked_at: int
    unreadable: int  # among those looked at
    height: tuple[int, float, int]
    width: tuple[int, float, int]
    channels: dict[int, int]
    dtype: str
    ids: tuple[int, int]
    held: int  # bytes in memory, 0 where samples are decoded at each read
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `tacit data inspect` shows. mean and std are per channel, of values in [0, 1]; shape None where sizes differ."""

    kind: str
    path: str
    why: str
    splits: dict[str, SplitReport]
    channels: int
    shape: tuple[int, ...] | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_plain(self) -> dict[str, Any]:
        """Dicts, lists and scalars, for JSON."""
        return _listed(dataclasses.asdict(self))

    def text(self) -> str:
        """Lines for people."""
        shape = "sizes differ" if self.shape is None else f"{self.shape[0]}x{self.shape[1]} pixels"
        lines = [f"{self.path}: {self.kind} ({self.why})", f"  {self.channels} channels, {shape}"]
        lines.append(f"  mean {_numbers(self.mean)}, std {_numbers(self.std)} of values in [0, 1]")
        for name, split in self.splits.items():
            lines.append(
                f"  {name}: {split.samples} samples, {_classes(split.classes)}, ids {split.ids[0]} to {split.ids[1]}"
            )
            if split.looked_at > split.unreadable:
                stored = ", ".join(f"{count} with {c}" for c, count in split.channels.items())
                lines.append(
                    f"    height {_range(split.height)}, width {_range(split.width)}, {split.dtype}; "
                    f"channels of {split.looked_at} looked at: {stored}"
                )
            lines.append(
                f"    {f'held in memory, {split.held / MIB:.3g} MiB' if split.held else 'decoded at each read'}"
            )
            if split.unreadable:
                lines.append(
                    f"    {split.unreadable} of {split.looked_at} looked at cannot be read: tacit data verify {self.path}"
                )
            lines.extend(f"    {note}" for note in split.notes)
        return "\n".join(lines)


def layout_of(path: str | Path | None, kind: str | None) -> Layout:
    """The layout to look at: recognised, or read by the source `kind` that was asked for."""
    if kind == "digits":
        return Layout("digits", "digits", ("train", "test"), "comes with scikit-learn")
    if path is None:
        raise DataError("a path is needed for every kind of data but 'digits'")
    return recognise(path, kind)


def build(layout: Layout, split: str, settings: dict[str, Any]) -> StoredSource:
    """The source of one split of a layout."""
    where = {} if layout.kind == "digits" else {"path": layout.path}
    return Spec("source", layout.kind, **{**settings, **where, "split": split}).build()


def inspect(path: str | Path | None = None, *, kind: str | None = None, **settings: Any) -> Report | EpisodeReport:
    """A report on every split at `path` (none for kind='digits'); settings are those of the source. Reads about 1,000 samples."""
    layout = layout_of(path, kind)
    if layout.kind in READERS:
        return inspect_episodes(layout, settings)
    sources = {split: build(layout, split, settings) for split in layout.splits}
    first = sources.get("train", next(iter(sources.values())))
    facts = build(layout, first.split, {**settings, "unreadable": "skip"}).facts if _skips(layout) else first.facts
    classes = next((source.classes for source in sources.values() if source.classes), ())
    splits = {name: _split(source) for name, source in sources.items()}
    return Report(
        layout.kind, layout.path, layout.why, splits, facts.channels, facts.shape, classes, facts.mean, facts.std
    )


def _skips(layout: Layout) -> bool:
    return layout.kind in ("folder", "parquet", "listing", "hf-disk", "tar", "beton", "video")


def _split(source: StoredSource) -> SplitReport:
    items = source.items
    looked = evenly(len(items), LOOKED_AT)
    sizes = []
    for i in looked:
        try:
            sizes.append(items.size(int(i)))
        except DataError:
            continue  # counted below
    channels = Counter(c for c, _, _ in sizes)
    counts: dict[str, int] = {}
    if source.labels is not None:
        per = np.bincount(source.labels, minlength=len(source.classes)).tolist()
        counts = dict(zip(source.classes, per, strict=True))
    held = source.size_in_memory()
    ids = source.ids
    return SplitReport(
        samples=len(items),
        classes=counts,
        looked_at=len(looked),
        unreadable=len(looked) - len(sizes),
        height=_spread([h for _, h, _ in sizes]),
        width=_spread([w for _, _, w in sizes]),
        channels=dict(sorted(channels.items())),
        dtype=str(items.dtype).removeprefix("torch."),
        ids=(int(ids[0]), int(ids[-1])),
        held=held if source.fits_in_memory() else 0,
        digest=source.digest(),
        notes=source.notes + (items.summary() if isinstance(items, Looks) else ()),
    )


def _spread(values: list[int]) -> tuple[int, float, int]:
    return (min(values), float(np.median(values)), max(values)) if values else (0, 0.0, 0)


def _range(spread: tuple[int, float, int]) -> str:
    low, middle, high = spread
    return str(low) if low == high else f"{low} to {high} (median {middle:g})"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _classes(counts: dict[str, int]) -> str:
    if not counts:
        return "no labels"
    least, most = min(counts.values()), max(counts.values())
    return f"{len(counts)} classes of {least if least == most else f'{least} to {most}'}"


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _listed(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_listed(item) for item in value]
    return value
