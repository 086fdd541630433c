from __future__ import annotations

import pytest
import torch

from tacit.ops.whitening import cholesky_whitened, iterated_whitened, standardised


def skewed(rng, n=64, d=5):
    mix = torch.randn(d, d, dtype=torch.float64, generator=rng)
    return torch.randn(n, d, dtype=torch.float64, generator=rng) @ mix + 3


def test_standardised_is_a_batch_norm_without_scale_and_shift(rng):
    z = skewed(rng)
    expected = torch.nn.functional.batch_norm(z, None, None, training=True)
    torch.testing.assert_close(standardised(z), expected)


def test_the_cholesky_factor_whitens(rng):
    white = cholesky_whitened(skewed(rng))
    assert white.mean(0).abs().max() < 1e-12
    torch.testing.assert_close(torch.cov(white.T), torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-3)
    tight = cholesky_whitened(skewed(rng), shrinkage=1e-12)
    torch.testing.assert_close(torch.cov(tight.T), torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-8)


def test_newton_converges_to_the_inverse_root_of_each_block(rng):
    z = skewed(rng, n=200, d=5)
    white = iterated_whitened(z, width=3, iterations=40, eps=1e-12)
    assert white.shape == z.shape
    for block in (slice(0, 3), slice(3, 5)):
        c = torch.cov(z[:, block].T, correction=0)
        values, vectors = torch.linalg.eigh(c)
        expected = (z[:, block] - z[:, block].mean(0)) @ (vectors * values.rsqrt()) @ vectors.T
        torch.testing.assert_close(white[:, block], expected, rtol=1e-6, atol=1e-6)


def test_few_steps_leave_small_eigenvalues_short_of_one(rng):
    """IterNorm with 5 steps: every eigenvalue is in (0, 1], the largest near one."""
    white = iterated_whitened(skewed(rng, n=200), width=5)
    values = torch.linalg.eigvalsh(torch.cov(white.T, correction=0))
    assert 0 < values[0] < values[-1] <= 1 + 1e-6 and values[-1] == pytest.approx(1, abs=0.05)
