"""Videos on disk as a source of clips: lists, folders, tar shards and the published video sets, one reader for all."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.random import key
from tacit.core.values import Facts
from tacit.data.checks import checked_path, choose
from tacit.data.images import EXTENSIONS as PICTURES
from tacit.data.images import decode
from tacit.data.ranges import Ranges
from tacit.data.samples import Layout, Look, StoredSource
from tacit.data.video_decoding import Decoder, Video, open_video
from tacit.data.video_layouts import LAYOUTS
from tacit.data.video_lists import (
    Listed,
    Places,
    folder_splits,
    list_splits,
    read_folder,
    read_lists,
    read_tars,
    tar_splits,
)
from tacit.data.video_pictures import Pictures
from tacit.data.video_sampling import Position, Sampling, Short, choose_frames

__all__ = ["Clips", "VideoSource", "recognise"]

Count = Annotated[int, Ge(1)]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as all published video encoders take


class Clips:
    """Items of a video set: sample i is the clip [c s*t h w] that `sampling` and the key of (seed, epoch, i) choose of video i."""

    dtype = torch.uint8
    channels = 3
    shape: tuple[int, int] | None = None

    def __init__(self, found: Listed, sampling: Sampling, decoder: Decoder) -> None:
        self.store: Places | Ranges = found.tar if found.tar is not None else Places(found.root, found.names)
        self.labels, self.windows, self._rate = found.labels, found.windows, found.rate
        self.sampling, self.decoder = sampling, decoder
        self.state: int | None = None  # None: clips about the centre, the same at every reading
        self.choose: Callable[[int, Video], NDArray[np.int64]] | None = None  # another way to choose frames
        self.seen: dict[
            int, tuple[int, float, bool]
        ] = {}  # of headers that were looked at: frames, rate, whether steady

    def __len__(self) -> int:
        return len(self.store)

    def name(self, i: int) -> str:
        """The file, or the shard and the member."""
        return self.store.name(i)

    def _opened(self, i: int) -> Any:
        try:
            source = self.store.open(i)
        except OSError as error:
            raise DataError(f"the system reports: {error.strerror or error}") from error
        return open_video(source, self.decoder)

    def _picture(self, i: int) -> Tensor | None:
        """[c h w] of a still image in a list of videos, None for a video."""
        name = self.store.name(i)
        if Path(name).suffix.lower() not in PICTURES:
            return None
        try:
            with open(name, "rb") as file:
                return decode(io.BytesIO(file.read()), 3)
        except OSError as error:
            raise DataError("there is no such file") from error

    def size(self, i: int) -> tuple[int, int, int]:
        """(c, h, w) of the frames."""
        picture = self._picture(i)
        if picture is not None:
            return 3, int(picture.shape[1]), int(picture.shape[2])
        with self._opened(i) as video:
            self.seen[i] = len(video.times), video.rate, video.steady
            return 3, *video.size

    def image(self, i: int) -> Tensor:
        """uint8 [c s*t h w], the segments one after the other; a still image is every frame of its clip."""
        total = self.sampling.segments * self.sampling.frames
        picture = self._picture(i)
        if picture is not None:
            return picture[:, None].expand(-1, total, -1, -1)
        with self._opened(i) as video:
            return video.frames(self.chosen(i, video).reshape(-1))

    def chosen(self, i: int, video: Video) -> NDArray[np.int64]:
        """The frames [s t] of video i, see `choose_frames`."""
        if self.choose is not None:
            return self.choose(i, video)
        sampling = self.sampling
        if self.state is None and sampling.position == "random":
            sampling = replace(sampling, position="centre", jitter=0.0)
        state = key(i, after=self.state or 0)
        rate = self._rate if isinstance(video, Pictures) else video.rate
        window = None if self.windows is None else (float(self.windows[i, 0]), float(self.windows[i, 1]))
        return choose_frames(video.times, rate, sampling, state, window)

    def look(self, i: int) -> Look:
        """Decode all of video i: its size, a hash of its pixels, and what is odd about it; raises DataError if it is not whole."""
        picture = self._picture(i)
        if picture is not None:
            return Look(
                tuple(picture.shape),
                hashlib.blake2b(picture.numpy().tobytes(), digest_size=16).digest(),
                bool(picture.unique().numel() == 1),
            )
        remarks: list[tuple[str, str]] = []
        with self._opened(i) as video:
            state, first, same, size = hashlib.blake2b(digest_size=16), None, True, (0, 0)
            for frame in video.walk():
                state.update(np.ascontiguousarray(frame).data)
                first = frame[0, 0] if first is None else first
                same = same and bool((frame == first).all())
                size = frame.shape[:2]
            try:
                short = replace(self.sampling, position="start", short="stop", compat="correct")
                window = None if self.windows is None else (float(self.windows[i, 0]), float(self.windows[i, 1]))
                choose_frames(video.times, video.rate, short, 0, window)
            except DataError as error:
                remarks.append(("short", str(error).partition(":")[0]))
            if not video.steady:
                gaps = np.diff(video.times)
                remarks.append(
                    (
                        "variable-rate",
                        f"its frames are {gaps.min():.3g} to {gaps.max():.3g} s apart: sample by time, fps=...",
                    )
                )
        return Look((3, *size), state.digest(), same, tuple(remarks))

    def everything(self) -> Tensor | None:
        """None: videos are decoded one by one."""
        return None

    def fingerprint(self) -> str:
        """That of the files, and of the sampling."""
        return f"{self.store.fingerprint()}{self.sampling}"

    def summary(self) -> tuple[str, ...]:
        """A sentence about the headers that were looked at."""
        if not self.seen:
            return ()
        frames, rates, steady = zip(*self.seen.values(), strict=True)
        odd = sum(count % 2 for count in frames)
        variable = len(steady) - sum(steady)
        return (
            f"{min(frames)} to {max(frames)} frames (median {np.median(frames):g}), {min(rates):.4g} to {max(rates):.4g} a second; "
            f"{odd} of {len(frames)} looked at have an odd number of frames, {variable} a variable rate",
        )


def _sets(path: Path, videos: Path, actions: str) -> tuple[str, Mapping[str, Any], Any] | None:
    """What lies at a path: words for it, its splits, and what reads one of them."""
    if path.is_dir():
        for name, (words, of, read) in LAYOUTS.items():
            if (splits := of(path)) and (
                name.startswith("epic") is False or name.endswith("official") == (actions == "official")
            ):
                return f"{words} as published", splits, lambda split, s=splits, r=read: r(s, split, videos)
    if lists := list_splits(path):
        own = videos if videos != path else None
        return "lists of videos", lists, lambda split: read_lists(lists, split, own)
    if shards := tar_splits(path):
        count = sum(map(len, shards.values()))
        return (
            f"{count} .tar archive{'s' if count > 1 else ''} of videos",
            shards,
            lambda split: read_tars(shards[split], path),
        )
    if folders := folder_splits(path):
        return "a folder of videos", folders, lambda split: read_folder(folders, split)
    return None


def recognise(path: Path) -> Layout | None:
    """A published set, a list, tar shards or a folder of videos."""
    found = _sets(path, path, "sorted")
    return None if found is None else Layout("video", str(path), tuple(found[1]), found[0])


@part("source", "video")
class VideoSource(StoredSource):
    """Clips of videos: lists of paths and labels, folders, tar shards, Kinetics, Something-Something v2, Diving48, Jester, COIN, EPIC.

    View 'image' is a list of uint8 [c t h w]. In training the clips of an epoch are a function of (seed, epoch, sample id); a plain `read`
    gives the clip about the centre. frames, step or fps or duration, position, jitter, short, compat: see `data.video_sampling.Sampling`;
    `data.video_decoding` says how files are opened. Pictures in a list are clips whose frames are all the same.

    videos: the folder of the videos, if it is not that of the lists. actions: how EPIC-KITCHENS' actions are numbered, 'official' for
    released heads. decoder: 'auto' takes torchcodec where it is installed and the faster one. mean, std: of values in [0, 1].
    unreadable: 'stop' names the file; 'skip' puts the next readable video in its place, logs and counts it, and leaves listed videos that
    are not there out. Nothing is ever replaced without being asked for.
    Sources: arXiv 2404.08471 (step 4), 2506.09985 (4 frames a second).
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        videos: str | None = None,
        frames: Count = 16,
        step: Count | None = None,
        fps: Annotated[float, Gt(0)] | None = None,
        duration: Annotated[float, Gt(0)] | None = None,
        position: Position = "random",
        jitter: Annotated[float, Ge(0), Le(1)] = 0.0,
        short: Short = "hold",
        compat: Literal["correct", "official"] = "correct",
        decoder: Decoder = "pyav",
        actions: Literal["sorted", "official"] = "sorted",
        mean: tuple[float, float, float] = _MEAN,
        std: tuple[float, float, float] = _STD,
        unreadable: Literal["stop", "skip"] = "stop",
    ) -> None:
        root = checked_path(path)
        below = root if videos is None else checked_path(videos)
        found = _sets(root, below, actions)
        if found is None:
            raise DataError(
                f"{root}: holds no videos in a layout that is known; looked for lists of `<path> <label>`, the lists of "
                f"{', '.join(dict.fromkeys(words for words, _, _ in LAYOUTS.values()))}, tar shards, and videos at any depth"
            )
        _, splits, read = found
        held: Listed = read(choose(split, splits, str(root)))
        if held.absent and unreadable == "stop":
            there = len(held.labels if held.labels is not None else held.names)
            raise DataError(
                f"{root}: {len(held.absent)} of {len(held.absent) + there} listed videos of {split!r} are not below {held.root}, the "
                f"first is {held.absent[0]}: fetch them, or leave them out: unreadable: skip"
            )
        sampling = Sampling(frames, step, fps, duration, 1, position, jitter, short, compat)
        absent = (
            f"{len(held.absent)} listed videos are not there and left out, the first is {held.absent[0]}"
            if held.absent
            else ""
        )
        super().__init__(
            Clips(held, sampling, decoder), path=str(root), split=split, classes=held.classes, mean=mean, std=std, unreadable=unreadable,
            factors=held.factors, notes=[absent] if absent else [],
        )  # fmt: skip

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """One way to say how far frames are apart."""
        given = [name for name in ("step", "fps", "duration") if settings[name] is not None]
        if len(given) > 1:
            yield f"{' and '.join(given)}: each says how far apart the frames of a clip are: keep one of them"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """What nothing reads under other settings."""
        found = {"decoder": "every decoder gives the same frames", "unreadable": "matters where a video cannot be read"}
        if settings["position"] != "random":
            found["jitter"] = "only frames of random clips move"
        return found

    @cached_property
    def facts(self) -> Facts:
        """Sizes may differ, so `shape` is None and `frames` says how long a clip is."""
        clips = self._clips()
        return replace(super().facts, frames=clips.sampling.frames * clips.sampling.segments, rate=clips.sampling.fps)

    def _clips(self) -> Clips:
        return self.items  # type: ignore[return-value]

    def at(self, seed: int, epoch: int) -> VideoSource:
        """The same videos with the clips of this epoch; a function of (seed, epoch, sample)."""
        return self._with(state=key(seed, "clip", epoch))

    def sampled(self, sampling: Sampling) -> VideoSource:
        """The same videos with other clips: [c s*t h w], the segments one after the other, where there are several."""
        return self._with(sampling=sampling)

    def choosing(self, choose: Callable[[int, Video], NDArray[np.int64]]) -> VideoSource:
        """The same videos with the frames [s t] that a function of sample and video names."""
        return self._with(choose=choose)

    def _with(self, **changes: Any) -> VideoSource:
        other = copy.copy(self)
        other.items = copy.copy(self.items)
        for name, value in changes.items():
            setattr(other.items, name, value)
        for name in ("facts", "_digest"):
            other.__dict__.pop(name, None)
        other._reference = other.items
        return other
