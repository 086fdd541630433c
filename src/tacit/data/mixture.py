"""Several sources as one, by weight. Legend: k sources, n samples an epoch, w their weights."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.protocols import Draws, Source
from tacit.core.random import key, order, uniform
from tacit.core.spec import SourceSpec
from tacit.core.values import Batch, Facts, View

__all__ = ["Mixture"]

_OWN = 1 << 48  # ids of source i begin at i times this


@part("source", "mixture")
class Mixture:
    """Sources mixed by `weights`, which need not sum to 1; which samples an epoch reads is a function of (seed, epoch).

    draw 'even': of each epoch's `count` samples every source gives its share, rounded, in an order that takes each of its samples once
    before any a second time, over all epochs. 'replacement': every sample is drawn by itself, source by weight and sample uniformly (the
    published V-JEPA 2 code). count: samples an epoch, by default as many as all sources have together.
    Images become clips beside sources of clips: every frame is the image (V-JEPA 2 gives ImageNet a quarter). All sources need one number
    of frames and of channels. Facts: 'source', the number of the source, and 'label' where all sources have the same classes. The
    normalisation is that of the first source. `split` is that of every source.
    Source: arXiv 2506.09985 (weights 0.056, 0.188, 0.318, 0.188, 0.25).
    """

    def __init__(
        self,
        *,
        sources: tuple[SourceSpec, ...],
        weights: tuple[Annotated[float, Gt(0)], ...],
        split: str = "train",
        count: Annotated[int, Ge(1)] | None = None,
        draw: Literal["even", "replacement"] = "even",
    ) -> None:
        self.sources: list[Source] = [spec.change(split=split).build() for spec in sources]
        self.weights = np.asarray(weights) / sum(weights)
        self._count, self._draw, self._epoch = count or sum(map(len, self.sources)), draw, (0, 0)
        each = [source.facts for source in self.sources]
        lengths = {found for found in map(_frames, each) if found is not None}
        channels = {facts.channels for facts in each}
        if len(lengths) > 1 or len(channels) > 1:
            raise DataError(
                f"source 'mixture': its sources have clips of {' and '.join(map(str, sorted(lengths)))} frames and "
                f"{' and '.join(map(str, sorted(channels)))} channels: give all of them the same"
            )
        self.frames = next(iter(lengths), None)
        classes = {facts.classes for facts in each}
        shapes = {facts.shape if _frames(facts) or not self.frames else None for facts in each}
        shape = next(iter(shapes)) if len(shapes) == 1 else None
        self._labelled = len(classes) == 1 and bool(each[0].classes)
        self.facts = Facts(
            channels.pop(), shape, classes.pop() if self._labelled else (), each[0].mean, each[0].std, factors=("source",),
            frames=None if shape else self.frames,
        )  # fmt: skip
        shares = self.weights * self._count
        counts = np.floor(shares).astype(np.int64)
        largest = np.argsort(-(shares - counts), kind="stable")
        counts[largest[: self._count - int(counts.sum())]] += 1
        self._ends = np.cumsum(counts)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """A weight a source."""
        if len(settings["sources"]) != len(settings["weights"]) or not settings["sources"]:
            yield f"weights: {len(settings['weights'])} for {len(settings['sources'])} sources: give each source one weight"

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """Changes with every source, and with what is drawn from them."""
        text = f"{[source.digest() for source in self.sources]}{self.weights.tolist()}{self._count}{self._draw}{self._epoch}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def at(self, seed: int, epoch: int) -> Mixture:
        """The same mixture in this epoch, its sources too."""
        other = copy.copy(self)
        other.sources = [source.at(seed, epoch) if isinstance(source, Draws) else source for source in self.sources]
        other._epoch = (seed, epoch)
        return other

    def place(self, i: int) -> tuple[int, int]:
        """The source and the index in it of sample i of this epoch."""
        seed, epoch = self._epoch
        if self._draw == "replacement":
            state = key(seed, "mixture", epoch, i)
            at = int(
                np.searchsorted(np.cumsum(self.weights), uniform(state, 0), side="right").clip(
                    max=len(self.sources) - 1
                )
            )
            return at, int(uniform(state, 1) * len(self.sources[at]))
        at = int(np.searchsorted(self._ends, i, side="right"))
        start = int(self._ends[at - 1]) if at else 0
        turn, place = divmod(epoch * (int(self._ends[at]) - start) + i - start, len(self.sources[at]))
        return at, int(_order(key(seed, "mixture", at), turn, len(self.sources[at]))[place])

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The samples of these indices; outside of training those of epoch 0 under seed 0."""
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        for i in wanted[(wanted < 0) | (wanted >= self._count)][:1]:
            raise DataError(f"source 'mixture': sample {i} was asked for; indices run from 0 to {self._count - 1}")
        places = np.array([self.place(int(i)) for i in wanted], dtype=np.int64).reshape(-1, 2)
        data: list[Tensor] = [torch.empty(0)] * len(wanted)
        ids, labels = torch.empty(len(wanted), dtype=torch.int64), torch.empty(len(wanted), dtype=torch.int64)
        for at, source in enumerate(self.sources):
            rows = np.flatnonzero(places[:, 0] == at)
            if not len(rows):
                continue
            batch = source.read(places[rows, 1])
            for row, one in zip(rows, batch.views["image"].data, strict=True):
                data[row] = (
                    one if one.ndim == 4 or self.frames is None else one[:, None].expand(-1, self.frames, -1, -1)
                )
            ids[torch.from_numpy(rows)] = batch.ids + at * _OWN
            if self._labelled:
                labels[torch.from_numpy(rows)] = batch.facts["label"]
        facts = {"source": torch.from_numpy(places[:, 0])} | ({"label": labels} if self._labelled else {})
        whole = torch.stack(data) if self.facts.shape is not None and data else data
        return Batch({"image": View(whole)}, ids, facts=facts)


@functools.lru_cache(maxsize=64)
def _order(seed: int, turn: int, n: int) -> NDArray[np.int64]:
    return order(seed, turn, n)


def _frames(facts: Facts) -> int | None:
    """Frames of a clip; None for images."""
    return facts.shape[0] if facts.shape is not None and len(facts.shape) == 3 else facts.frames
