"""Second moments about the mean, streamed and merged without cancellation, also where the mean is far from zero."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.core.ranks import Ranks
from tacit.ops.spectrum import add_gram, mirror

__all__ = ["Scatter"]


class Scatter:
    """n rows of width d: their mean [d] and the sum of outer products of deviations from it [d d], in float64."""

    def __init__(self, d: int, device: torch.device | str = "cpu") -> None:
        self.n = 0.0
        self.mean = torch.zeros(d, dtype=torch.float64, device=device)
        self._upper = torch.zeros(d, d, dtype=torch.float64, device=device)  # on and above the diagonal

    def add(self, z: Tensor) -> None:
        """Take rows [m d] in."""
        if not len(z):
            return
        z = z.double()
        mean = z.mean(dim=0)
        add_gram(z - mean, self._upper)
        self._shift(float(len(z)), mean)

    def _shift(self, n: float, mean: Tensor) -> None:
        """Account for n rows about `mean`, whose own products are in already (Chan, Golub & LeVeque 1979)."""
        gap, total = mean - self.mean, self.n + n
        self._upper += torch.outer(gap, gap) * (self.n * n / total)
        self.mean = self.mean + gap * (n / total)
        self.n = total

    def products(self) -> Tensor:
        """The sum of outer products of deviations [d d], symmetric."""
        return mirror(self._upper)

    def merge(self, ranks: Ranks) -> None:
        """Add the rows of all ranks."""
        n = float(ranks.total(self.mean.new_tensor([self.n])))
        mean = ranks.total(self.mean * self.n) / max(n, 1.0)
        gap = self.mean - mean
        self._upper = ranks.total(self._upper + self.n * torch.outer(gap, gap))
        self.n, self.mean = n, mean
