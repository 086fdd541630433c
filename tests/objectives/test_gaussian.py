"""LeJEPA and VISReg: how they put their parts together; the statistics themselves are tested with the ops."""

from __future__ import annotations

import pytest
import torch

from tacit.objectives.lejepa import LeJEPA
from tacit.objectives.visreg import VISReg
from tacit.ops.normality import directions, epps_pulley, sliced_wasserstein


def draw(rng, n=9, d=5):
    return torch.randn(2, n, d, dtype=torch.float64, generator=rng).unbind()


def seeded(objective, a, b):
    torch.manual_seed(5)
    return objective(a, b)


def axes(a, count):
    torch.manual_seed(5)
    return directions(a.shape[1], count, a)


def test_lejepa_weighs_the_distance_to_the_mean_view_against_the_statistic(rng):
    a, b = draw(rng)
    found = seeded(LeJEPA(weight=0.3, directions=40), a, b)
    centre = (a + b) / 2
    apart = ((a - centre).square().mean() + (b - centre).square().mean()) / 2
    w = axes(a, 40)
    torch.testing.assert_close(found["invariance"], 0.7 * apart)
    torch.testing.assert_close(found["sigreg"], 0.3 * (epps_pulley(a @ w) + epps_pulley(b @ w)) / 2)
    together = seeded(LeJEPA(weight=0.3, directions=40, over="all"), a, b)
    torch.testing.assert_close(together["sigreg"], 0.3 * epps_pulley(torch.cat([a, b]) @ w))


def test_lejepa_at_the_normal_law_and_at_collapse(rng):
    a = torch.randn(256, 64, generator=rng)
    assert LeJEPA(weight=1.0, directions=4096)(a, a)["loss"].item() == pytest.approx(1.0525, abs=0.15)
    z = torch.zeros(256, 64)
    assert LeJEPA(weight=1.0)(z, z)["loss"].item() == pytest.approx(0.402048 * 256, rel=1e-5)


def test_fresh_directions_at_each_call(rng):
    a, b = draw(rng)
    objective = LeJEPA(directions=8)
    assert objective(a, b)["loss"] != objective(a, b)["loss"]
    torch.testing.assert_close(seeded(objective, a, b), seeded(objective, a, b), rtol=0, atol=0)


def test_visreg_is_its_definition(rng):
    a, b = draw(rng)
    found = seeded(VISReg(weight=0.6, slices=40, centre=2.0, scale=3.0, shape=5.0), a, b)
    w, terms = axes(a, 40), []
    for z in (a, b):
        mu, sigma = z.mean(0), z.std(0, correction=0)
        shape = sliced_wasserstein((z - mu) / (sigma + 1e-4), w)
        terms.append(torch.stack([mu.square().mean(), (1 - sigma).square().mean(), shape]))
    centre, scale, shape = 0.6 * sum(terms) / 2
    torch.testing.assert_close(found["centre"], 2 * centre)
    torch.testing.assert_close(found["scale"], 3 * scale)
    torch.testing.assert_close(found["shape"], 5 * shape)
    torch.testing.assert_close(found["invariance"], 0.4 * ((a - b) / 2).square().mean())


def test_the_shape_term_of_visreg_leaves_the_scale_alone(rng):
    """It is invariant to the length of a feature, and with the stopped gradient pulls none back to the centre."""
    a, _ = draw(rng)
    a.requires_grad_()
    shape = seeded(VISReg(slices=64, eps=1e-12), a, a)["shape"]
    torch.testing.assert_close(
        seeded(VISReg(slices=64, eps=1e-12), 3 * a + 1, 3 * a + 1)["shape"], shape, rtol=1e-9, atol=0
    )
    slope = torch.autograd.grad(shape, a)[0]
    assert slope.sum(0).abs().max() < 1e-12
