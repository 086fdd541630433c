from __future__ import annotations

import torch

from tacit.ops.clustering import nearest_centroid, spherical_kmeans
from tacit.ops.similarity import unit


def test_the_nearest_centroid_is_the_largest_product(rng):
    rows, centroids = torch.randn(50, 4, generator=rng), torch.randn(7, 4, generator=rng)
    assert torch.equal(nearest_centroid(rows, centroids), (rows @ centroids.T).argmax(dim=1))


def test_tight_bunches_are_found(rng):
    """Some start finds all bunches; in each, centroids have length one and are the direction of their rows' mean."""
    own = torch.arange(60) % 4
    rows = unit(torch.eye(4, 6)[own] + 0.03 * torch.randn(60, 6, generator=rng))
    found = []
    for seed in range(12):
        torch.manual_seed(seed)
        centroids, cluster = spherical_kmeans(rows, 4, 10)
        torch.testing.assert_close(centroids.norm(dim=1), torch.ones(4))
        for k in cluster.unique():
            torch.testing.assert_close(centroids[k], unit(rows[cluster == k].mean(dim=0)))
        found.append(len({(int(a), int(b)) for a, b in zip(own, cluster, strict=True)}) == 4)
    assert any(found)


def test_every_iteration_brings_rows_and_centroids_closer(rng):
    rows = unit(torch.randn(80, 5, generator=rng))
    closeness = []
    for iterations in (1, 2, 4, 8):
        torch.manual_seed(0)
        centroids, cluster = spherical_kmeans(rows, 6, iterations)
        closeness.append((rows * centroids[cluster]).sum().item())
    assert closeness == sorted(closeness) and closeness[-1] > closeness[0]


def test_fewer_rows_than_centroids_and_empty_ones_stay_finite(rng):
    rows = unit(torch.randn(3, 5, generator=rng))
    centroids, cluster = spherical_kmeans(rows, 5, 4)
    assert bool(centroids.isfinite().all()) and len(cluster) == 3
    same = unit(torch.ones(6, 5))
    assert bool(spherical_kmeans(same, 3, 4)[0].isfinite().all())
