"""Recorded episodes as clips with actions: what every offline format of control shares. A format adds a store and nothing else.

Legend: t frames of a clip, h w c of a picture, d numbers of a state, a of an action. A state vector is a picture of one pixel with d
channels, so that the same views, encoders and planners take it.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.values import Batch, Facts, View
from tacit.data.checks import fingerprint

__all__ = ["EpisodeSource", "Episodes", "below", "between", "pick", "split_rows"]

SPLITS = ("train", "valid", "test")
_STATISTICS = 64  # clips from which mean and deviation are taken
_SEED = 42  # of the split of formats that publish none, as DINO-WM's
Array = NDArray[Any]


class Episodes(Protocol):
    """A data set of episodes as it lies on disk. Picklable; files are opened when asked for."""

    @property
    def root(self) -> Path: ...  # noqa: D102

    @property
    def files(self) -> Sequence[Path]: ...  # noqa: D102

    @property
    def names(self) -> Sequence[str]:
        """Of the episodes, for messages."""
        ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each."""
        ...

    @property
    def rate(self) -> float | None:
        """Frames a second."""
        ...

    @property
    def splits(self) -> Mapping[str, NDArray[np.int64]] | None:
        """Episodes of each published split; the only split there is, is cut by `split_rows`."""
        ...

    def observe(self, episode: int, rows: NDArray[np.int64]) -> dict[str, Array]:
        """What was seen at these rows: `frames` uint8 [t h w c] or `states` float [t d]; other arrays of t rows are facts."""
        ...

    def act(self, episode: int, rows: NDArray[np.int64]) -> Array:
        """What was done between them: float [t - 1 a]."""
        ...


def between(actions: Array, rows: NDArray[np.int64]) -> Array:
    """The actions from each row to the next, laid end to end where several lie between (DINO-WM's frame skip): [t - 1 k*a]."""
    return np.stack([actions[i:j].reshape(-1) for i, j in pairwise(rows)]).astype(np.float32)


def below(root: Path, name: str, most: int = 40) -> Path | None:
    """The first file of this name in `root` or below; only the first `most` folders are looked into, so that huge sets are not walked."""
    for _, (folder, inside, files) in zip(range(most), os.walk(root), strict=False):
        if name in files:
            return Path(folder) / name
        inside.sort()
    return None


def pick(names: Sequence[str], wanted: str, what: str, where: object) -> str:
    """The one of `names` that is wanted, or the only one there is."""
    if wanted in names:
        return wanted
    if wanted:
        raise UnknownNameError(unknown(what, wanted, names, f"These are in {where}."))
    if len(names) == 1:
        return names[0]
    raise DataError(f"{where}: several can be the {what}, {', '.join(names) or '(none)'}: set {what} to one of them")


