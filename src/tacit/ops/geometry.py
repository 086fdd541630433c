"""What is read from pairs of embeddings: clusters, nearest distances, spread on the sphere. Random choices are functions of a seed.

Legend: z [n d] one sample per row; k clusters.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.random import torch_seed
from tacit.ops.clustering import nearest_centroid

__all__ = ["cluster_learnability", "two_nearest", "two_nn", "uniformity"]

_CELLS = 1 << 22  # distances held at once


def _squares(z: Tensor, centres: Tensor) -> Tensor:
    """Squared distances [n k] by the product, not below 0."""
    found = z.square().sum(dim=1, keepdim=True) + centres.square().sum(dim=1) - 2 * z @ centres.T
    return found.clamp(min=0)


def _clusters(units: Tensor, k: int, seed: int) -> Tensor:
    """The cluster of each unit row by spherical k-means from a k-means++ start: a function of (units, k, seed).

    Unlike random first centroids, which training uses, those of k-means++ seldom cut an island in two.
    """
    generator = torch.Generator().manual_seed(torch_seed(seed, "clusters"))
    chosen = [int(torch.randint(len(units), (1,), generator=generator))]
    far = 2 - 2 * units @ units[chosen[0]]
    for _ in range(k - 1):
        weight = far.double().clamp(min=1e-12).cpu().cumsum(0)
        lot = torch.rand(1, generator=generator, dtype=torch.float64) * weight[-1]
        chosen.append(min(int(torch.searchsorted(weight, lot)), len(units) - 1))
        far = torch.minimum(far, 2 - 2 * units @ units[chosen[-1]])
    centroids = units[torch.tensor(chosen, device=units.device)]
    own = nearest_centroid(units, centroids)
    for _ in range(30):
        sums = torch.zeros_like(centroids).index_add_(0, own, units)
        centroids = torch.where(
            sums.norm(dim=1, keepdim=True) > 0, torch.nn.functional.normalize(sums, dim=1), centroids
        )
        before, own = own, nearest_centroid(units, centroids)
        if torch.equal(before, own):
            break
    return own


def cluster_learnability(
    z: Float[Tensor, "n d"], *, k: int | None = None, splits: int = 5, seed: int = 0
) -> list[float]:
    """For each of `splits` random halvings: accuracy in which one half's nearest neighbours name the clusters of the other.

    The clusters are those of spherical k-means over all rows, k = sqrt(n) by default; distances are cosines. 1 where clusters are
    islands, about 1 / k where they are arbitrary cuts. The CL of CLID (arXiv 2206.01251, its later version with held-out halves).
    """
    if len(z) < 4:
        raise DataError(f"cluster learnability needs at least 4 samples, found {len(z)}: judge a larger sample")
    units = torch.nn.functional.normalize(z, dim=1)
    labels = _clusters(units, k or max(2, int(len(z) ** 0.5)), seed)
    found = []
    for split in range(splits):
        lot = torch.randperm(len(z), generator=torch.Generator().manual_seed(torch_seed(seed, "halves", split))).to(
            z.device
        )
        bank, queries = lot[: len(z) // 2], lot[len(z) // 2 :]
        step = max(1, _CELLS // len(bank))
        guess = torch.cat([(units[some] @ units[bank].T).argmax(dim=1) for some in queries.split(step)])
        found.append(float((labels[bank[guess]] == labels[queries]).double().mean()))
    return found


def _blocks(z: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of blocks of rows to all rows, a row's to itself set to infinity."""
    step = max(1, _CELLS // len(z))
    for start in range(0, len(z), step):
        block = slice(start, min(start + step, len(z)))
        squares = _squares(z[block], z)
        own = torch.arange(block.start, block.stop, device=z.device)
        squares[own - block.start, own] = torch.inf
        yield block, squares


def two_nearest(z: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    """Distances of each row to its nearest and second nearest other row, in float64."""
    z = z.double()
    z = z - z.mean(dim=0)  # the product form loses less where the rows lie around zero
    found = []
    for block, squares in _blocks(z):
        index = squares.topk(2, dim=1, largest=False).indices
        found.append((z[block, None] - z[index]).norm(dim=2))  # by difference: twins are at exactly 0
    return torch.cat(found).sort(dim=1).values


def two_nn(near: Float[Tensor, "n 2"]) -> tuple[float, int]:
    """Intrinsic dimension m / sum log(r2 / r1) over the m rows with r1 > 0, and m (TwoNN, arXiv 1803.06992).

    Rows that have a twin (r1 = 0) say nothing and are left out; nan where none is left or all ratios are 1.
    """
    near = near[near[:, 0] > 0]
    total = float((near[:, 1] / near[:, 0]).log().sum()) if len(near) else 0.0
    return (len(near) / total if total > 0 else float("nan")), len(near)


def uniformity(z: Float[Tensor, "n d"], t: float = 2.0) -> float:
    """log of the mean over pairs i < j of exp(-t |u_i - u_j|^2), u the rows at length one (arXiv 2005.10242).

    0 at collapse; about -2 t for directions uniform on a sphere of many dimensions. Lower is more uniform.
    """
    if len(z) < 2:
        raise DataError(f"uniformity needs at least 2 samples, found {len(z)}: judge a larger sample")
    units = torch.nn.functional.normalize(z.double(), dim=1)
    total = sum(float((-t * squares).exp().sum()) for _, squares in _blocks(units))
    return float(torch.tensor(total / (len(z) * (len(z) - 1)), dtype=torch.float64).log())
