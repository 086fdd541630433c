"""A fixed number of rows out of a stream, for criteria that look at pairs of rows; the same rows whatever the batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.random import key
from tacit.core.ranks import Ranks

__all__ = ["Sample"]

_STATE = key("sample of a judge")


def _lots(start: int, stop: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each place of the stream: SplitMix64, as core.random draws."""
    x = np.arange(start + 1, stop + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(_STATE)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Sample:
    """At most `size` rows of all that were seen, each with the same chance: those of the smallest lots, drawn by place.

    Merging keeps the smallest lots of all ranks. Memory O(size d), whatever the number of rows.
    """

    def __init__(self, size: int) -> None:
        self.size, self.seen = size, 0
        self._rows: list[Tensor] = []
        self._held: list[NDArray[np.float64]] = []
        self._limit = 1.0

    def update(self, z: Tensor) -> None:
        """Take rows [m d] in."""
        lots = _lots(self.seen, self.seen + len(z))
        self.seen += len(z)
        kept = np.flatnonzero(lots < self._limit)
        if len(kept):
            self._rows.append(z[torch.from_numpy(kept).to(z.device)])  # a copy: the caller may write over its batch
            self._held.append(lots[kept])
            if sum(map(len, self._held)) >= 2 * self.size:
                self._shrink()

    def _shrink(self) -> None:
        lots = np.concatenate(self._held)
        order = np.argsort(lots, kind="stable")[: self.size]
        if len(lots) > self.size:
            self._limit = float(lots[order[-1]])
        self._rows = [torch.cat(self._rows)[torch.from_numpy(order).to(self._rows[0].device)]]
        self._held = [lots[order]]

    def rows(self) -> Tensor:
        """The rows of the sample [min(size, seen) d], in the order of their lots."""
        self._shrink()
        return self._rows[0]

    def merge(self, ranks: Ranks, d: int, device: torch.device | str) -> None:
        """The sample of all ranks' rows; each rank brings its own and afterwards all hold the same."""
        if self._rows:
            self._shrink()
        held = self._held[0] if self._held else np.empty(0)
        padded = torch.full((self.size,), 2.0, dtype=torch.float64, device=device)
        padded[: len(held)] = torch.from_numpy(held)
        every = ranks.gather(padded).cpu().numpy()
        order = np.argsort(every, kind="stable")
        order = order[every[order] < 2.0][: self.size]
        place = np.flatnonzero(order // self.size == ranks.rank)  # where the own rows go
        chosen = torch.zeros(len(order), d, dtype=torch.float64, device=device)
        if len(place):
            own = self._rows[0][torch.from_numpy(order[place] % self.size).to(self._rows[0].device)]
            chosen[torch.from_numpy(place).to(device)] = own.double()
        self._rows, self._held = [ranks.total(chosen)], [every[order]]
        self.seen = int(ranks.total(torch.tensor([float(self.seen)], dtype=torch.float64, device=device)))
