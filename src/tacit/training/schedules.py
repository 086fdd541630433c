"""Schedules: the learning rate as a factor of its peak, a function of progress in [0, 1].

Progress is the fraction of updates already made, step / steps, so a schedule has no state: it cannot be stepped at the
wrong moment and needs nothing in a checkpoint. The first update sees progress 0 and no update sees progress 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from annotated_types import Ge, Le, Lt

from tacit.core.parts import part

__all__ = ["Constant", "Cosine", "Linear", "Trapezoid"]

Fraction = Annotated[float, Ge(0), Le(1)]
WarmUp = Annotated[float, Ge(0), Lt(1)]


def _unread(settings: Mapping[str, Any]) -> dict[str, str]:
    """Without a warm-up nothing starts lower."""
    return {} if settings["warmup"] else {"start": "there is no warm-up"}


def _rising(progress: float, warmup: float, start: float) -> float | None:
    """The factor during the warm-up, rising linearly from `start` to 1 at progress `warmup`; None after it."""
    return start + (1 - start) * progress / warmup if progress < warmup else None


@part("schedule", "cosine")
class Cosine:
    """Linear warm-up, then half a cosine from 1 to `final`.

        factor = start + (1 - start) p / w                  for p < w (w: `warmup`, a fraction of the run)
        factor = q + final (1 - q),  q = (1 + cos(pi (p - w) / (stretch - w))) / 2    after it

    stretch > 1 lays the cosine over more than the run, which ends before the rate is at `final` (V-JEPA 1.25).
    With warmup 0.1, start 0 and final 0.001 these are the rates of VICReg's code (arXiv 2105.04906), step by step. As there,
    a warm-up that starts at 0 makes the very first update with rate 0.
    """

    def __init__(
        self,
        *,
        warmup: WarmUp = 0.1,
        start: Fraction = 0.0,
        final: Fraction = 0.0,
        stretch: Annotated[float, Ge(1)] = 1.0,
    ) -> None:
        self.warmup, self.start, self.final, self.stretch = warmup, start, final, stretch

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """The start belongs to the warm-up."""
        return _unread(settings)

    def __call__(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        rising = _rising(progress, self.warmup, self.start)
        if rising is not None:
            return rising
        q = (1 + math.cos(math.pi * (progress - self.warmup) / (self.stretch - self.warmup))) / 2
        return q + self.final * (1 - q)


@part("schedule", "linear")
class Linear:
    """Linear warm-up, then a straight line from 1 at progress `warmup` to `final` at progress 1."""

    def __init__(self, *, warmup: WarmUp = 0.0, start: Fraction = 0.0, final: Fraction = 0.0) -> None:
        self.warmup, self.start, self.final = warmup, start, final

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """The start belongs to the warm-up."""
        return _unread(settings)

    def __call__(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        rising = _rising(progress, self.warmup, self.start)
        if rising is not None:
            return rising
        return 1 - (1 - self.final) * (progress - self.warmup) / (1 - self.warmup)


@part("schedule", "constant")
class Constant:
    """Linear warm-up, then the peak rate to the end."""

    def __init__(self, *, warmup: WarmUp = 0.0, start: Fraction = 0.0) -> None:
        self.warmup, self.start = warmup, start

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """The start belongs to the warm-up."""
        return _unread(settings)

    def __call__(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        rising = _rising(progress, self.warmup, self.start)
        return 1.0 if rising is None else rising


@part("schedule", "trapezoid")
class Trapezoid:
    """Linear warm-up, the peak rate, and a straight line down to `final` over the last `decay` of the run (warm-up, stable, decay).

    With warmup = decay = 4500 / 94,500 and start = 7.5 / 42.5 the rates of V-JEPA 2-AC (arXiv 2506.09985).
    """

    def __init__(
        self, *, warmup: WarmUp = 0.05, start: Fraction = 0.0, decay: WarmUp = 0.05, final: Fraction = 0.0
    ) -> None:
        self.warmup, self.start, self.decay, self.final = warmup, start, decay, final

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """The two slopes fit into the run."""
        if settings["warmup"] + settings["decay"] > 1:
            yield f"warmup={settings['warmup']} and decay={settings['decay']} are more than the run: lower one of them"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """The start belongs to the warm-up, the final rate to the decay."""
        return _unread(settings) | ({} if settings["decay"] else {"final": "there is no decay"})

    def __call__(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        rising = _rising(progress, self.warmup, self.start)
        if rising is not None:
            return rising
        left = 1 - progress
        return 1.0 if left >= self.decay else self.final + (1 - self.final) * left / self.decay
