"""Spectral criteria against closed forms, invariances and bounds."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import DataError
from tacit.ops import spectrum
from tacit.ops.statistics import join, mean_cosine, moments, require_finite, unit_sum


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_rankme_of_a_half_and_two_quarters_is_two_to_the_three_halves():
    assert spectrum.rankme(torch.tensor([2.0, 1.0, 1.0]), eps=0) == pytest.approx(2**1.5, rel=1e-12)


def test_published_eps_puts_a_flat_spectrum_above_its_dimension():
    assert spectrum.rankme(torch.ones(2048)) == pytest.approx(2050.78, abs=0.005)
    assert spectrum.rankme(torch.ones(2048), eps=1e-5) == pytest.approx(2345.1, abs=0.05)
    assert spectrum.rankme_renormalised(torch.ones(2048)) == pytest.approx(2048, rel=1e-12)


def test_rank_one_is_one_and_nothing_is_nothing():
    s = torch.zeros(2048)
    s[0] = 3
    assert spectrum.rankme(s) == pytest.approx(1.0033, abs=5e-5)
    assert spectrum.rankme_renormalised(s) == pytest.approx(1)
    nothing = torch.zeros(8)
    assert spectrum.rankme(nothing) == pytest.approx(math.exp(-8e-7 * math.log(1e-7)))
    assert [f(nothing) for f in (spectrum.stable_rank, spectrum.nesum, spectrum.participation_ratio)] == [0, 0, 0]
    assert spectrum.rankme_renormalised(nothing) == 0
    assert spectrum.classical_rank(nothing, 8, 8) == 0


@pytest.mark.parametrize(("n", "d"), [(40, 12), (12, 40)])
def test_rankme_ignores_scale_and_rotation_and_never_exceeds_the_smaller_side(rng, n, d):
    z = torch.randn(n, d, generator=rng, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=torch.float64)).Q
    value = spectrum.rankme(spectrum.singular_values(z))
    assert spectrum.rankme(spectrum.singular_values(-7.5 * z @ turn)) == pytest.approx(value, rel=1e-12)
    assert spectrum.rankme(spectrum.singular_values(z), eps=0) <= min(n, d)


def test_flat_and_single_direction_closed_forms():
    flat, single = torch.ones(10), torch.eye(10)[0]
    for criterion in (spectrum.stable_rank, spectrum.nesum, spectrum.participation_ratio):
        assert criterion(flat) == pytest.approx(10)
        assert criterion(single) == pytest.approx(1)
    assert spectrum.spectrum_area(flat) == pytest.approx(11 / 20)
    assert spectrum.spectrum_area(single) == pytest.approx(1)
    assert spectrum.classical_rank(torch.tensor([1.0, 1e-3, 1e-9]), 100, 3) == 2


def test_alpha_req_recovers_a_power_law_whatever_the_scale_and_range():
    lam = 5.0 * torch.arange(1, 400, dtype=torch.float64) ** -1.37
    assert spectrum.alpha_req(lam) == pytest.approx(1.37, rel=1e-9)
    assert spectrum.alpha_req(lam, low=2, high=30) == pytest.approx(1.37, rel=1e-9)
    assert math.isnan(spectrum.alpha_req(lam[:12]))


@pytest.mark.parametrize("d", [7, 300, 900])
def test_gram_equals_the_plain_product_and_is_exactly_symmetric(rng, d):
    z = torch.randn(64, d, generator=rng)
    g = spectrum.gram(z)
    torch.testing.assert_close(g, z.double().T @ z.double(), rtol=1e-13, atol=1e-12)
    assert torch.equal(g, g.T)


def test_joined_moments_equal_those_of_all_rows_far_from_zero(rng):
    z = 1e8 + torch.randn(50, 3, generator=rng, dtype=torch.float64)
    both = join(moments(z[:13]), moments(z[13:]))
    torch.testing.assert_close(both.std(), z.std(dim=0), rtol=1e-7, atol=0)
    torch.testing.assert_close(both.mean, z.mean(dim=0), rtol=1e-15, atol=0)


def test_mean_cosine_equals_the_pairwise_mean(rng):
    z = torch.randn(20, 6, generator=rng, dtype=torch.float64)
    u = z / z.norm(dim=1, keepdim=True)
    pairs = (u @ u.T)[~torch.eye(20, dtype=torch.bool)]
    assert mean_cosine(unit_sum(z), 20) == pytest.approx(float(pairs.mean()), rel=1e-12)


def test_the_first_row_that_is_not_finite_is_named():
    z = torch.zeros(5, 2)
    z[3, 1] = float("nan")
    z[4, 0] = float("inf")
    sentence = (
        "embeddings hold NaN or infinite values in 2 of 5 rows, first in row 3: "
        "the model diverged or its input was not finite"
    )
    with pytest.raises(DataError) as error:
        require_finite(z)
    assert str(error.value) == sentence


def test_finite_values_whose_sum_overflows_are_accepted():
    require_finite(torch.full((4, 4), 3e38))
