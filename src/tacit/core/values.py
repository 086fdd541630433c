"""The values that rooms hand to each other. Frozen, named, movable to a device; nothing here imports torch at run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Batch", "Facts", "Features", "Record", "Score", "View"]


@dataclass(frozen=True)
class View:
    """One view of n samples.

    data: [n c ...]; raw images are uint8 [n c h w], or a list of n uint8 [c h w] where sizes differ; augmented ones float.
    how:  the recorded parameters that made the view, each [n ...], empty for raw data.
    keep: indices of the visible tokens [n k], or None.
    """

    data: Tensor | list[Tensor]
    how: Mapping[str, Tensor] = field(default_factory=dict)
    keep: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """n samples: named views, the action between them, what is known of them (labels, factors), and their stable ids [n].

    `facts` is for probes and reports; it never reaches a loss unless the system names it.
    """

    views: Mapping[str, View]
    ids: Tensor
    action: Tensor | None = None
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        return _move(self, device)


def _move(value: Any, device: Any) -> Any:
    if hasattr(value, "to") and not isinstance(value, Batch):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_move(item, device) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        moved = {f.name: _move(getattr(value, f.name), device) for f in dataclasses.fields(value)}
        return type(value)(**moved)
    return value


@dataclass(frozen=True)
class Facts:
    """What a source knows of itself.

    shape: (h, w) of every sample, or None where sizes differ. classes: their names, empty without labels.
    mean, std: per channel, of values in [0, 1], used to normalise. factors: named quantities in `Batch.facts` beside 'label'.
    rate: frames per second of sequences. frames: of every clip, where heights and widths differ and `shape` is None.
    """

    channels: int
    shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    action_dim: int = 0
    factors: tuple[str, ...] = ()
    rate: float | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Features:
    """What an encoder returns: `pooled` [n d], and `tokens` [n k d] on a `grid` (h, w) or (t, h, w) where it has them."""

    pooled: Tensor
    tokens: Tensor | None = None
    grid: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Score:
    """A number with its card: over how many samples, by which protocol (name and version), and a note for readers."""

    value: float
    n: int
    protocol: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a result table: one item under one protocol. Ids are stable, so two models join by `item`."""

    run: str
    model: str
    benchmark: str
    protocol: str
    item: str
    group: str = ""
    prediction: str = ""
    answer: str = ""
    score: float = float("nan")
    correct: bool | None = None
    seed: int = 0


def columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Records as columns, for Parquet."""
    return {f.name: [getattr(record, f.name) for record in records] for f in dataclasses.fields(Record)}
