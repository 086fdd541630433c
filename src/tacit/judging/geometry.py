"""Judges of how embeddings lie on the sphere and in clusters: self-cluster, uniformity, CLID's two halves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.ranks import Ranks
from tacit.core.values import Score
from tacit.judging.sample import Sample
from tacit.judging.stream import Rows
from tacit.ops import geometry, spectrum
from tacit.ops.neighbours import unit_rows

__all__ = ["Geometry", "SelfCluster", "clid"]

_FLUSH = 4096  # rows whose products are summed in their own precision before they go into float64


@part("judge", "self-cluster")
class SelfCluster:
    """Self-clustering: how far the energy of the cosines exceeds that of uniform directions; 0 uniform, 1 all rows equal.

        (d |U U^T|_F^2 - n (d + n - 1)) / ((d - 1) (n - 1) n),   U the n rows at length one

    All n^2 cosines count, without forming them: |U U^T|_F = |U^T U|_F, summed over the stream in O(d^2). High values say that
    embeddings crowd into few directions; related to the clustering that spectral methods avoid, not to classes.
    """

    def __init__(self) -> None:
        self._rows, self._count = Rows("self-cluster"), 0
        self._fresh: Tensor | None = None
        self._whole: Tensor | None = None

    def update(self, z: Tensor) -> None:
        """Take embeddings [m d] in."""
        z = self._rows.take(z)
        if not len(z):
            return
        if self._fresh is None or self._whole is None:
            self._fresh = torch.zeros(z.shape[1], z.shape[1], device=z.device, dtype=z.dtype)
            self._whole = torch.zeros_like(self._fresh, dtype=torch.float64)
        for some in z.split(_FLUSH):
            spectrum.add_gram(unit_rows(some).to(self._fresh), self._fresh)
            self._count += len(some)
            if self._count >= _FLUSH:
                self._flush()

    def _flush(self) -> None:
        if self._fresh is not None and self._whole is not None:
            self._whole += self._fresh
            self._fresh.zero_()
            self._count = 0

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        self._flush()
        device = self._whole.device if self._whole is not None else torch.device("cpu")
        self._rows.merge(ranks, device)
        if self._rows.n:
            d = self._rows.d
            mine = self._whole if self._whole is not None else torch.zeros(d, d, dtype=torch.float64, device=device)
            self._whole = ranks.total(mine)
            self._fresh = torch.zeros(d, d, device=device)

    def compute(self) -> Score:
        """The score over all rows seen so far."""
        self._rows.require(2)
        self._flush()
        if self._whole is None:
            raise RuntimeError("asked before require()")
        value = spectrum.self_cluster(spectrum.mirror(self._whole), self._rows.n)
        return Score(
            value, self._rows.n, "self-cluster@1", "0: directions are uniform, 1: all are equal; over all pairs"
        )


@part("judge", "geometry")
class Geometry:
    """What needs pairs of rows, from an even sample of at most `size` rows: uniformity, cluster learnability, intrinsic dimension.

    uniformity: log mean exp(-2 |u_i - u_j|^2) (arXiv 2005.10242). cluster learnability (CL): accuracy in which one half's
    nearest neighbours name the k-means clusters, k = sqrt(n), of the other half, mean of five halvings; intrinsic dimension
    (ID): TwoNN; both are left out without `clusters`. CLID (arXiv 2206.01251) adds CL and ID after each is standardised over
    the models that are compared: `clid`.
    """

    def __init__(self, *, size: Annotated[int, Gt(3)] = 4096, clusters: bool = True) -> None:
        self._rows, self._sample, self._clusters = Rows("geometry"), Sample(size), clusters

    def update(self, z: Tensor) -> None:
        """Take embeddings [m d] in."""
        self._sample.update(self._rows.take(z))

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        device = self._sample.rows().device if self._rows.n else torch.device("cpu")
        self._rows.merge(ranks, device)
        if self._rows.n:
            self._sample.merge(ranks, self._rows.d, device)

    def compute(self) -> Score:
        """The uniformity alone."""
        return self.scores()[0]

    def scores(self) -> list[Score]:
        """Uniformity, cluster learnability, intrinsic dimension."""
        self._rows.require(4)
        z = self._sample.rows()
        axis = torch.arange(1, z.shape[1] + 1, device=z.device, dtype=torch.float64).sqrt().cos()
        z = z[
            (z.double() @ axis).argsort(stable=True)
        ]  # so that the scores depend on the rows alone, not on their order
        m = len(z)
        uniform = Score(
            geometry.uniformity(z), m, "uniformity/t=2@1", "0 at collapse, -4 for uniform directions; lower is better"
        )
        if not self._clusters:
            return [uniform]
        right = geometry.cluster_learnability(z)
        spread = max(right) - min(right)
        k = max(2, int(m**0.5))
        learnt = Score(
            sum(right) / len(right), m, f"cluster-learnability/k={k},nn=1@1",
            f"5 halvings differ by {spread:.3f}",
        )  # fmt: skip
        dimension, used = geometry.two_nn(geometry.two_nearest(z))
        twins = f"; {m - used} rows with a twin left out" if used < m else ""
        return [
            uniform,
            learnt,
            Score(dimension, used, "intrinsic-dimension/two-nn@1", f"of {self._rows.d} features{twins}"),
        ]


def clid(learnability: Sequence[float], dimension: Sequence[float]) -> list[float]:
    """CLID of each of m models: cluster learnability plus intrinsic dimension, each standardised over the models (arXiv 2206.01251).

    Comparable within one call only. A quantity that does not differ between the models adds nothing.
    """
    if len(learnability) != len(dimension) or len(learnability) < 2:
        raise DataError(
            f"clid compares models: it needs both quantities of at least 2, found {len(learnability)} and {len(dimension)}"
        )
    total = torch.zeros(len(learnability), dtype=torch.float64)
    for values in (learnability, dimension):
        x = torch.tensor(values, dtype=torch.float64)
        std = x.std(correction=0)
        total += (x - x.mean()) / std if std > 0 else torch.zeros_like(x)
    return total.tolist()
