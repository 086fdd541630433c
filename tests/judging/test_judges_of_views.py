"""LiDAR, alignment, self-clustering, uniformity and CLID: closed forms, invariances, bounds, merging, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.parts import find
from tacit.core.protocols import Judge
from tacit.core.ranks import Ranks
from tacit.judging import Alignment, Geometry, LiDAR, SelfCluster, ViewPanel, clid, judge_all
from tacit.judging.sample import Sample
from tacit.judging.scatter import Scatter
from tacit.ops import geometry, spectrum

from .test_judges import together


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fed(judge, z, batch=7):
    for part in z.split(batch):
        judge.update(part)
    return judge


def by_definition(z, delta, eps):
    """LiDAR as the paper writes it, with the root of the within-class scatter."""
    n, q, d = z.shape
    mu = z.mean(dim=1)
    between = torch.cov(mu.T)
    away = (z - mu[:, None]).flatten(0, 1)
    within = away.T @ away / (n * (q - 1)) + delta * torch.eye(d, dtype=z.dtype)
    lam, basis = torch.linalg.eigh(within)
    root = basis @ torch.diag(lam**-0.5) @ basis.T
    p = torch.linalg.eigvalsh(root @ between @ root).clamp(min=0)
    p = p / p.sum() + eps
    return math.exp(-float((p * p.log()).sum()))


def test_streamed_lidar_is_the_papers():
    z = 100 + normal(40, 1, 12) * torch.arange(1, 13) + 0.5 * normal(40, 5, 12, seed=1)
    score = fed(LiDAR(), z).compute()
    assert score.value == pytest.approx(by_definition(z, 1e-4, 1e-8), rel=1e-9)
    assert score.n == 200
    assert score.protocol == "lidar/q=5,delta=0.0001,eps=1e-08@1"
    assert score.note == "of at most 12; 40 samples of 5 views"


def test_lidar_is_the_rank_of_what_tells_samples_apart():
    """Samples differ along r directions with equal strength, views along all: r; RankMe sees every direction."""
    d, r, n = 16, 4, 4096
    means = torch.zeros(n, 1, d, dtype=torch.float64)
    means[:, :, :r] = normal(n, 1, r)
    white = torch.linalg.qr(means[:, 0, :r] - means[:, 0, :r].mean(dim=0)).Q * math.sqrt(n - 1)
    means[:, 0, :r] = white
    noise = normal(n, 8, d, seed=1)
    z = means * 30 + (noise - noise.mean(dim=1, keepdim=True))
    assert fed(LiDAR(), z, 512).compute().value == pytest.approx(r, rel=2e-3)
    assert judge_all(z.flatten(0, 1))[0].value > 1.4 * r


def test_lidar_does_not_change_under_invertible_maps_when_views_outweigh_delta():
    z = normal(60, 1, 6) + normal(60, 4, 6, seed=1)
    a = normal(6, 6, seed=2) * 1e3
    assert fed(LiDAR(delta=1e-30), z @ a).compute().value == pytest.approx(
        fed(LiDAR(delta=1e-30), z).compute().value, rel=1e-6
    )


def test_lidar_is_bounded_by_samples_and_features():
    for n, d in ((5, 30), (50, 8)):
        score = fed(LiDAR(eps=0), normal(n, 1, d) + 0.1 * normal(n, 3, d, seed=1)).compute()
        assert 1 <= score.value <= min(n - 1, d) * (1 + 1e-9)
    assert "fewer samples than features (30) cap it" in fed(LiDAR(), normal(5, 2, 30)).compute().note


def test_alignment_is_the_mean_over_all_pairs_of_views():
    z = normal(30, 4, 5)
    u = torch.nn.functional.normalize(z, dim=2)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    expected = sum((u[:, i] - u[:, j]).square().sum(dim=1).mean() for i, j in pairs) / len(pairs)
    assert fed(Alignment(), z).compute().value == pytest.approx(float(expected), rel=1e-12)
    assert fed(Alignment(), z[:, :1].expand(-1, 3, -1) * 7).compute().value == pytest.approx(0, abs=1e-12)


def test_self_cluster_streams_the_definition_over_all_pairs():
    z = 0.5 + normal(300, 20)
    u = torch.nn.functional.normalize(z, dim=1)
    n, d = z.shape
    expected = (d * float((u @ u.T).square().sum()) - n * (d + n - 1)) / ((d - 1) * (n - 1) * n)
    assert fed(SelfCluster(), z).compute().value == pytest.approx(expected, rel=1e-5)
    assert fed(SelfCluster(), torch.ones(50, 4)).compute().value == pytest.approx(1, abs=1e-6)
    assert abs(fed(SelfCluster(), normal(20000, 8), 999).compute().value) < 1e-3


def test_uniformity_of_collapse_of_a_pair_and_of_a_sphere():
    assert geometry.uniformity(torch.ones(9, 3)) == pytest.approx(0, abs=1e-6)
    assert geometry.uniformity(torch.tensor([[1.0, 0], [0, 5.0]])) == pytest.approx(-4)  # |u - v|^2 = 2
    assert geometry.uniformity(normal(2000, 512)) == pytest.approx(-4, abs=0.05)


def test_two_nn_finds_the_dimension_of_a_flat_sheet_in_many_features():
    sheet = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ normal(3, 40)
    dimension, used = geometry.two_nn(geometry.two_nearest(sheet))
    assert dimension == pytest.approx(3, rel=0.1)
    assert used == 4000
    doubled = torch.cat([sheet[:500], sheet[:500]])
    assert math.isnan(geometry.two_nn(geometry.two_nearest(doubled))[0])


def test_islands_are_learnable_and_noise_is_not():
    centres = 20 * normal(16, 8)
    islands = centres[torch.arange(256) % 16] + 0.01 * normal(256, 8, seed=1)
    assert geometry.cluster_learnability(islands, k=16) == [1.0] * 5
    assert sum(geometry.cluster_learnability(normal(256, 64))) / 5 < 0.6


def test_clid_adds_standardised_halves():
    assert clid([0.2, 0.4], [10, 30]) == pytest.approx([-2, 2])
    assert clid([0.2, 0.4], [10, 10]) == pytest.approx([-1, 1])
    with pytest.raises(DataError) as error:
        clid([0.2], [3])
    assert str(error.value) == "clid compares models: it needs both quantities of at least 2, found 1 and 1"


def test_the_sample_does_not_depend_on_the_batches_and_is_even():
    z = torch.arange(50000)[:, None].double()
    whole, parts = Sample(500), Sample(500)
    whole.update(z)
    for part in z.split(333):
        parts.update(part)
    assert torch.equal(whole.rows(), parts.rows())
    assert len(whole.rows().unique()) == 500
    assert float(whole.rows().mean()) == pytest.approx(25000, abs=4 * 50000 / math.sqrt(12 * 500))


def test_scatter_far_from_zero_keeps_its_digits():
    z = 1e6 + normal(500, 4)
    scatter = Scatter(4)
    for part in z.split(90):
        scatter.add(part)
    torch.testing.assert_close(scatter.products() / 499, torch.cov(z.T), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("first", [0, 10, 40])
def test_two_ranks_judge_as_one(first):
    z = 5 + normal(60, 1, 9) + 0.3 * normal(60, 3, 9, seed=1)
    judges = [fed(ViewPanel(), z[:first]) if first else ViewPanel(), fed(ViewPanel(), z[first:])]
    assert together(judges, lambda judge, ranks: judge.merge(ranks)) == []
    for mine, other, whole in zip(judges[0].scores(), judges[1].scores(), fed(ViewPanel(), z).scores(), strict=True):
        assert mine == other
        assert (mine.n, mine.protocol, mine.note) == (whole.n, whole.protocol, whole.note)
        assert mine.value == pytest.approx(whole.value, rel=1e-9)


def test_a_merged_geometry_holds_one_sample_of_all_ranks():
    z = normal(3000, 5)
    judges = [fed(Geometry(size=256), z[:1000], 99), fed(Geometry(size=256), z[1000:], 99)]
    assert together(judges, lambda judge, ranks: judge.merge(ranks)) == []
    rows = [judge._sample.rows() for judge in judges]
    assert torch.equal(*rows)
    assert len(rows[0]) == 256
    assert (rows[0][:, None] == z[None]).all(dim=2).any(dim=1).all()  # each is a row of the data
    from_second = (rows[0][:, None] == z[None, 1000:]).all(dim=2).any(dim=1).double().mean()
    assert float(from_second) == pytest.approx(2 / 3, abs=0.12)
    assert judges[0].scores() == judges[1].scores()
    assert judges[0].scores()[0].n == 256


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: LiDAR().update(torch.ones(4, 3)),
            "lidar: embeddings must be [samples views features] with at least 2 views, found [4, 3]: group the views of each sample",
        ),
        (
            lambda: fed(Alignment(), torch.ones(4, 2, 3)).update(torch.ones(4, 3, 3)),
            "alignment: embeddings must be [samples 2 features], found [4, 3, 3]: group the views of each sample",
        ),
        (
            lambda: fed(LiDAR(), torch.ones(1, 2, 3)).compute(),
            "lidar needs at least 2 samples, found 1: update it with a larger sample",
        ),
        (
            lambda: geometry.cluster_learnability(torch.ones(3, 2)),
            "cluster learnability needs at least 4 samples, found 3: judge a larger sample",
        ),
        (
            lambda: geometry.uniformity(torch.ones(1, 2)),
            "uniformity needs at least 2 samples, found 1: judge a larger sample",
        ),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == sentence


def test_they_are_parts_of_the_role_judge():
    for kind in ("lidar", "alignment", "self-cluster", "geometry"):
        assert isinstance(find("judge", kind)(), Judge)


def test_collapsed_embeddings_are_judged_and_not_refused():
    scores = {score.protocol: score.value for score in judge_all(torch.ones(64, 4))}
    assert scores["self-cluster@1"] == pytest.approx(1, abs=1e-6)
    assert scores["uniformity/t=2@1"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(scores["intrinsic-dimension/two-nn@1"])
    still = fed(LiDAR(), torch.ones(8, 3, 4))
    still.merge(Ranks())
    assert still.compute().value == 0
    assert spectrum.lidar(torch.zeros(2, 2), torch.zeros(2, 2)) == 0
