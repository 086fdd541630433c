"""Videos: a file or bytes in, chosen frames [c t h w] uint8 out. Every way a file can be broken becomes one sentence.

Legend: n frames of the video, t chosen ones, c = 3 channels, h height, w width.
PyAV opens every file and says when each frame is shown; PyAV or torchcodec decodes. Frames are numbered in the order in which
they are shown. The times of an mp4 of constant rate stand in its index; otherwise all packets are read, none decoded.
A folder of pictures is a video too, one picture a frame.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, MissingExtraError, need
from tacit.data.video_pictures import Pictures

__all__ = ["VIDEOS", "Decoder", "Video", "open_video", "torchcodec_fault"]

VIDEOS = frozenset(
    {".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".ts"}
)
Decoder = Literal["auto", "pyav", "torchcodec"]

_STEADY = 0.02  # of a frame's time: what times may stray from a constant rate by rounding
_FAR = 48  # frames to the next wanted one from which on a jump to a key frame may pay
_DIVISOR = 32  # torchcodec is the faster one where this divides the width, see docs/video.md


@runtime_checkable
class Video(Protocol):
    """An open video: `times` [n] in seconds from 0, ascending; average `rate` in frames a second."""

    times: NDArray[np.float64]
    rate: float

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), upright."""
        ...

    @property
    def steady(self) -> bool:
        """Whether frames are evenly spaced in time."""
        ...

    def frames(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """uint8 [c t h w], in the order asked for; raises DataError with the reason."""
        ...

    def walk(self) -> Iterator[NDArray[np.uint8]]:
        """Every frame [h w c], decoded one after the other; raises DataError where the file does not hold what it says."""
        ...


@contextlib.contextmanager
def open_video(file: str | Path | BinaryIO, decoder: Decoder = "pyav", threads: int = 1) -> Iterator[Video]:
    """The video in a file, in bytes, or in a folder of pictures. decoder 'auto': torchcodec where it loads and the width suits."""
    if isinstance(file, str | Path) and os.path.isdir(file):
        yield Pictures(Path(file))
        return
    av = need("av", "video", "reading videos")
    if decoder == "torchcodec" and (fault := torchcodec_fault()):
        raise MissingExtraError(fault)
    container = _opened(av, file)
    try:
        video = _ByPyAV(av, container, threads)
        suits = video.width % _DIVISOR == 0 and container.format.name != "avi"  # it miscounts the frames of those
        if decoder == "torchcodec" or (decoder == "auto" and suits and not torchcodec_fault()):
            yield _ByTorchcodec(video, file, threads)
        else:
            yield video
    finally:
        container.close()


@functools.cache
def torchcodec_fault() -> str:
    """Why torchcodec cannot be used here, in a sentence; empty where it can."""
    absent = "pip install torchcodec, or take decoder=pyav, which brings its own FFmpeg"
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found, import-untyped, unused-ignore]

        VideoDecoder(b"none")  # its libraries are loaded by the first use
    except ModuleNotFoundError:
        return f"decoder: torchcodec is not installed: {absent}"
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        if "Could not load" in str(error):
            return (
                "decoder: torchcodec is installed and finds no FFmpeg libraries of a version that it knows: install FFmpeg with its "
                "shared libraries, or take decoder=pyav, which brings its own"
            )
    return ""


def _opened(av: Any, file: str | Path | BinaryIO) -> Any:
    if isinstance(file, str | Path):
        try:
            size = os.stat(file).st_size
        except PermissionError as error:
            raise DataError("permission denied") from error
        except OSError as error:
            raise DataError("there is no such file") from error
    else:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
    if size == 0:
        raise DataError("it is empty (0 bytes)")
    try:
        return av.open(str(file) if isinstance(file, Path) else file)
    except PermissionError as error:
        raise DataError("permission denied") from error
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"its {size} bytes are no video that FFmpeg knows, or the part that says what is in it was cut off ({_said(error)})"
        ) from error


