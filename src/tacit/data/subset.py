"""A few samples that stand for all of a source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tacit.core.protocols import Source
from tacit.core.values import Batch
from tacit.data.checks import content_hash, evenly

__all__ = ["even_subset"]


class _Subset:
    """The samples of a source at some places."""

    def __init__(self, source: Source, at: NDArray[np.int64]) -> None:
        self._source, self._at = source, at
        self.facts = source.facts

    def __len__(self) -> int:
        return len(self._at)

    def digest(self) -> str:
        """Changes with the source and with the samples."""
        return content_hash(self._at, self._source.digest()).hex()

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The samples that stand at these places among the chosen ones."""
        return self._source.read(self._at[np.asarray(indices, dtype=np.int64)])


def even_subset(source: Source, most: int) -> Source:
    """`most` samples, evenly spaced, first and last among them; the source itself where it has no more."""
    return _Subset(source, evenly(len(source), most)) if len(source) > most else source
