"""Which frames of a video make a clip: a function of the video's times, the settings, and a key of (seed, epoch, sample id).

Legend: n frames of the video, s segments (clips), t frames a clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError, RecipeError
from tacit.core.random import uniform

__all__ = ["Position", "Sampling", "Short", "choose_frames"]

Position = Literal["random", "centre", "uniform", "start"]
Short = Literal["hold", "loop", "stretch", "stop"]


@dataclass(frozen=True)
class Sampling:
    """How clips are taken. One of step, fps and duration says how far apart frames are; without any of them step is 4.

    frames: of a clip. step: every step-th frame, whatever the rate. fps: frames a second, by the times of the frames, so files of any or
    of a variable rate give the same speed. duration: seconds that a clip spans, frames evenly in it.
    segments: clips a video. position: of the clip in its part of the video (the video is cut into as many equal parts as there are
    segments): 'random', 'centre', 'start'; 'uniform' spreads the clips evenly over the whole video, so that they may overlap.
    jitter: in random clips each frame moves by up to half of this share of the distance between frames; their order stays.
    short: what becomes of a video that is shorter than a clip: 'hold' repeats its last frame (as published), 'loop' starts again, 'stretch'
    takes frames closer together, 'stop' refuses it. A part that is too short takes a clip that reaches into its neighbours.
    compat: 'official' computes frames as the V-JEPA codes do (a step of whole frames also from fps, frames by truncated linspace, so that
    16 frames with step 4 lie 64 / 15 apart; short parts repeat their last frame; 'random' needs more frames than the clip's).
    """

    frames: int = 16
    step: int | None = None
    fps: float | None = None
    duration: float | None = None
    segments: int = 1
    position: Position = "random"
    jitter: float = 0.0
    short: Short = "hold"
    compat: Literal["correct", "official"] = "correct"

    def __post_init__(self) -> None:
        given = [name for name in ("step", "fps", "duration") if getattr(self, name) is not None]
        if len(given) > 1:
            raise RecipeError(f"{' and '.join(given)}: each says how far apart frames are: keep one of them")

    def steps(self, rate: float) -> int:
        """Whole frames between two of a clip, as the published codes round: ceil(rate) // fps, int(duration rate / frames); at least 1."""
        if self.fps is not None:
            return max(1, int(math.ceil(rate) // self.fps))
        if self.duration is not None:
            return max(1, int(self.duration * rate / self.frames))
        return self.step or 4


def choose_frames(
    times: NDArray[np.float64],
    rate: float,
    sampling: Sampling,
    state: int = 0,
    window: tuple[float, float] | None = None,
) -> NDArray[np.int64]:
    """Frame numbers [s t] out of those shown at `times` [n] in seconds; draws are those of the key `state`.

    window: (start, stop) in seconds; only frames shown in it are taken.
    """
    first, last = 0, len(times)
    if window is not None:
        first, last = np.searchsorted(times, [window[0] - 1e-6, window[1] + 1e-6]).tolist()
        first = min(first, len(times) - 1)
        last = max(last, first + 1)
    inside = times[first:last]
    if sampling.compat == "official":
        return first + _official(len(inside), rate, sampling, state)
    by_frames = sampling.fps is None and sampling.duration is None
    if by_frames:
        clock, distance, one = np.arange(len(inside), dtype=np.float64), float(sampling.step or 4), 1.0
    else:
        clock, one = inside - inside[0], 1 / rate
        distance = 1 / sampling.fps if sampling.fps else float(sampling.duration or 0) / sampling.frames
    length = float(clock[-1]) + one
    span = (sampling.frames - 1) * distance + one
    starts = np.zeros(sampling.segments)
    if span <= length * (1 + 1e-9):
        starts = _starts(length, span, sampling, state, whole=by_frames)
    elif sampling.short == "stop":
        raise DataError(
            f"it has {len(inside)} frames, and a clip spans {span / one:.4g} of them: lower frames, step or duration, or say what to do "
            "with short videos, short: hold, loop or stretch"
        )
    elif sampling.short == "stretch":
        distance = (length - one) / max(1, sampling.frames - 1)
    wanted = starts[:, None] + np.arange(sampling.frames) * distance
    if sampling.jitter and sampling.position == "random":
        draws = [uniform(state, sampling.segments + i) for i in range(wanted.size)]
        wanted = wanted + (np.reshape(draws, wanted.shape) - 0.5) * sampling.jitter * distance
        wanted = np.round(wanted) if by_frames else wanted
    wanted = wanted % length if sampling.short == "loop" else wanted
    shown = np.searchsorted(clock, wanted + 1e-6, side="right") - 1  # the frame that is on the screen at that time
    return first + shown.clip(0, len(inside) - 1)


def _starts(length: float, span: float, sampling: Sampling, state: int, *, whole: bool) -> NDArray[np.float64]:
    """Where the clips start, in seconds, or in whole frames; each fits into the video."""
    s, free = sampling.segments, length - span
    if sampling.position == "uniform":
        even = np.linspace(0, free, s) if s > 1 else np.array([free / 2])
        return np.floor(even) if whole else even
    starts = []
    for i in range(s):
        low, high = length * i / s, length * (i + 1) / s
        low, high = (math.floor(low), math.floor(high)) if whole else (low, high)
        room = high - low - span
        if room < -1e-9:  # its part is too short: clips of neighbours overlap, evenly over the video
            start = free * i / max(1, s - 1)
        elif sampling.position == "random":
            draw = uniform(state, i)
            start = low + (math.floor(draw * (room + 1)) if whole else draw * room)
        else:
            start = low + (room / 2 if sampling.position == "centre" else 0)
        starts.append(min(math.floor(start) if whole else start, free))
    return np.asarray(starts, dtype=np.float64)


def _official(n: int, rate: float, sampling: Sampling, state: int) -> NDArray[np.int64]:
    """As facebookresearch/vjepa2 computes them, with draws of `state` for its random starts, and 1 for its step where that is 0."""
    t, s, step = sampling.frames, sampling.segments, sampling.steps(rate)
    part, span = n // s, t * step
    found = []
    for i in range(s):
        if part > span:
            start = int(uniform(state, i) * (part - span)) if sampling.position == "random" else 0
            one = np.linspace(start, start + span, t).clip(start, start + span - 1).astype(np.int64) + i * part
        elif sampling.position == "uniform":  # clips may overlap
            length = min(span, n) - 1
            one = _held(length, length // step, t) + i * ((n - span) // max(1, s - 1) if n > span else 0)
        else:
            one = _held(part, part // step, t) + i * part
        found.append(one.clip(0, n - 1))
    return np.stack(found)


def _held(length: int, count: int, t: int) -> NDArray[np.int64]:
    """`count` places over the length, then the last one again and again."""
    places = np.concatenate([np.linspace(0, length, count), np.full(t - count, length)])
    return places.clip(0, max(0, length - 1)).astype(np.int64)