def split_rows(store: Episodes, split: str, held: float) -> NDArray[np.int64]:
    """The episodes of a split: published, or a permutation by numpy's RandomState(42) with a share `held` for test and for valid each."""
    if store.splits is not None:
        known = dict(store.splits)
        known.setdefault("test", known.get("valid", known["train"]))  # where only one is kept back, it serves for both
        if split not in known:
            raise UnknownNameError(unknown("split", split, known, f"These are the splits of {store.root}."))
        return known[split]
    if split not in SPLITS:
        raise UnknownNameError(unknown("split", split, SPLITS))
    n = len(store.lengths)
    if n < 2:
        raise DataError(
            f"{store.root} holds {n} episode: at least 2 are needed, one of them to keep back for valid and test"
        )
    order = np.random.RandomState(_SEED).permutation(n)
    kept = min(max(1, round(held * n)), (n - 1) // 2 or 1)
    if n == 2:
        return order[:1] if split != "train" else order[1:]
    return np.sort({"test": order[:kept], "valid": order[kept : 2 * kept], "train": order[2 * kept :]}[split])


class EpisodeSource:
    """A source of clips over `Episodes`: view 'image' uint8 [n c t h w] or float32 [n d t 1 1], `action` [n t a], facts [n t ...].

    Action i leads from frame i to frame i + 1; the last of a clip is 0 and not used. every: take each such frame; the actions between are
    laid end to end. stride: frames from one clip's start to the next's (0: clips do not overlap). side: pictures resized to side x side.
    short 'stop' refuses episodes that hold no clip, 'skip' leaves them out.
    """

    def __init__(
        self, store: Episodes, *, frames: int, stride: int, every: int, side: int, split: str, held: float, short: str
    ) -> None:
        self.store, self.split = store, split
        self._frames, self._every, self._side, self._held = frames, every, side, held
        self._stride = stride or frames * every
        chosen = split_rows(store, split, held)
        span = (frames - 1) * every + 1
        few = [k for k in chosen if store.lengths[k] < span]
        if few and (short == "stop" or len(few) == len(chosen)):
            raise DataError(
                f"{store.root}: {len(few)} of {len(chosen)} episodes are shorter than a clip of {span} frames, the first is "
                f"{store.names[few[0]]} with {store.lengths[few[0]]}: lower data.frames or data.every, or leave them out with "
                "data.short=skip"
            )
        starts = [(k, s) for k in chosen for s in range(0, int(store.lengths[k]) - span + 1, self._stride)]
        self._starts = np.array(starts, dtype=np.int64).reshape(-1, 2)
        self._first = self._clip(0)
        self._extra = tuple(name for name in self._first if name not in ("frames", "states", "actions"))

    def _clip(self, i: int) -> dict[str, Array]:
        k, start = (int(x) for x in self._starts[i])
        rows = start + self._every * np.arange(self._frames)
        found = self.store.observe(k, rows)
        actions = self.store.act(k, rows)
        where = f"{self.store.names[k]} from frame {start}"
        for name, values in (("actions", actions), ("states", found.get("states"))):
            if values is not None and not np.isfinite(values).all():
                bad = int((~np.isfinite(values)).sum())
                raise DataError(f"{where}: {name} must be finite, found {bad} numbers that are not")
        if "frames" in found and found["frames"].dtype != np.uint8:
            raise DataError(f"{where}: pictures must be uint8, found {found['frames'].dtype}")
        return {**found, "actions": np.concatenate([actions, np.zeros_like(actions[:1])]).astype(np.float32)}

    def __len__(self) -> int:
        return len(self._starts)

    @functools.cached_property
    def facts(self) -> Facts:
        """Channels or numbers of a state, with mean and deviation of at most 64 training clips; the width of an action; the rate."""
        reference = self if self.split == "train" else self._training()
        some = np.unique(np.linspace(0, len(reference) - 1, min(_STATISTICS, len(reference))).astype(int))
        seen = torch.cat([reference._seen(reference._clip(int(i))) for i in some], 1)  # [c m h w]
        values = seen.flatten(1).double() / (255 if seen.dtype == torch.uint8 else 1)
        shape = (self._frames, *seen.shape[2:])
        return Facts(
            channels=len(values),
            shape=shape,
            mean=tuple(values.mean(1).tolist()),
            std=tuple(values.std(1).clamp_min(1e-3).tolist()),
            action_dim=self._first["actions"].shape[1],
            factors=self._extra,
            rate=None if self.store.rate is None else self.store.rate / self._every,
        )

    def _training(self) -> EpisodeSource:
        return EpisodeSource(
            self.store, frames=self._frames, stride=self._stride, every=self._every, side=self._side, split="train",
            held=self._held, short="skip",
        )  # fmt: skip

    def digest(self) -> str:
        """Changes with the files, the split and the windows."""
        files = fingerprint(
            list(self.store.files), self.store.root if self.store.root.is_dir() else self.store.root.parent
        )
        given = (files, self.split, self._frames, self._stride, self._every, self._side, len(self))
        return hashlib.sha256(repr(given).encode()).hexdigest()[:16]

    def lengths(self) -> NDArray[np.int64]:
        """Frames of the episodes of this split."""
        return self.store.lengths[split_rows(self.store, self.split, self._held)]

    def name(self, i: int) -> str:
        """Episode and first frame of clip i."""
        k, start = self._starts[i]
        return f"{self.store.names[int(k)]} from frame {start}"

    def _seen(self, clip: Mapping[str, Array]) -> torch.Tensor:
        """[c t h w] of a clip; states as pictures of one pixel."""
        if "frames" not in clip:
            return torch.from_numpy(np.ascontiguousarray(clip["states"], dtype=np.float32)).T[:, :, None, None]
        x = torch.from_numpy(np.ascontiguousarray(clip["frames"])).permute(3, 0, 1, 2)
        if self._side and tuple(x.shape[2:]) != (self._side, self._side):
            frames = x.transpose(0, 1).float()
            small = F.interpolate(
                frames, (self._side, self._side), mode="bilinear", align_corners=False, antialias=True
            )
            x = small.round().clamp(0, 255).to(torch.uint8).transpose(0, 1)
        return x

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices."""
        ids = np.asarray(indices, dtype=np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= len(self)):
            raise DataError(f"clips are numbered from 0 to {len(self) - 1}, found {ids.min()} to {ids.max()}")
        clips = [self._clip(int(i)) for i in ids]
        for i, clip in zip(ids, clips, strict=True):
            for name in ("actions", "frames", "states"):
                if name in clip and clip[name].shape[1:] != self._first[name].shape[1:]:
                    raise DataError(
                        f"{self.name(int(i))}: its {name} have the shape {list(clip[name].shape[1:])}, those of {self.name(0)} "
                        f"{list(self._first[name].shape[1:])}: all episodes need the same"
                    )
        pictures = torch.stack([self._seen(clip) for clip in clips])
        facts = {n: torch.from_numpy(np.stack([c[n] for c in clips]).astype(np.float32)) for n in self._extra}
        action = torch.from_numpy(np.stack([clip["actions"] for clip in clips]))
        return Batch({"image": View(pictures)}, torch.from_numpy(ids), action=action, facts=facts)
