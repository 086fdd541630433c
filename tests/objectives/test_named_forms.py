"""Public codes differ in scaling; each form has a name, and is what its code computes."""

from __future__ import annotations

import pytest
import torch

from tacit.objectives.lejepa import LeJEPA
from tacit.objectives.vicreg import VICReg


@pytest.fixture
def pair(rng):
    return (torch.randn(2, 10, 6, dtype=torch.float64, generator=rng) / 2).unbind()


@pytest.mark.parametrize(
    ("scaling", "invariance", "variance", "covariance"),
    [("official", 1, 1, 1), ("paper", 6, 2, 1), ("solo-learn", 1, 2, 1), ("vicregl", 1, 1, 0.5)],
)
def test_each_scaling_of_vicreg_multiplies_its_terms(pair, scaling, invariance, variance, covariance):
    """With d = 6: the paper's invariance has no 1/d and its variances are summed; solo-learn sums variances; VICRegL halves c."""
    plain, named = VICReg()(*pair), VICReg(scaling=scaling)(*pair)
    assert named["invariance"].item() == pytest.approx(invariance * plain["invariance"].item())
    assert named["variance"].item() == pytest.approx(variance * plain["variance"].item())
    assert named["covariance"].item() == pytest.approx(covariance * plain["covariance"].item())
    assert named["loss"].item() == pytest.approx(sum(named[n].item() for n in ("invariance", "variance", "covariance")))


def test_weights_can_undo_a_scaling(pair):
    paper = VICReg(scaling="paper", invariance=25 / 6, variance=12.5)
    torch.testing.assert_close(paper(*pair)["loss"], VICReg()(*pair)["loss"])


def test_sigreg_per_view_and_over_all_views_differ_by_the_sample_count_alone_where_views_are_equal(pair):
    """Both views alike: the flattened batch has twice the samples of one law, and the statistic grows with their number."""
    a = pair[0]
    torch.manual_seed(0)
    each = LeJEPA(weight=1.0)(a, a)["sigreg"]
    torch.manual_seed(0)
    flat = LeJEPA(weight=1.0, over="all")(a, a)["sigreg"]
    torch.testing.assert_close(flat, 2 * each)
