"""Judges of several views of each sample: LiDAR and alignment. They take z [m q d], q views of each of m samples.

Both stream: a batch is m whole samples, and all batches have the same q.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.ranks import Ranks
from tacit.core.values import Score
from tacit.judging.scatter import Scatter
from tacit.judging.stream import Rows
from tacit.ops import spectrum

__all__ = ["Alignment", "LiDAR", "ViewPanel"]


class _Groups:
    """Checks z [m q d] and counts the samples; `rows` counts them as rows of width d."""

    def __init__(self, judge: str) -> None:
        self.judge, self.q, self.rows = judge, 0, Rows(judge)

    def take(self, z: Tensor) -> Tensor:
        if z.ndim != 3 or z.shape[1] < 2 or (self.q and z.shape[1] != self.q):
            wanted = f"[samples {self.q} features]" if self.q else "[samples views features] with at least 2 views"
            raise DataError(
                f"{self.judge}: embeddings must be {wanted}, found {list(z.shape)}: group the views of each sample"
            )
        self.q = z.shape[1]
        return self.rows.take(z.flatten(0, 1)).unflatten(0, (-1, self.q))

    def merge(self, ranks: Ranks, device: torch.device | str) -> None:
        self.rows.merge(ranks, device)
        self.q = int(ranks.gather(torch.tensor([self.q], device=device)).max())

    @property
    def n(self) -> int:
        """Samples seen."""
        return self.rows.n // self.q if self.q else 0

    def require(self, n: int) -> None:
        """Raise unless at least n samples were seen."""
        if self.n < n:
            raise DataError(f"{self.judge} needs at least {n} samples, found {self.n}: update it with a larger sample")


@part("judge", "lidar")
class LiDAR:
    """LiDAR: exp of the entropy of the eigenvalues of the linear discriminant analysis of samples against views (arXiv 2312.04000).

    Each sample is a surrogate class of its q augmented views:
        B = cov of the n class means (divisor n - 1),  W = pooled cov about them (divisor n (q - 1)) + delta I
        l = eigenvalues of W^-1/2 B W^-1/2,  p = l / sum(l) + eps,  LiDAR = exp(-sum p log p)

    Between 1 and min(d, n - 1) (up to eps). Directions that change within a sample count less than in RankMe. The paper's
    setting is 1,000 samples of 50 views, delta 1e-4, eps 1e-8; fewer cap it and are shown in the protocol's name.
    """

    def __init__(self, *, delta: Annotated[float, Gt(0)] = 1e-4, eps: Annotated[float, Ge(0)] = 1e-8) -> None:
        self.delta, self.eps = delta, eps
        self._groups = _Groups("lidar")
        self._between: Scatter | None = None
        self._within: Tensor | None = None

    def update(self, z: Tensor) -> None:
        """Take embeddings [m q d] in."""
        z = self._groups.take(z).double()
        if not len(z):
            return
        between, within = self._state(z.device)
        means = z.mean(dim=1)
        between.add(means)
        spectrum.add_gram((z - means[:, None]).flatten(0, 1), within)

    def _state(self, device: torch.device | str = "cpu") -> tuple[Scatter, Tensor]:
        if self._between is None or self._within is None:
            d = self._groups.rows.d
            self._between = Scatter(d, device)
            self._within = torch.zeros(d, d, dtype=torch.float64, device=device)
        return self._between, self._within

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        device = self._within.device if self._within is not None else torch.device("cpu")
        self._groups.merge(ranks, device)
        if self._groups.rows.n:
            between, within = self._state(device)
            between.merge(ranks)
            self._within = ranks.total(within)

    def compute(self) -> Score:
        """The score over all samples seen so far."""
        self._groups.require(2)
        between, within = self._state()
        n, q, d = self._groups.n, self._groups.q, self._groups.rows.d
        products = spectrum.mirror(within)
        value = spectrum.lidar(between.products() / (n - 1), products / (n * (q - 1)), self.delta, self.eps)
        note = f"of at most {min(d, n - 1)}; {n} samples of {q} views"
        if n - 1 < d:
            note += f"; fewer samples than features ({d}) cap it"
        return Score(value, n * q, f"lidar/q={q},delta={self.delta:g},eps={self.eps:g}@1", note)


@part("judge", "alignment")
class Alignment:
    """Alignment: mean squared distance of two views of one sample on the unit sphere (arXiv 2005.10242, alpha 2).

    Over all pairs of the q views: 2 q / (q - 1) (1 - |mean of the unit rows|^2). 0 where views meet, 2 where they are unrelated.
    """

    def __init__(self) -> None:
        self._groups, self._total = _Groups("alignment"), torch.zeros((), dtype=torch.float64)

    def update(self, z: Tensor) -> None:
        """Take embeddings [m q d] in."""
        z = torch.nn.functional.normalize(self._groups.take(z).double(), dim=2)
        q = z.shape[1]
        pairs = (z.square().sum(dim=(1, 2)) * q - z.sum(dim=1).square().sum(dim=1)) * (2 / (q * (q - 1)))
        self._total = self._total.to(z.device) + pairs.sum()

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        self._groups.merge(ranks, self._total.device)
        self._total = ranks.total(self._total)

    def compute(self) -> Score:
        """The mean over all samples seen so far."""
        self._groups.require(1)
        n, q = self._groups.n, self._groups.q
        note = "0: views of a sample meet, 2: they are unrelated"
        return Score(max(float(self._total) / n, 0.0), n * q, f"alignment/q={q}@1", note)


class ViewPanel:
    """LiDAR and alignment from one pass over z [m q d]."""

    def __init__(self) -> None:
        self._judges = (LiDAR(), Alignment())

    def update(self, z: Tensor) -> None:
        """Take embeddings [m q d] in."""
        for judge in self._judges:
            judge.update(z)

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        for judge in self._judges:
            judge.merge(ranks)

    def scores(self) -> list[Score]:
        """Both."""
        return [judge.compute() for judge in self._judges]
