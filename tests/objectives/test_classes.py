"""Objectives on classes, given (SupCon) or found (DeepCluster-v2)."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.ops.similarity import unit


def normal(rng, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


def supcon(**settings):
    return Spec("objective", "supcon", **settings).build()


def test_supcon_is_the_papers_l_out_written_out(rng):
    a, b = normal(rng, 2, 6, 5)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    u, y = unit(torch.cat([a, b])), labels.repeat(2)
    expected = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        total = torch.logsumexp(torch.stack([u[i] @ u[j] / 0.3 for j in others]), dim=0)
        partners = [j for j in others if y[j] == y[i]]
        expected += sum(total - u[i] @ u[p] / 0.3 for p in partners) / len(partners) / 12
    torch.testing.assert_close(supcon(temperature=0.3)(a, b, labels=labels)["loss"], expected)


def test_with_all_labels_different_it_is_simclr(rng):
    a, b = normal(rng, 2, 6, 5)
    other = Spec("objective", "simclr", temperature=0.2).build()(a, b)["loss"]
    torch.testing.assert_close(supcon(temperature=0.2)(a, b, labels=torch.arange(6) * 7)["loss"], other)


def test_of_equal_embeddings_it_is_the_log_of_all_others(rng):
    one = torch.ones(6, 5, dtype=torch.float64)
    for labels in (torch.zeros(6, dtype=torch.int64), torch.arange(6)):
        assert supcon()(one, one, labels=labels)["loss"].item() == pytest.approx(math.log(11))


def test_the_names_of_classes_mean_nothing(rng):
    a, b = normal(rng, 2, 6, 5)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    torch.testing.assert_close(supcon()(a, b, labels=labels), supcon()(a, b, labels=torch.tensor([9, -4, 30])[labels]))


def test_without_labels_it_is_refused(rng):
    a, b = normal(rng, 2, 6, 5)
    with pytest.raises(RecipeError) as caught:
        supcon()(a, b)
    assert str(caught.value) == (
        "objective 'supcon' contrasts classes and was given no labels: name them, system.labels=label, or use objective 'simclr', "
        "which needs none"
    )


def deepcluster(**settings):
    return Spec("objective", "deepcluster", **{"prototypes": (3, 2), "memory": 12, **settings}).build()


def bunches(rng, n=12, k=3):
    """Unit rows in k tight bunches, with the bunch of each."""
    own = torch.arange(n) % k
    return unit(torch.eye(k, 5, dtype=torch.float64)[own] + 0.05 * normal(rng, n, 5)), own


def test_it_classifies_by_the_clusters_of_the_memory(rng):
    """Samples of one bunch get one class, whichever view asks; the loss is the mean cross entropy over heads."""
    torch.manual_seed(1)
    objective, (rows, own) = deepcluster(prototypes=(3, 3), iterations=20), bunches(rng)
    ids = torch.randperm(100, generator=rng)[:12]
    objective.remember([rows, rows], ids=ids)
    found = objective.target(normal(rng, 12, 5), ids=ids)
    assert found.shape == (12, 2)
    for head in found.T:
        for cls in range(3):
            assert len(set(head[own == cls].tolist())) == 1
    student = normal(rng, 12, 5)
    losses = [
        F.cross_entropy(unit(student) @ c.T / 0.1, found[:, h]) for h, c in enumerate(objective.centroids.split([3, 3]))
    ]
    torch.testing.assert_close(objective.compare(student, found)["loss"], sum(losses) / 2)


def test_an_unknown_sample_takes_the_nearest_centroid(rng):
    objective, (rows, _) = deepcluster(), bunches(rng)
    objective.remember([rows, rows], ids=torch.arange(12))
    z = normal(rng, 4, 5)
    found = objective.target(z, ids=torch.tensor([50, 51, 52, 53]))
    for h, c in enumerate(objective.centroids.split([3, 2])):
        assert torch.equal(found[:, h], (unit(z) @ c.T).argmax(dim=1))


def test_it_clusters_first_at_as_many_rows_as_centroids_and_then_once_a_memory(rng):
    objective, rows = deepcluster(), unit(normal(rng, 40, 5))
    times = []
    for step in range(20):
        before = objective.known
        new = rows[2 * step : 2 * step + 2]
        objective.remember([new, new], ids=torch.arange(2 * step, 2 * step + 2))
        if objective.known is not before:
            times.append(step)
    assert times == [1, 7, 13, 19]  # 4 rows are the first to be 3 or more; then every 12
    assert objective.known.tolist() == list(range(28, 40))  # the last twelve samples


def test_the_newest_embedding_of_a_sample_counts(rng):
    objective, (rows, _) = deepcluster(prototypes=(3,), memory=12, iterations=20), bunches(rng)
    torch.manual_seed(0)
    ids = torch.cat([torch.arange(6), torch.arange(6)])
    objective.remember([rows, rows], ids=ids)
    assert objective.known.tolist() == list(range(6))
    found = objective.target(rows[6:], ids=torch.arange(6))[:, 0]
    near = (rows[6:] @ objective.centroids.T).argmax(dim=1)
    assert torch.equal(found, near)


def test_the_memory_is_restored(rng):
    objective, (rows, _) = deepcluster(), bunches(rng)
    objective.remember([rows, rows.flip(0)], ids=torch.arange(12))
    other = deepcluster()
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    z = normal(rng, 12, 5)
    assert torch.equal(objective.target(z, ids=torch.arange(12)), other.target(z, ids=torch.arange(12)))
    for one in (objective, other):
        torch.manual_seed(3)
        one.remember([rows, rows], ids=torch.arange(12))
    assert torch.equal(objective.centroids, other.centroids)
