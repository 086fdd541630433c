"""One source after the other in a single run: short clips first, long ones for the last epochs."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.protocols import Draws, Source
from tacit.core.spec import SourceSpec
from tacit.core.values import Batch, Facts
from tacit.ops.stages import check_starts, stage

__all__ = ["Staged"]


@part("source", "stages")
class Staged:
    """`sources` one after the other, source i from epoch `starts`[i] on; every one has the same number of samples.

    With the views 'stages' of the same starts a run grows in resolution and length inside one folder, and resumes anywhere. Outside
    of training the last stage is read. Facts are those of the last stage. Source: arXiv 2506.09985 (progressive resolution, section 2.4).
    """

    def __init__(
        self, *, sources: tuple[SourceSpec, ...], starts: tuple[Annotated[int, Ge(0)], ...], split: str = "train"
    ) -> None:
        self.sources: list[Source] = [spec.change(split=split).build() for spec in sources]
        self.starts, self._now = starts, len(sources) - 1
        sizes = sorted({len(source) for source in self.sources})
        if len(sizes) > 1:
            raise DataError(
                f"source 'stages': its sources have {' and '.join(map(str, sizes))} samples: epochs need the same number"
            )
        self.facts: Facts = self.sources[-1].facts

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """A rising start for each stage, the first at 0."""
        yield from check_starts(settings["starts"], len(settings["sources"]), "sources")

    def __len__(self) -> int:
        return len(self.sources[-1])

    def digest(self) -> str:
        """Changes with every stage."""
        text = f"{[source.digest() for source in self.sources]}{self.starts}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def at(self, seed: int, epoch: int) -> Staged:
        """The stage of this epoch."""
        other = copy.copy(self)
        other._now = stage(self.starts, epoch)
        source = self.sources[other._now]
        other.sources = [*self.sources]
        other.sources[other._now] = source.at(seed, epoch) if isinstance(source, Draws) else source
        return other

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """By the stage that is on."""
        return self.sources[self._now].read(indices)
