"""Barlow Twins, VICReg's variants, W-MSE, TiCo, EMP, FroSSL, MMCR: their closed forms and invariances."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.objectives.barlow_twins import BarlowTwins
from tacit.objectives.emp import EMP
from tacit.objectives.frossl import FroSSL
from tacit.objectives.mmcr import MMCR
from tacit.objectives.tico import TiCo
from tacit.objectives.vibcreg import VIbCReg
from tacit.objectives.vicreg import VICReg
from tacit.objectives.vicreg_exp import VICRegCtr, VICRegExp
from tacit.objectives.w_mse import WMSE


def draw(rng, n=9, d=5):
    return torch.randn(2, n, d, dtype=torch.float64, generator=rng).unbind()


def rotation(rng, d=5):
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=rng))[0]


def unit(z):
    return torch.nn.functional.normalize(z, dim=1)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_barlow_twins_is_its_definition_on_both_routes(rng, shape):
    a, b = (z.requires_grad_() for z in draw(rng, *shape))
    norm = torch.nn.BatchNorm1d(shape[1], affine=False, dtype=torch.float64)
    c = norm(a).T @ norm(b) / len(a)
    off = c - torch.diag(c.diagonal())
    expected = (c.diagonal() - 1).square().sum() + 0.0051 * off.square().sum()
    found = BarlowTwins()(a, b)["loss"]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    slopes = [torch.autograd.grad(v, (a, b)) for v in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(BarlowTwins(scale=0.1)(a, b)["loss"], 0.1 * found)


def test_barlow_twins_at_collapse_and_at_its_optimum(rng):
    z = torch.full((16, 4), 3.0, dtype=torch.float64)
    assert BarlowTwins()(z, z)["loss"].item() == pytest.approx(4, rel=1e-12)
    q, _ = torch.linalg.qr(draw(rng, 64, 8)[0] - draw(rng, 64, 8)[0].mean(0))
    q = torch.linalg.qr(q - q.mean(0))[0]
    q = torch.linalg.qr(torch.cat([torch.ones(64, 1, dtype=torch.float64), q], 1))[0][:, 1:]  # orthogonal to constants
    assert BarlowTwins()(100 * q, 100 * q)["loss"].item() == pytest.approx(0, abs=1e-9)


def test_vicreg_exp_changes_only_the_covariance_term(rng):
    a, b = draw(rng)
    found, plain = VICRegExp(temperature=0.3)(a, b), VICReg()(a, b)
    for name in ("invariance", "variance"):
        torch.testing.assert_close(found[name], plain[name])
    expected = 0.0
    for z in (a, b):
        logits = torch.cov(z.T) / 0.3
        logits.fill_diagonal_(-torch.inf)
        expected = expected + logits.logsumexp(1).mean()
    torch.testing.assert_close(found["covariance"], expected)


def test_vicreg_ctr_is_the_same_on_centred_samples(rng):
    a, b = draw(rng)
    found = VICRegCtr(temperature=0.3, gamma=2.0)(a, b)
    covariance, variance = 0.0, 0.0
    for z in (a - a.mean(0), b - b.mean(0)):
        logits = z @ z.T / 5 / 0.3
        logits.fill_diagonal_(-torch.inf)
        covariance = covariance + logits.logsumexp(1).mean()
        variance = variance + torch.relu(2 - (z.square().mean(1) + 1e-4).sqrt()).mean() / 2
    torch.testing.assert_close(found["covariance"], covariance)
    torch.testing.assert_close(found["variance"], 25 * variance)
    q = rotation(rng)
    torch.testing.assert_close(VICRegCtr()(a @ q, b @ q), VICRegCtr()(a, b), rtol=1e-10, atol=1e-12)


def test_gamma_over_root_d_asks_ctr_for_unit_norm(rng):
    z = draw(rng)[0]
    z = torch.cat([unit(z), -unit(z)])  # centred, of norm one
    assert VICRegCtr(gamma=5**-0.5, eps=1e-15)(z, z)["variance"].item() == pytest.approx(0, abs=1e-9)
    assert VICRegCtr(gamma=2 * 5**-0.5, eps=1e-15)(z, z)["variance"].item() == pytest.approx(25 * 5**-0.5, rel=1e-6)


def test_vibcreg_without_whitening_is_vicreg_with_correlations(rng):
    a, b = draw(rng)
    found, plain = VIbCReg(iterations=0)(a, b), VICReg()(a, b)
    for name in ("invariance", "variance"):
        torch.testing.assert_close(found[name], plain[name])
    off = [(torch.corrcoef(z.T) - torch.eye(5, dtype=torch.float64)).square().mean() for z in (a, b)]
    torch.testing.assert_close(found["covariance"], 200 * sum(off))


def test_vibcreg_whitens_first(rng):
    mix = torch.randn(5, 5, dtype=torch.float64, generator=rng)
    z = draw(rng, 64)[0] @ mix
    assert VIbCReg(iterations=30)(z, z)["covariance"] < 1e-3 * VIbCReg(iterations=0)(z, z)["covariance"]


def test_w_mse_does_not_see_rotations_of_one_view_up_to_the_factor_nor_length(rng):
    a, b = draw(rng, 40)
    loss = WMSE()(a, b)["loss"]
    assert 0 < loss < 4
    torch.testing.assert_close(WMSE()(3 * a + 1, 0.2 * b - 4)["loss"], loss, rtol=1e-9, atol=0)
    assert WMSE()(a, a)["loss"].item() == pytest.approx(0, abs=1e-12)
    lower = torch.tril(torch.randn(5, 5, dtype=torch.float64, generator=rng)) + 4 * torch.eye(5, dtype=torch.float64)
    found = WMSE(shrinkage=1e-14)(a @ lower.T, b)["loss"]  # a lower triangular map is undone by the Cholesky factor
    torch.testing.assert_close(found, WMSE(shrinkage=1e-14)(a, b)["loss"], rtol=1e-7, atol=0)


def test_w_mse_whitens_sub_batches_shared_by_the_views(rng):
    a, b = draw(rng, 40)
    torch.manual_seed(4)
    found = WMSE(sub_batch=20)(a, b)["loss"]
    torch.manual_seed(4)
    order = torch.randperm(40)
    halves = [WMSE()(a[half], b[half])["loss"] for half in order.chunk(2)]
    torch.testing.assert_close(found, sum(halves) / 2)


def test_w_mse_refuses_sub_batches_that_cannot_be_whitened():
    with pytest.raises(RecipeError) as caught:
        WMSE()(torch.zeros(6, 6), torch.zeros(6, 6))
    assert str(caught.value) == (
        "objective 'w-mse' whitens 6 features, which takes more than 6 samples in each sub-batch; found 6: "
        "raise the batch size and sub_batch, or narrow the projector"
    )


def test_tico_moves_its_moment_in_train_mode_and_is_restored(rng):
    a, b = draw(rng)
    u, objective, moment = unit(a), TiCo(rho=3.0), 0.0
    for _ in range(3):
        moment = 0.9 * moment + 0.1 * u.T @ u / 9
        expected = 1 - (u * unit(b)).sum(1).mean() + 3 * ((u @ moment) * u).sum(1).mean()
        torch.testing.assert_close(objective(a, b)["loss"], expected)
        torch.testing.assert_close(objective.moment, moment)
    frozen = objective.eval()
    torch.testing.assert_close(frozen(a, b), frozen(a, b), rtol=0, atol=0)
    torch.testing.assert_close(objective.moment, moment)
    other = TiCo(rho=3.0).eval()
    other.load_state_dict(objective.state_dict())
    torch.testing.assert_close(other(a, b), frozen(a, b), rtol=0, atol=0)


def test_tico_passes_no_gradient_through_the_moment(rng):
    a, b = (z.requires_grad_() for z in draw(rng))
    u = unit(a)
    moment = (0.1 * u.T @ u / 9).detach()
    found = torch.autograd.grad(TiCo()(a, b)["contrast"], a)
    torch.testing.assert_close(found, torch.autograd.grad(8 * ((u @ moment) * u).sum(1).mean(), a))


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_emp_is_its_definition_on_both_sides(rng, shape):
    a, b = draw(rng, *shape)
    n, d = shape
    rates = [torch.logdet(torch.eye(d, dtype=torch.float64) + d / (n * 0.2) * unit(z).T @ unit(z)) / 2 for z in (a, b)]
    centre = (unit(a) + unit(b)) / 2
    close = [torch.nn.functional.cosine_similarity(z, centre).mean() for z in (a, b)]
    found = EMP(invariance=3.0)(a, b)
    torch.testing.assert_close(found["loss"], -sum(rates) / 2 - 3 * sum(close) / 2)


def test_the_coding_rate_is_maximised():
    """Collapse costs more than orthonormal embeddings: one public port has the other sign."""
    spread, constant = torch.eye(4, dtype=torch.float64), torch.ones(4, 4, dtype=torch.float64)
    assert EMP()(spread, spread)["loss"] < EMP()(constant, constant)["loss"] - 1
    expected = -math.log(1 + 4 / 0.2) / 2 - 200
    assert EMP()(constant, constant)["loss"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", [EMP, MMCR, lambda: FroSSL(normalise="samples")])
def test_rotation_does_not_matter(rng, method):
    a, b = draw(rng)
    q = rotation(rng)
    torch.testing.assert_close(method()(a @ q, b @ q), method()(a, b), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_frossl_is_its_definition_on_both_sides(rng, shape):
    a, b = draw(rng, *shape)
    views = [torch.nn.functional.normalize(z, dim=0) for z in (a, b)]
    centre = sum(views) / 2
    norms = [((z.T @ z) / (z.T @ z).trace()).square().sum().log() for z in views]
    apart = [(z - centre).square().mean() for z in views]
    found = FroSSL()(a, b)
    torch.testing.assert_close(found["entropy"], sum(norms))
    torch.testing.assert_close(found["invariance"], 2 * shape[1] * sum(apart))


def test_frossl_between_rank_one_and_a_flat_spectrum():
    flat, one = torch.eye(4, dtype=torch.float64), torch.ones(4, 4, dtype=torch.float64)
    assert FroSSL()(flat, flat)["loss"].item() == pytest.approx(-2 * math.log(4), rel=1e-12)
    assert FroSSL()(one, one)["loss"].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_mmcr_is_its_definition_on_both_sides(rng, shape):
    a, b = draw(rng, *shape)
    u, v = unit(a), unit(b)
    within = torch.linalg.matrix_norm(torch.stack([u, v], 1), ord="nuc").mean()
    expected = -torch.linalg.matrix_norm((u + v) / 2, ord="nuc") + 0.3 * within
    torch.testing.assert_close(MMCR(local=0.3)(a, b)["loss"], expected)


def test_mmcr_at_collapse_and_at_its_optimum():
    flat, one = torch.eye(4, dtype=torch.float64), torch.ones(4, 4, dtype=torch.float64)
    assert MMCR()(flat, flat)["loss"].item() == pytest.approx(-4, rel=1e-12)
    assert MMCR()(one, one)["loss"].item() == pytest.approx(-2, rel=1e-12)
