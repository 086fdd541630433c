from __future__ import annotations

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.laws import check_objective
from tacit.objectives.vicreg import VICReg


def by_the_book(a, b, invariance=25.0, variance=25.0, covariance=1.0):
    """The authors' form, written entry by entry from its description."""
    d = a.shape[1]
    off = ~torch.eye(d, dtype=torch.bool)
    narrow = [torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() for z in (a, b)]
    overlap = [torch.cov(z.T)[off].square().sum() / d for z in (a, b)]
    return invariance * (a - b).square().mean() + variance * sum(narrow) / 2 + covariance * sum(overlap)


def whitened(n, d, rng):
    """n x d, zero mean, the identity as unbiased covariance."""
    z = torch.randn(n, d, generator=rng, dtype=torch.float64)
    q, _ = torch.linalg.qr(z - z.mean(0))
    return q * (n - 1) ** 0.5


@pytest.mark.parametrize("shape", [(8, 6), (6, 20), (4, 4)])
def test_it_obeys_the_laws_of_objectives(shape):
    check_objective(VICReg, n=shape[0], d=shape[1])


@pytest.mark.compile
@pytest.mark.parametrize("d", [4, 12])
def test_it_compiles_without_a_graph_break(d):
    check_objective(VICReg, d=d, compiles=True)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (6, 6)])
def test_value_and_gradient_are_those_of_the_authors_form(rng, shape):
    a, b = (z.requires_grad_() for z in torch.randn(2, *shape, dtype=torch.float64, generator=rng).unbind())
    loss, book = VICReg()(a, b)["loss"], by_the_book(a, b)
    assert loss.item() == pytest.approx(book.item(), rel=1e-12)
    expected = torch.autograd.grad(book, (a, b))
    torch.testing.assert_close(torch.autograd.grad(loss, (a, b)), expected, rtol=1e-10, atol=1e-12)


def test_collapse_costs_the_variance_weight_less_one_percent():
    z = torch.full((16, 4), 3.0, dtype=torch.float64)
    terms = VICReg()(z, z)
    assert terms["loss"].item() == pytest.approx(25 * (1 - 0.01), rel=1e-12)  # sqrt(eps) = 0.01
    assert terms["invariance"].item() == terms["covariance"].item() == 0


def test_white_equal_views_cost_nothing(rng):
    z = whitened(64, 8, rng)
    assert VICReg()(z, z)["loss"].item() == pytest.approx(0, abs=1e-12)


def test_each_weight_scales_its_term_alone(rng):
    a, b = torch.randn(2, 9, 4, dtype=torch.float64, generator=rng) / 2
    once, more = VICReg()(a, b), VICReg(invariance=50.0, variance=75.0, covariance=4.0)(a, b)
    for name, factor in (("invariance", 2), ("variance", 3), ("covariance", 4)):
        torch.testing.assert_close(more[name], factor * once[name])
    assert once["loss"].item() == pytest.approx(sum(once[n].item() for n in ("invariance", "variance", "covariance")))


def test_gamma_is_the_spread_that_is_asked_for(rng):
    z = 0.5 * whitened(64, 8, rng)
    assert VICReg(gamma=0.5)(z, z)["variance"].item() == pytest.approx(0, abs=1e-9)
    assert VICReg(gamma=1.0, eps=1e-12)(z, z)["variance"].item() == pytest.approx(25 * 0.5, rel=1e-6)


def test_shifts_and_permuted_features_do_not_matter(rng):
    a, b = torch.randn(2, 9, 4, dtype=torch.float64, generator=rng)
    shift, order = torch.randn(4, dtype=torch.float64, generator=rng), torch.randperm(4, generator=rng)
    expected = VICReg()(a, b)
    torch.testing.assert_close(VICReg()(a + shift, b + shift), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(VICReg()(a[:, order], b[:, order]), expected, rtol=1e-10, atol=1e-12)


def test_wide_half_precision_embeddings_do_not_overflow():
    """A covariance of large features under fp16 was the cause of NaN in public code."""
    z = (300 * torch.randn(16, 64, generator=torch.Generator().manual_seed(0))).half()
    assert bool(VICReg()(z, z)["loss"].isfinite())


def test_the_energy_is_the_mean_squared_difference(rng):
    a, b = torch.randn(2, 9, 4, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(VICReg().energy(a, b).mean(), VICReg(invariance=1.0)(a, b)["invariance"])


def test_one_sample_is_refused_with_a_remedy():
    with pytest.raises(RecipeError) as caught:
        VICReg()(torch.zeros(1, 4), torch.zeros(1, 4))
    assert (
        str(caught.value) == "objective 'vicreg' needs at least 2 samples over all ranks, found 1: raise the batch size"
    )
