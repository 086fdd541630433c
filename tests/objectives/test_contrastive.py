"""DCL and its kin, the even contrastive losses, the spectral one, alignment and uniformity: their closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.objectives.alignment_uniformity import AlignmentUniformity
from tacit.objectives.dcl import DCL, DCLW
from tacit.objectives.even import DCLAbs, DCLSq, SimCLRAbs, SimCLRSq
from tacit.objectives.simclr import SimCLR
from tacit.objectives.spectral_contrastive import SpectralContrastive

EVEN = {
    SimCLRAbs: (torch.abs, False),
    SimCLRSq: (torch.square, False),
    DCLAbs: (torch.abs, True),
    DCLSq: (torch.square, True),
    DCL: (lambda x: x, True),
}


def draw(rng, n=7, d=5):
    return torch.randn(2, n, d, dtype=torch.float64, generator=rng).unbind()


def by_the_book(a, b, temperature, phi, decoupled):
    """One row at a time."""
    u = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    c, n, rows = u @ u.T, len(a), []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [phi(c[i, j]) for j in range(2 * n) if j != i and not (decoupled and j == partner)]
        rows.append(-c[i, partner] / temperature + (torch.stack(others) / temperature).logsumexp(0))
    return torch.stack(rows).mean()


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("method", EVEN)
def test_value_and_gradient_are_those_of_the_definition(rng, method, temperature):
    a, b = (z.requires_grad_() for z in draw(rng))
    found = method(temperature=temperature)(a, b)["loss"]
    expected = by_the_book(a, b, temperature, *EVEN[method])
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    slopes = [torch.autograd.grad(v, (a, b)) for v in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-11)


def test_dcl_of_orthonormal_pairs_has_a_closed_form():
    z = torch.eye(256, dtype=torch.float64)
    loss = DCL(temperature=0.5)(z, z)["loss"].item()
    assert loss == pytest.approx(math.log(510) - 2, rel=1e-12) == pytest.approx(4.234411, abs=1e-6)


@pytest.mark.parametrize("method", [SimCLRAbs, SimCLRSq, DCLAbs, DCLSq])
def test_the_sign_of_both_views_of_a_sample_does_not_matter_to_the_even_ones(rng, method):
    a, b = draw(rng)
    sign = torch.ones(7, 1, dtype=torch.float64)
    sign[2] = -1
    torch.testing.assert_close(method()(a * sign, b * sign), method()(a, b), rtol=1e-12, atol=0)
    assert (SimCLR()(a * sign, b * sign)["loss"] - SimCLR()(a, b)["loss"]).abs() > 1e-3


@pytest.mark.parametrize("method", [*EVEN, DCLW, AlignmentUniformity])
def test_rotation_and_length_of_rows_do_not_matter_and_the_gradient_is_orthogonal(rng, method):
    a, b = (z.requires_grad_() for z in draw(rng))
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=rng))
    lengths = torch.rand(7, 1, dtype=torch.float64, generator=rng) + 0.1
    loss = method()(a, b)["loss"]
    torch.testing.assert_close(method()(a @ q, b @ q)["loss"], loss, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(method()(a * lengths, b / lengths)["loss"], loss, rtol=1e-11, atol=1e-13)
    loss.backward()
    assert (a.grad * a).sum(1).abs().max() < 1e-12


def test_dclw_weighs_pairs_by_their_distance_with_mean_one(rng):
    a, b = draw(rng)
    close = torch.nn.functional.cosine_similarity(a, b)
    weight = 2 - 7 * torch.softmax(close / 0.5, 0)
    assert weight.mean().item() == pytest.approx(1)
    expected = DCL()(a, b)["loss"] - ((weight - 1) * close).mean() / 0.1
    torch.testing.assert_close(DCLW()(a, b)["loss"], expected)
    torch.testing.assert_close(DCLW(sigma=1e9)(a, b)["loss"], DCL()(a, b)["loss"], rtol=1e-7, atol=0)


def test_no_gradient_flows_through_the_weights(rng):
    a, b = (z.requires_grad_() for z in draw(rng))
    close = torch.nn.functional.cosine_similarity(a, b)
    weight = (2 - 7 * torch.softmax(close / 0.5, 0)).detach()
    found = torch.autograd.grad(DCLW()(a, b)["attraction"], (a, b))
    torch.testing.assert_close(found, torch.autograd.grad(-(weight * close).mean() / 0.1, (a, b)))


def test_spectral_contrastive_is_its_definition_and_orthonormal_rows_reach_minus_two(rng):
    a, b = draw(rng)
    m = a @ b.T
    off = (m.square().sum() - m.diagonal().square().sum()) / (7 * 6)
    torch.testing.assert_close(SpectralContrastive()(a, b)["loss"], -2 * m.diagonal().mean() + off)
    z = torch.eye(4, dtype=torch.float64)
    assert SpectralContrastive()(z, z)["loss"].item() == pytest.approx(-2, rel=1e-12)
    torch.testing.assert_close(SpectralContrastive().energy(a, b), -m.diagonal())


def test_alignment_and_uniformity_are_their_definitions(rng):
    a, b = draw(rng)
    u, v = (torch.nn.functional.normalize(z, dim=1) for z in (a, b))
    spread = [torch.exp(-3 * torch.pdist(z).square()).mean().log() for z in (u, v)]
    found = AlignmentUniformity(alpha=1.5, t=3.0, weight=0.7)(a, b)
    torch.testing.assert_close(found["alignment"], (u - v).norm(dim=1).pow(1.5).mean())
    torch.testing.assert_close(found["uniformity"], 0.35 * sum(spread))
    z = torch.eye(4, dtype=torch.float64)
    assert AlignmentUniformity()(z, z)["loss"].item() == pytest.approx(-4, rel=1e-12)