def _said(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


class _ByPyAV:
    """A file decoded by PyAV."""

    def __init__(self, av: Any, container: Any, threads: int) -> None:
        self._av, self._container = av, container
        if not container.streams.video:
            sound = "only sound" if container.streams.audio else "no picture"
            raise DataError(f"it holds {sound}: there is no video stream in it")
        self._stream = container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = threads
        ticks = self._indexed()
        self._ticks = self._demuxed() if ticks is None else ticks
        if not len(self._ticks):
            raise DataError("its video stream holds no frame: the copy was cut short")
        self.times = (self._ticks - self._ticks[0]) * float(self._stream.time_base)
        span = float(self.times[-1])
        self.rate = (len(self.times) - 1) / span if span > 0 else float(self._stream.average_rate or 1)
        self.width = int(self._stream.codec_context.width)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """(h, w), upright: from the first frame, which says how the file is to be turned."""
        return next(self.walk()).shape[:2]  # type: ignore[return-value]

    @property
    def steady(self) -> bool:
        """Whether frames are evenly spaced in time."""
        gaps = np.diff(self.times)
        return not len(gaps) or bool(np.abs(gaps - gaps.mean()).max() <= max(_STEADY * gaps.mean(), self._tick()))

    def _tick(self) -> float:
        return 1.01 * float(self._stream.time_base)

    def _indexed(self) -> NDArray[np.int64] | None:
        """The times from the index where it lists every frame at a constant distance (of decoding, hence of showing too)."""
        entries = [entry.timestamp for entry in self._stream.index_entries]
        if len(entries) < 2 or len(entries) != self._stream.frames or self._stream.start_time is None:
            return None
        gaps = np.diff(np.asarray(entries, dtype=np.int64))
        if gaps.min() != gaps.max() or "mp4" not in self._container.format.name:
            return None
        return self._stream.start_time + gaps[0] * np.arange(len(entries))  # type: ignore[no-any-return]

    def _demuxed(self) -> NDArray[np.int64]:
        try:
            ticks = [packet.pts for packet in self._container.demux(self._stream) if packet.pts is not None]
        except self._av.FFmpegError as error:
            raise DataError(
                f"its packets cannot be read to the end ({_said(error)}): it is damaged or cut short"
            ) from error
        found = np.unique(np.asarray(ticks, dtype=np.int64))
        if len(found) and (seconds := self._promised()) is not None:
            span, most = np.ptp(found) * float(self._stream.time_base), np.diff(found, append=found[-1]).max()
            if seconds - span > 0.1 + 2 * float(most * self._stream.time_base):
                raise DataError(
                    f"its head says that it lasts {seconds:.4g} s, and its packets end at {span:.4g} s: the copy was cut short"
                )
        return found

    def _promised(self) -> float | None:
        """Seconds of its pictures that the head of a Matroska file names, which lists no frames."""
        text = self._stream.metadata.get("DURATION", "")
        if text.count(":") == 2:
            hours, minutes, seconds = map(float, text.split(":"))
            return 3600 * hours + 60 * minutes + seconds
        only = not self._container.streams.audio and self._container.duration
        return self._container.duration / 1e6 if only and "matroska" in self._container.format.name else None

    def frames(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Key frame before the first wanted frame, then forward; a jump where the next wanted one is far away."""
        wanted = np.asarray(indices, dtype=np.int64)
        order = np.unique(wanted)
        if not len(order) or order[0] < 0 or order[-1] >= len(self.times):
            raise DataError(f"frames {wanted.tolist()} were asked for; it has {len(self.times)}, from 0 on")
        found: list[NDArray[np.uint8]] = []
        while len(found) < len(order):
            self._run(order, found)
        place = np.searchsorted(order, wanted)
        out = np.empty((3, len(wanted), *found[0].shape[:2]), np.uint8)
        for i, at in enumerate(place):
            if found[at].shape[:2] != out.shape[2:]:
                raise DataError(f"the size of its pictures changes before frame {order[at]}")
            out[:, i] = found[at].transpose(2, 0, 1)
        return torch.from_numpy(out)

    def _run(self, order: NDArray[np.int64], found: list[NDArray[np.uint8]]) -> None:
        """Decode from the key frame before the next wanted frame until all are found or a jump pays."""
        ticks, at = self._ticks, len(found)
        last, started = -1, at
        counted = (
            self._container.format.name == "avi"
        )  # it holds no times of showing: frames are counted from the first
        try:
            self._container.seek(
                0 if counted else int(ticks[order[at]]), stream=self._stream, any_frame=False, backward=True
            )
            for frame in self._container.decode(self._stream):
                if frame.pts is None and not counted:
                    continue
                last = last + 1 if counted else int(np.searchsorted(ticks, frame.pts))
                if last < order[at]:
                    continue
                if last > order[at]:
                    break
                if frame.is_corrupt:
                    raise DataError(f"frame {last} is damaged")
                found.append(_upright(frame))
                at += 1
                if at == len(order) or order[at] - last > _FAR:
                    return
        except self._av.FFmpegError as error:
            raise DataError(f"it is damaged behind frame {max(last, 0)} ({_said(error)})") from error
        if at > started:
            return
        raise DataError(
            f"it says that it has {len(ticks)} frames, and frame {order[at]} is not in it (the last one decoded is {last}): "
            "the copy is damaged or was cut short"
        )

    def walk(self) -> Iterator[NDArray[np.uint8]]:
        """All frames in order."""
        count = 0
        try:
            self._container.seek(0, stream=self._stream, any_frame=False, backward=True)
            for frame in self._container.decode(self._stream):
                if frame.is_corrupt:
                    raise DataError(f"frame {count} is damaged")
                count += 1
                yield _upright(frame)
        except self._av.FFmpegError as error:
            raise DataError(f"it is damaged behind frame {max(count - 1, 0)} ({_said(error)})") from error
        if count < len(self.times):
            raise DataError(
                f"it says that it has {len(self.times)} frames, and {count} can be decoded: the copy was cut short"
            )


def _upright(frame: Any) -> NDArray[np.uint8]:
    """RGB [h w c], turned by the quarters that the file asks for."""
    rgb: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turn = int(frame.rotation) // 90 % 4
    return np.rot90(rgb, turn) if turn else rgb


class _ByTorchcodec:
    """A file whose times PyAV has read and whose frames torchcodec decodes."""

    def __init__(self, video: _ByPyAV, file: str | Path | BinaryIO, threads: int) -> None:
        from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found, import-untyped, unused-ignore]

        self.times, self.rate, self.steady, self._walk = video.times, video.rate, video.steady, video.walk
        self._video = video
        source: Any = file
        if not isinstance(file, str | Path):
            file.seek(0)
            source = file.read()
        self._decoder = VideoDecoder(source, seek_mode="exact", num_ffmpeg_threads=threads)

    @property
    def size(self) -> tuple[int, int]:
        """By PyAV."""
        return self._video.size

    def frames(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Seeks and order are torchcodec's."""
        wanted = np.asarray(indices, dtype=np.int64).tolist()
        try:
            return self._decoder.get_frames_at(indices=wanted).data.transpose(0, 1).contiguous()  # type: ignore[no-any-return]
        except (RuntimeError, IndexError) as error:
            raise DataError(f"frames {wanted} cannot be decoded ({str(error).splitlines()[0]})") from error

    def walk(self) -> Iterator[NDArray[np.uint8]]:
        """By PyAV."""
        return self._walk()
