"""The view of a clip: one crop and one mirror for all its frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional as F

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.values import Facts, View
from tacit.ops.spread import spread
from tacit.views import draws
from tacit.views.clip_kernel import render_channel, taps
from tacit.views.pictures import statistics

__all__ = ["Clip"]

Chance = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
Fraction = Annotated[float, Gt(0), Le(1)]


@part("view", "clip")
class Clip:
    """A random crop of a clip [c f h w], the same in every frame, resized to size x size, perhaps mirrored, normalised.

    The box is torchvision's (ten tries of an area and a log aspect, then the central box), resizing is bilinear without antialiasing, as in
    V-JEPA's code; the crop is cut out before anything becomes a float. scale: area of the crop; ratio: its width over height;
    flip: chance of a mirror, which also mirrors directions of motion.
    Source: arXiv 2404.08471 (0.3 to 1, 0.75 to 1.35, 0.5).
    """

    def __init__(
        self,
        facts: Facts,
        *,
        size: Annotated[int, Ge(2)],
        scale: tuple[Fraction, Fraction] = (0.3, 1.0),
        ratio: tuple[Positive, Positive] = (0.75, 1.35),
        flip: Chance = 0.5,
    ) -> None:
        if facts.shape is not None and len(facts.shape) != 3:
            raise DataError(
                f"view 'clip' needs clips [channels frames height width], the samples have the shape {list(facts.shape)}: "
                "use the view 'image' for images"
            )
        self.size = size
        frames = facts.frames if facts.shape is None else facts.shape[0]
        self.facts = replace(facts, shape=None if frames is None else (frames, size, size), frames=None)
        self._mean, self._std = (torch.from_numpy(values)[:, None, None, None] for values in statistics(facts))
        self._ranges = draws.Ranges(
            area=scale, aspect=ratio, flip=flip, jitter=0.0, factors=((1.0, 1.0),) * 3 + ((0.0, 0.0),), grey=0.0, blur=0.0,
            sigma=(1.0, 1.0), solarise=0.0, angle=0.0, noise=0.0,
        )  # fmt: skip

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Ranges must rise."""
        for name in ("scale", "ratio"):
            low, high = settings[name]
            if low > high:
                yield f"{name}: needs (low, high) with low <= high, found ({low}, {high}): swap them"

    def __call__(self, clips: Tensor | list[Tensor], ids: Tensor, seed: int, epoch: int, index: int) -> View:
        """The view [n c f size size]; box [n 4] (top, left, height, width) and flip [n] are recorded."""
        _check(clips, self.facts.channels)
        source = np.array([clip.shape[-2:] for clip in clips], np.int64).reshape(-1, 2)
        drawn = draws.draw(ids.cpu().numpy(), source, self._ranges, seed, epoch, index)
        how = {name: torch.from_numpy(drawn[name]) for name in ("box", "flip")}
        return View(self.apply(clips, how), how)

    def apply(self, clips: Tensor | list[Tensor], how: Mapping[str, Tensor]) -> Tensor:
        """The view under recorded parameters: replays it bit for bit."""
        if any(clip.dtype != torch.uint8 or clip.device.type != "cpu" for clip in clips):
            return self._by_torch(clips, how)
        made = torch.empty(len(clips), *clips[0].shape[:2], self.size, self.size)
        out, boxes, flips = made.numpy(), how["box"].tolist(), how["flip"].tolist()
        channels = out.shape[1]
        mean, std = (x.flatten().numpy() for x in (self._mean, self._std))
        if not len(mean):
            mean, std = np.zeros(channels, np.float32), np.ones(channels, np.float32)

        def work(begin: int, end: int) -> None:
            for i, c in (divmod(number, channels) for number in range(begin, end)):
                top, left, height, width = boxes[i]
                across, down = taps(width, self.size, bool(flips[i])), taps(height, self.size)
                render_channel(clips[i][c].numpy(), top, left, width, across, down, mean[c], std[c], out[i, c])

        spread(work, len(made) * channels, torch.get_num_threads(), grain=1)
        return made

    def _by_torch(self, clips: Tensor | list[Tensor], how: Mapping[str, Tensor]) -> Tensor:
        """The same of floats, with a gradient to the pixels, and on any device."""
        cut = []
        for clip, box, flip in zip(clips, how["box"].tolist(), how["flip"].tolist(), strict=True):
            top, left, height, width = box
            one = _resized(clip[:, :, top : top + height, left : left + width], (self.size, self.size))
            cut.append(one.flip(-1) if flip else one)
        return self._normalised(torch.stack(cut))

    def plain(self, clips: Tensor | list[Tensor], centre: float) -> Tensor:
        """The evaluation view: clips of exactly this size stay whole, others lose their edges about the centre."""
        _check(clips, self.facts.channels)
        cut = []
        for clip in clips:
            height, width = clip.shape[-2:]
            same = (height, width) == (self.size, self.size)
            short, shorter = min(height, width), self.size if same else round(self.size / centre)
            one = _resized(clip, (shorter * height // short, shorter * width // short))
            top, left = (one.shape[-2] - self.size) // 2, (one.shape[-1] - self.size) // 2
            cut.append(one[:, :, top : top + self.size, left : left + self.size])
        return self._normalised(torch.stack(cut))

    def _normalised(self, x: Tensor) -> Tensor:
        if not self._mean.numel():
            return x
        return (x - self._mean.to(x.device)) / self._std.to(x.device)


def _resized(clip: Tensor, size: tuple[int, int]) -> Tensor:
    """One clip [c f h w] as floats in [0, 1] at another size."""
    x = clip.float().div_(255) if clip.dtype == torch.uint8 else clip
    return x if tuple(clip.shape[-2:]) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _check(clips: Tensor | list[Tensor], channels: int) -> None:
    for clip in clips[:1]:
        if clip.ndim != 4 or clip.shape[0] != channels:
            raise DataError(
                f"view 'clip' needs clips of {channels} channels [c frames h w], found the shape {list(clip.shape)}: put channels first"
            )
