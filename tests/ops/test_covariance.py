from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.ops.covariance import centred, covariance, off_diagonal_energy, variance


def energy_by_mask(z):
    c = torch.cov(z.T)
    return c.square().sum() - c.diagonal().square().sum()


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (7, 7), (2, 3)])
def test_both_sides_give_the_energy_and_its_gradient(rng, shape):
    z = torch.randn(*shape, dtype=torch.float64, generator=rng, requires_grad=True)
    found, expected = off_diagonal_energy(centred(z)), energy_by_mask(z)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    slopes = torch.autograd.grad(found, z), torch.autograd.grad(expected, z)
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shape", [(64, 1024), (1024, 64)])
def test_float32_is_right_to_a_millionth(rng, shape):
    z = torch.randn(*shape, generator=rng)
    exact = energy_by_mask(z.double()).item()
    assert off_diagonal_energy(centred(z)).item() == pytest.approx(exact, rel=1e-6 if shape[0] < shape[1] else 1e-5)


def test_the_frobenius_identity():
    """L_nc + sum ||row||^4 = L_c + sum ||col||^4 for every matrix; arXiv 2206.02574, proposition 3.1 and its example."""
    k = torch.from_numpy(np.random.RandomState(0).randn(3, 4))  # the example is stated for this generator
    gram, outer = k.T @ k, k @ k.T
    contrastive = gram.square().sum() - gram.diagonal().square().sum()
    dimensional = outer.square().sum() - outer.diagonal().square().sum()
    rows, columns = k.square().sum(1).square().sum(), k.square().sum(0).square().sum()
    found = [value.item() for value in (contrastive, dimensional, rows, columns)]
    assert found == pytest.approx([67.84061298, 48.21201227, 119.76967401, 100.14107330], abs=1e-8)
    assert (dimensional + rows).item() == pytest.approx((contrastive + columns).item(), rel=1e-13)
    # the switch computes L_nc of the samples k.T on whichever side is smaller; (m - 1)^2 undoes the divisor
    assert 9 * off_diagonal_energy(k.T).item() == pytest.approx(dimensional.item(), rel=1e-13)
    assert 4 * off_diagonal_energy(k).item() == pytest.approx(contrastive.item(), rel=1e-13)


def test_moments_agree_with_torch(rng):
    z = torch.randn(9, 4, dtype=torch.float64, generator=rng) + 3
    torch.testing.assert_close(covariance(centred(z)), torch.cov(z.T))
    torch.testing.assert_close(variance(centred(z)), z.var(0))
    assert centred(z).mean(0).abs().max() < 1e-14


def test_the_gradient_passes_finite_differences(rng):
    for shape in ((3, 5), (5, 3)):
        z = torch.randn(*shape, dtype=torch.float64, generator=rng, requires_grad=True)
        assert torch.autograd.gradcheck(lambda z: off_diagonal_energy(centred(z)), z)
