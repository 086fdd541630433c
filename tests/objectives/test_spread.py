"""Regularisers of states: closed forms, invariances, and two ranks."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.spec import Spec
from tacit.objectives.spread import SIGReg, VarianceCovariance


def test_a_collapsed_batch_costs_the_whole_hinge_and_a_white_one_nothing():
    vc = VarianceCovariance(variance=3.0, covariance=2.0)
    collapsed = vc(torch.zeros(4, 2, 5))
    torch.testing.assert_close(collapsed["variance"], torch.tensor(3.0 * (1 - 0.01)))
    assert collapsed["covariance"] == 0
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).view(4, 2, 3) * 2
    white = vc(corners)
    assert white["variance"] == 0 and white["covariance"] < 1e-10


def test_two_equal_features_cost_their_covariance_divided_by_pairs():
    z = torch.randn(50, 1, 1).expand(-1, -1, 2)
    found = VarianceCovariance(covariance=1.0)(z)["covariance"]
    torch.testing.assert_close(found, z[:, 0, 0].var() ** 2)  # two entries of 2 * 1


def test_rows_are_all_frames_or_the_first(rng):
    z = torch.randn(6, 3, 4, generator=rng)
    all_frames, first = VarianceCovariance(), VarianceCovariance(frames="first")
    torch.testing.assert_close(first(z), all_frames(z[:, :1]))
    torch.testing.assert_close(all_frames(z), all_frames(z.flatten(0, 1).unsqueeze(1)))


def test_places_are_rows_or_features(rng):
    z = torch.randn(6, 3, 5, 4, generator=rng)
    samples, features = VarianceCovariance(), VarianceCovariance(places="features")
    torch.testing.assert_close(samples(z), samples(z.flatten(1, 2)))
    torch.testing.assert_close(features(z), features(z.flatten(2)))


def test_the_term_over_time_sees_clips_that_stand_still():
    still = torch.randn(8, 1, 3).expand(-1, 4, -1)
    found = VarianceCovariance(over_time=2.0)(still)["over_time"]
    torch.testing.assert_close(found, torch.tensor(2.0 * 0.99))


def test_one_row_is_refused():
    with pytest.raises(DataError) as caught:
        VarianceCovariance()(torch.zeros(1, 1, 3))
    assert str(caught.value) == "regulariser 'vc' needs at least two states for a variance, found one: raise the batch"


def test_sigreg_has_its_known_values(rng):
    """0.402048 m for a batch collapsed to the origin, about 1.05 for normal samples, whatever the number of frames."""
    torch.manual_seed(0)
    sigreg = SIGReg(weight=1.0, directions=64)
    torch.testing.assert_close(sigreg(torch.zeros(10, 3, 4))["sigreg"], torch.tensor(4.02048), atol=1e-3, rtol=0)
    z = torch.randn(256, 2, 16, generator=rng)
    assert 0.6 < sigreg(z)["sigreg"] < 1.6
    assert sigreg(z + 1)["sigreg"] > 10 * sigreg(z)["sigreg"]  # unlike variances, it sees a shift


@pytest.mark.parametrize("kind", ["vc", "sigreg"])
def test_half_precision_is_judged_in_full(kind, rng):
    part = Spec("regulariser", kind).build()
    z = torch.randn(32, 2, 8, generator=rng).bfloat16()
    torch.manual_seed(0)
    half = part(z)
    torch.manual_seed(0)
    torch.testing.assert_close(half, part(z.float()))
    assert all(term.dtype == torch.float32 for term in half.values())
