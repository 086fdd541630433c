"""Clustering on the sphere. Legend: n rows, d features, k centroids. Pure but for the first choice, which draws from torch's generator."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tacit.core.ranks import ALONE, Ranks
from tacit.ops.similarity import unit

__all__ = ["nearest_centroid", "spherical_kmeans"]

_TILE = 1 << 26  # similarities held at once: 256 MiB in float32


@torch.no_grad()
def nearest_centroid(rows: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """The centroid of largest inner product with each row, by blocks of rows; the first of equals."""
    blocks = rows.split(max(1, _TILE // len(centroids)))
    return torch.cat([(block @ centroids.T).argmax(dim=1) for block in blocks])


@torch.no_grad()
def spherical_kmeans(
    rows: Float[Tensor, "n d"], k: int, iterations: int = 10, ranks: Ranks = ALONE
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Centroids of unit rows and the nearest of each row: assign by cosine, average at length one, `iterations` times over.

    The first centroids are k random rows (on every rank those that rank 0 draws; the rows must be the same on all); a centroid without
    rows stays where it was. Of fewer rows than k some serve twice.
    """
    n = len(rows)
    drawn = torch.randperm(n, device=rows.device)
    if ranks.size > 1:
        drawn = ranks.total(drawn if ranks.rank == 0 else torch.zeros_like(drawn))
    centroids = rows[drawn[torch.arange(k, device=rows.device) % n]]
    for _ in range(iterations):
        own = nearest_centroid(rows, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, own, rows)
        filled = torch.zeros(k, dtype=torch.bool, device=rows.device).index_fill_(0, own, True)
        centroids = torch.where(filled[:, None], unit(sums), centroids)
    return centroids, nearest_centroid(rows, centroids)
