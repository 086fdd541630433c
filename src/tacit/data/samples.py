"""What every stored source shares: reading by index, the policy on unreadable files, memory, statistics and the digest.

Legend: n samples, c channels, h height, w width. `Items` is what a layout offers (one split, one sample at a time);
`StoredSource` makes a core.protocols.Source of it. A kind of source adds a constructor and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.values import Batch, Facts, View
from tacit.data.checks import LOOKED_AT, MIB, content_hash, evenly, statistics

__all__ = ["Held", "Items", "Layout", "Look", "Looks", "StoredSource"]

logger = logging.getLogger(__name__)

_AT_ONCE = 1024  # samples decoded ahead of the one that is taken
_TRIES = 100  # neighbours looked at to replace an unreadable file
_LOADING = threading.Lock()  # one thread decodes a set into memory, the others wait for it


@dataclass(frozen=True)
class Layout:
    """What a path was recognised as: the kind of source that reads it, its splits, and the reason in words."""

    kind: str
    path: str
    splits: tuple[str, ...]
    why: str


class Items(Protocol):
    """The samples of one split as they are stored. Picklable; files are opened when asked for, in each process."""

    labels: NDArray[np.int64] | None
    channels: int
    shape: tuple[int, int] | None  # (h, w) where all samples are known to share it
    dtype: torch.dtype

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Where people find sample i: a file, or a file and a row."""
        ...

    def size(self, i: int) -> tuple[int, int, int]:
        """(c, h, w) as stored, before any conversion, without decoding where that is possible."""
        ...

    def image(self, i: int) -> Tensor:
        """[c h w], uint8 or float32 in [0, 1]; raises DataError with the reason when it cannot be read."""
        ...

    def everything(self) -> Tensor | None:
        """All samples [n c h w] where that is quicker than one by one, else None."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal digits that change when the samples do."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """What reading all of a sample has shown: its size, a hash of its content, whether all values are the same, and oddities."""

    size: tuple[int, ...]
    content: bytes
    constant: bool
    remarks: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class Looks(Protocol):
    """Items of which `image` gives only a part: `look` reads all of a sample, for verification."""

    def look(self, i: int) -> Look:
        """All of sample i; raises DataError with the reason when it cannot be read."""
        ...

    def summary(self) -> tuple[str, ...]:
        """Sentences about the samples whose `size` was asked for."""
        ...


class Held:
    """Items that are in memory already. `files`: (name, number of records) in order, to name a sample."""

    def __init__(self, images: Tensor, labels: NDArray[np.int64] | None, files: Sequence[tuple[str, int]]) -> None:
        self.images, self.labels, self.files = images, labels, tuple(files)
        self.channels = images.shape[1]
        self.shape: tuple[int, int] | None = (images.shape[2], images.shape[3])
        self.dtype = images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def name(self, i: int) -> str:
        """The file and the record in it."""
        for name, records in self.files:
            if i < records:
                return f"{name} record {i}"
            i -= records
        raise IndexError(i)

    def size(self, i: int) -> tuple[int, int, int]:
        """(c, h, w)."""
        c, h, w = self.images[i].shape
        return c, h, w

    def image(self, i: int) -> Tensor:
        """[c h w]."""
        return self.images[i]

    def everything(self) -> Tensor | None:
        """[n c h w]."""
        return self.images

    def fingerprint(self) -> str:
        """A hash of all values."""
        return content_hash(self.images.numpy()).hex()


class StoredSource:
    """A source over `Items`: core.protocols.Source, with `images` uint8 [n c h w] where the set is held in memory.

    Statistics come from `reference`, the items of the training split or a (picklable) way to get them, so that every split is
    normalised alike.
    Where sizes differ (facts.shape is None) `read` returns a list of [c h w], always; otherwise one tensor.
    `factors`: what is known of the samples beside the label, name -> [n ...]; goes to facts.factors and Batch.facts.
    """

    def __init__(
        self,
        items: Items,
        *,
        path: str,
        split: str,
        classes: tuple[str, ...] = (),
        reference: Items | Callable[[], Items] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        unreadable: Literal["stop", "skip"] | None = None,
        memory: int = 1024,
        ids: NDArray[np.int64] | None = None,
        notes: Iterable[str] = (),
        factors: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        if len(items) == 0:
            raise DataError(f"{path}: the split {split!r} holds no samples: check that the path is the one you mean")
        for name, given in (("mean", mean), ("std", std)):
            if given is not None and len(given) != items.channels:
                raise RecipeError(
                    f"data.{name}: has {len(given)} numbers where the pictures of {path} have {items.channels} channels: "
                    "give one number a channel"
                )
        if std is not None and min(std) <= 0:
            raise RecipeError(f"data.std: {min(std):g} cannot divide: every number must be above 0")
        self.items, self.path, self.split, self.classes, self.notes = items, path, split, classes, tuple(notes)
        self.labels, self.factors = items.labels, dict(factors or {})
        self.skipped: dict[int, int] = {}  # in this process: unreadable sample -> the one that stands in for it
        self._reference: Items | Callable[[], Items] = items if reference is None else reference
        self._mean, self._std, self._unreadable = mean, std, unreadable
        self._memory = memory * MIB
        self.ids = np.arange(len(items), dtype=np.int64) if ids is None else ids
        self._held: tuple[Tensor, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.items)

    @functools.cached_property
    def facts(self) -> Facts:
        """Channels, shape, classes, and per-channel mean and std of at most 1,000 evenly spaced training samples."""
        mean, std = self._mean, self._std
        if mean is None or std is None:
            looked: Iterable[Tensor]
            if self._reference is self.items:
                looked = (self._fetch(int(i))[0] for i in evenly(len(self), LOOKED_AT))
            else:
                looked = _readable(self._reference() if callable(self._reference) else self._reference, self.path)
            own_mean, own_std = statistics(looked)
            if len(own_mean) != self.items.channels:
                raise DataError(
                    f"{self.path}: split {self.split!r} has {self.items.channels} channels and 'train' has {len(own_mean)}: "
                    "all splits need the same"
                )
            mean, std = own_mean if mean is None else mean, own_std if std is None else std
        shape = self.items.shape
        return Facts(
            self.items.channels,
            shape,
            classes=self.classes,
            mean=tuple(mean),
            std=tuple(std),
            factors=tuple(self.factors),
        )

    @property
    def images(self) -> Tensor | None:
        """All samples [n c h w] where sizes agree and `memory` allows it, else None; row i is sample i."""
        if self._held is None and self.fits_in_memory():
            with _LOADING:
                if self._held is None:
                    self._held = self._load()
        return None if self._held is None else self._held[0]

    @property
    def replacing(self) -> bool:
        """Whether the next readable sample stands in for one that cannot be read; its id is then that of the one that stands in."""
        return self._unreadable == "skip"

    def name(self, i: int) -> str:
        """Where people find sample i: a file, or a file and a row."""
        return self.items.name(i)

    def size_in_memory(self) -> int:
        """Bytes of all decoded samples, 0 where their sizes differ."""
        if self.items.shape is None:
            return 0
        return len(self) * self.items.channels * self.items.shape[0] * self.items.shape[1] * self.items.dtype.itemsize

    def fits_in_memory(self) -> bool:
        """Whether all samples are held decoded, from the first read on."""
        return self.items.shape is not None and self.size_in_memory() <= self._memory

    def digest(self) -> str:
        """32 hexadecimal digits over the stored samples, their labels, and the settings that change what is read."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        labels = b"" if self.labels is None else self.labels.tobytes()
        labels += b"".join(content_hash(values, name) for name, values in self.factors.items())
        described = (self.split, self.items.channels, str(self.items.dtype), self.classes, self._unreadable)
        text = f"{self.items.fingerprint()}{described}".encode()
        return hashlib.blake2b(text + labels + self.ids.tobytes(), digest_size=16).hexdigest()

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The samples at `indices`, in that order, as the view 'image'; ids and facts['label'] int64 [n]; factors [n ...]."""
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= len(self))]
        if outside.size:
            raise DataError(f"{self.path}: sample {outside[0]} was asked for; indices run from 0 to {len(self) - 1}")
        images = self.images
        data: Tensor | list[Tensor]
        if images is not None and self._held is not None:
            data, used = images[torch.from_numpy(wanted)], self._held[1][wanted]
        else:
            pictures: list[Tensor] = [torch.empty(0)] * len(wanted)
            used = wanted.copy()
            order = np.argsort(wanted, kind="stable")  # ascending: neighbours in a row group are read together
            for place, (picture, j) in zip(order, self._fetch_all(wanted[order].tolist()), strict=True):
                pictures[place], used[place] = picture, j
            data = pictures if self.items.shape is None or not pictures else torch.stack(pictures)
        known = {**self.factors} if self.labels is None else {"label": self.labels, **self.factors}
        facts = {name: torch.from_numpy(values[used]) for name, values in known.items()}
        return Batch(views={"image": View(data)}, ids=torch.from_numpy(self.ids[used]), facts=facts)

    def _load(self) -> tuple[Tensor, NDArray[np.int64]]:
        rows = np.arange(len(self), dtype=np.int64)
        images = self.items.everything()
        if images is None:
            images = torch.empty((len(self), self.items.channels, *(self.items.shape or ())), dtype=self.items.dtype)
            for i, (picture, j) in enumerate(self._fetch_all(range(len(self)))):
                images[i], rows[i] = picture, j
        return images, rows

    def _fetch_all(self, indices: Sequence[int]) -> Iterator[tuple[Tensor, int]]:
        """Decoded in as many threads as torch may use: one inside a DataLoader's worker. Few at a time wait to be taken."""
        threads = min(torch.get_num_threads(), len(indices))
        if threads < 2:
            yield from map(self._fetch, indices)
            return
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(indices), _AT_ONCE):
                yield from pool.map(self._fetch, indices[start : start + _AT_ONCE])

    def _fetch(self, i: int) -> tuple[Tensor, int]:
        """Sample i and its index, or, under unreadable: skip, the next readable sample and that one's index."""
        reason = ""
        for j in ((i + step) % len(self) for step in range(min(len(self), _TRIES))):
            try:
                picture = self.items.image(j)
                _same_shape(picture, self.items)
            except DataError as error:
                if self._unreadable != "skip":
                    raise DataError(self._stopped(j, str(error))) from error
                reason = reason or str(error)
                continue
            if j != i and i not in self.skipped:
                self.skipped[i] = j
                logger.warning(
                    "%s cannot be read (%s): %s stands in for it", self.items.name(i), reason, self.items.name(j)
                )
            return picture, j
        raise DataError(
            f"{self.items.name(i)} and the {min(len(self), _TRIES) - 1} samples after it cannot be read, the first because "
            f"{reason}. Check the folder with 'tacit data verify {self.path}'"
        )

    def _stopped(self, i: int, reason: str) -> str:
        remedy = ", or let neighbours stand in for them: unreadable: skip" if self._unreadable == "stop" else ""
        verify = f"List all such samples with 'tacit data verify {self.path}'"
        return f"{self.items.name(i)} cannot be read: {reason}. {verify}{remedy}"


def _same_shape(picture: Tensor, items: Items) -> None:
    h, w = picture.shape[-2:]
    if items.shape is not None and (h, w) != items.shape:
        raise DataError(f"it is {h}x{w} where all were {items.shape[0]}x{items.shape[1]} when the set was opened")


def _readable(items: Items, path: str) -> Iterator[Tensor]:
    """Sampled training pictures for the statistics of another split; unreadable ones are left out, and logged."""
    for i in evenly(len(items), LOOKED_AT):
        try:
            yield items.image(int(i))
        except DataError as error:
            logger.warning("%s cannot be read (%s): left out of the statistics of %s", items.name(int(i)), error, path)
