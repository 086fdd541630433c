"""Random numbers of trajectories: a function of (seed, index, what), whatever the batch or the worker.

Every trajectory has its own Philox stream for each thing drawn, so that a longer list of waves leaves the length as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.random import key

__all__ = ["Waves", "draw", "jittered", "stream", "uniform", "waves"]


def stream(seed: int, index: int, what: str) -> np.random.Generator:
    """The stream of one trajectory for one purpose."""
    return np.random.Generator(np.random.Philox(key=key(seed, "pde", what, index)))


def draw(
    seed: int, indices: Sequence[int], what: str, sample: Callable[[np.random.Generator], NDArray[np.float64]]
) -> Tensor:
    """`sample(stream)` of every index, stacked: float64 [n ...]."""
    return torch.from_numpy(np.stack([np.asarray(sample(stream(seed, int(i), what))) for i in indices]))


def uniform(seed: int, indices: Sequence[int], what: str, low: float, high: float) -> Tensor:
    """One number in [low, high) for each index: [n]."""
    return draw(seed, indices, what, lambda r: np.asarray(r.uniform(low, high)))


def jittered(seed: int, indices: Sequence[int], what: str, centre: float, jitter: float) -> Tensor:
    """centre * U(1 - jitter, 1 + jitter): [n]."""
    return centre * uniform(seed, indices, what, 1 - jitter, 1 + jitter)


@dataclass(frozen=True)
class Waves:
    """sum_i amplitude_i sin(2 pi number_i x / L + phase_i), each [n i]."""

    amplitude: Tensor
    number: Tensor
    phase: Tensor

    def __call__(self, x: Tensor, length: Tensor) -> Tensor:
        """The sum at x [n points] for periods [n]: [n points]."""
        k = 2 * math.pi * self.number / length.unsqueeze(-1)
        angle = k.unsqueeze(-1) * x.unsqueeze(-2) + self.phase.unsqueeze(-1)
        return (self.amplitude.unsqueeze(-1) * angle.sin()).sum(-2)

    def facts(self) -> dict[str, Tensor]:
        """The coefficients by name, [n i] each."""
        return {"amplitude": self.amplitude, "number": self.number, "phase": self.phase}

    def modes(self, lowest: int, highest: int) -> dict[str, Tensor]:
        """The amplitude of the sum at each wave number, `mode_1`, `mode_2`, ..., [n] each: what the sum determines.

        Waves of one number add up to one, so that the single coefficients cannot be told from the field; their sum can,
        and its amplitude does not change under a shift of the line.
        """
        wave = torch.polar(self.amplitude, self.phase)
        return {
            f"mode_{m}": torch.where(self.number == m, wave, torch.zeros_like(wave)).sum(-1).abs()
            for m in range(lowest, highest)
        }


def waves(seed: int, indices: Sequence[int], count: int, lowest: int, highest: int) -> Waves:
    """`count` waves: A ~ U(-1/2, 1/2), phase ~ U(0, 2 pi), integer number in [lowest, highest), the upper bound excluded."""
    a = draw(seed, indices, "amplitude", lambda r: r.uniform(-0.5, 0.5, count))
    p = draw(seed, indices, "phase", lambda r: r.uniform(0, 2 * math.pi, count))
    n = draw(seed, indices, "number", lambda r: r.integers(lowest, highest, count).astype(np.float64))
    return Waves(a, n, p)
