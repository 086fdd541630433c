"""Items whose samples are encoded pictures: files of a folder, cells of a Parquet column. A `Store` hands out their bytes.

Few headers decide how the set is read: at most 1,000 evenly spaced ones give the channels, and if those agree in size, and
the decoded set would fit in memory, all headers are read to know whether the set is uniform.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.data.checks import LOOKED_AT, MIB, evenly
from tacit.data.images import decode, header
from tacit.data.samples import StoredSource

__all__ = ["Encoded", "EncodedSource", "Store"]


class Store(Protocol):
    """Encoded samples by index. Picklable; opens files when asked, in each process."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Where people find sample i."""
        ...

    def open(self, i: int) -> BinaryIO:
        """The encoded sample, to be read and closed; raises OSError or DataError."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal digits that change when the samples do."""
        ...


class Encoded:
    """Items over a store. channels None: those of the files if they agree (or of `reference`), otherwise 3."""

    dtype = torch.uint8

    def __init__(
        self,
        store: Store,
        labels: NDArray[np.int64] | None,
        *,
        channels: int | None = None,
        memory: int = 1024,
        reference: Encoded | None = None,
    ) -> None:
        self.store, self.labels = store, labels
        self._lossless = channels is None
        self.channels: int = channels or 3
        self.shape: tuple[int, int] | None = None
        self.seen: Counter[int] = Counter()  # stored channels -> files, among those looked at
        if len(store):
            self.channels, self.shape, self.seen = self._survey(channels, memory, reference)

    def _survey(
        self, channels: int | None, memory: int, reference: Encoded | None
    ) -> tuple[int, tuple[int, int] | None, Counter[int]]:
        looked = evenly(len(self), LOOKED_AT)
        sizes = list(self._sizes(looked))
        if not sizes:
            raise DataError(
                f"{self.name(0)} and all other files looked at cannot be read: {self._why(0)}. "
                "Check that the copy or download was complete"
            )
        seen = Counter(c for c, _, _ in sizes)
        if channels is None:
            channels = reference.channels if reference is not None else next(iter(seen)) if len(seen) == 1 else 3
        shapes = {(h, w) for _, h, w in sizes}
        if len(shapes) != 1:
            return channels, None, seen
        shape = shapes.pop()
        if len(looked) < len(self):
            if len(self) * channels * shape[0] * shape[1] > memory * MIB:
                return channels, None, seen  # it would not be held in memory, so its sizes need not be known
            rest = np.setdiff1d(np.arange(len(self)), looked)
            if any((h, w) != shape for _, h, w in self._sizes(rest)):
                return channels, None, seen
        return channels, shape, seen

    def _sizes(self, indices: Iterable[int]) -> Iterable[tuple[int, int, int]]:
        """The sizes of the readable ones."""
        for i in indices:
            try:
                yield self.size(int(i))
            except DataError:
                continue  # decided upon when the sample itself is read; `tacit data verify` lists it

    def _why(self, i: int) -> str:
        try:
            self.size(i)
        except DataError as error:
            return str(error)
        return "it could not be a moment ago"

    @property
    def note(self) -> str | None:
        """A sentence about files that disagree in their channels."""
        if not self._lossless or set(self.seen) <= {self.channels}:
            return None
        found = ", ".join(f"{count} with {c}" for c, count in sorted(self.seen.items()))
        return f"channels differ among the {self.seen.total()} files looked at ({found}): all are read with {self.channels}"

    def __len__(self) -> int:
        return len(self.store)

    def name(self, i: int) -> str:
        """The file, or the file and the row."""
        return self.store.name(i)

    def size(self, i: int) -> tuple[int, int, int]:
        """(c, h, w) as stored, from the header."""
        with self._open(i) as file:
            return header(file)

    def image(self, i: int) -> Tensor:
        """uint8 [c h w]."""
        with self._open(i) as file:
            return decode(file, self.channels, lossless=self._lossless)

    def _open(self, i: int) -> BinaryIO:
        try:
            return self.store.open(i)
        except PermissionError as error:
            raise DataError("permission denied") from error
        except FileNotFoundError as error:
            raise DataError("it was there when the set was opened and is gone now") from error
        except OSError as error:
            raise DataError(f"the system reports: {error.strerror or error}") from error

    def everything(self) -> Tensor | None:
        """None: samples are decoded one by one."""
        return None

    def fingerprint(self) -> str:
        """That of the stored files."""
        return self.store.fingerprint()


class EncodedSource(StoredSource):
    """A source over a store. `train`: the store of the training split where this is another one; it gives channels and statistics."""

    def __init__(
        self,
        store: Store,
        labels: NDArray[np.int64] | None,
        *,
        root: Path,
        split: str,
        classes: tuple[str, ...],
        train: Store | None,
        channels: Literal[1, 3, 4] | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        unreadable: Literal["stop", "skip"],
        memory: int,
        factors: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        reference = Encoded(train, None, channels=channels, memory=memory) if train is not None and len(train) else None
        items = Encoded(store, labels, channels=channels, memory=memory, reference=reference)
        super().__init__(
            items,
            path=str(root),
            split=split,
            classes=classes,
            reference=reference,
            mean=mean,
            std=std,
            unreadable=unreadable,
            memory=memory,
            notes=[] if items.note is None else [items.note],
            factors=factors,
        )
