"""Pictures that are moved by kernels, shifts that are read, smoothed and cut pixels, and what bottlenecks draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models.advection import KernelDynamics, ShiftInverse
from tacit.models.bottlenecks import Free, Noisy, Quantised, Sparse
from tacit.models.residual_mlp import Pixels


def shifting(channels, reach, chosen):
    """A kernel dynamics that always takes the chosen shift (row, column) of each channel."""
    model = KernelDynamics(channels * 64, 2, channels=channels, reach=reach, hidden=(4,))
    side = 2 * reach + 1
    with torch.no_grad():
        model.net[-1].weight.zero_()
        bias = torch.full((channels, side, side), -50.0)
        for channel, (y, x) in enumerate(chosen):
            bias[channel, y + reach, x + reach] = 50.0
        model.net[-1].bias.copy_(bias.flatten())
    return model


def test_a_sharp_kernel_is_a_shift_of_its_channel_alone(rng):
    model = shifting(2, 2, [(1, -2), (0, 0)])
    x = torch.randn(3, 2, 8, 8, generator=rng)
    moved = model(x.reshape(3, 1, -1), torch.zeros(3, 1, 2)).view(3, 2, 8, 8)
    torch.testing.assert_close(moved[:, 0, :-1, 2:], x[:, 0, 1:, :-2])
    torch.testing.assert_close(moved[:, 1], x[:, 1])


def test_a_soft_kernel_keeps_a_flat_picture_and_the_mean_of_any_inside(rng):
    model = KernelDynamics(64, 3, channels=1, reach=1)
    flat = torch.full((2, 4, 64), 0.7)
    torch.testing.assert_close(model(flat, torch.randn(2, 4, 3, generator=rng)), flat)


def test_the_inverse_sees_a_shift_whatever_the_picture_shows(rng):
    """The same shift of two pictures gives the least difference at the same place: its features agree, those of another shift do not."""
    inverse = ShiftInverse(144, 2, channels=1, reach=1, hidden=(8,))
    seen = []
    inverse.net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    big = torch.randn(2, 1, 16, 16, generator=rng)
    before, after = big[:, :, 2:14, 2:14].flatten(1), big[:, :, 3:15, 1:13].flatten(1)
    inverse(before, after)
    assert seen[0].argmin(1).tolist() == [6, 6]  # one row down, one column left
    assert inverse(before.view(1, 2, -1), after.view(1, 2, -1)).shape == (1, 2, 2)


def test_smoothing_keeps_the_energy_of_a_point_and_makes_distances_grow():
    facts = Facts(channels=1, shape=(24, 24))
    encoder = Pixels(facts, blur=1.5)
    points = torch.zeros(9, 1, 24, 24)
    for k in range(9):
        points[k, 0, 12, 8 + k] = 1.0
    z = encoder(points).pooled
    torch.testing.assert_close(z[0].square().sum(), torch.tensor(1.0), atol=0.01, rtol=0)
    away = (z - z[0]).square().sum(1)
    assert (away.diff() > 0).all()  # without blur all of them are 2
    expected = 2 * (1 - (-torch.arange(9.0).square() / (4 * 1.5**2)).exp())
    torch.testing.assert_close(away, expected, atol=0.03, rtol=0.03)


def test_patches_are_blocks_of_the_picture(rng):
    facts = Facts(channels=2, shape=(8, 8))
    x = torch.randn(3, 2, 8, 8, generator=rng)
    seen = Pixels(facts, patch=4)(x)
    assert seen.grid == (2, 2) and seen.tokens.shape == (3, 4, 32)
    torch.testing.assert_close(seen.tokens[:, 1].view(3, 2, 4, 4), x[:, :, :4, 4:])
    with pytest.raises(RecipeError) as caught:
        Pixels(facts, patch=3)
    assert str(caught.value) == "encoder 'pixels': pictures of 8 x 8 pixels have no patches of 3"


def test_langevin_draws_follow_the_energy():
    """One number, E = max(1 - z^2, 0) + l1 |z|: E|z| by integration."""
    sparse = Sparse(width=1, l1=0.7)

    def density(z):
        return np.exp(-(max(1 - z * z, 0) + 0.7 * abs(z)))

    mass = quad(density, -30, 30, points=[-1, 0, 1])[0]
    mean = quad(lambda z: abs(z) * density(z), -30, 30, points=[-1, 0, 1])[0] / mass
    drawn = sparse.sample(4000, torch.Generator().manual_seed(0), steps=800, rate=0.05)
    assert abs(float(drawn.abs().mean()) - mean) < 0.08 * mean and abs(float(drawn.mean())) < 0.08 * mean


def test_other_priors():
    rng = torch.Generator().manual_seed(0)
    drawn = Noisy(width=3).sample(5000, rng)
    assert abs(float(drawn.mean())) < 0.05 and abs(float(drawn.std()) - 1) < 0.03
    vq = Quantised(width=2, codes=4, slots=3)
    vq.usage.copy_(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    each = vq.sample(2000, rng).view(-1, 2)
    share = (each - vq.codebook[0]).norm(dim=1).eq(0).float().mean()
    assert abs(float(share) - 0.75) < 0.03 and each.unique(dim=0).shape[0] == 2
    with pytest.raises(RecipeError) as caught:
        Free().sample(3, rng)
    assert str(caught.value) == (
        "bottleneck 'free' has no prior to draw latents from: train with sparse, noisy or vq to sample latent actions"
    )


def test_slots_are_quantised_each_by_itself_and_codes_learn_by_gradient():
    vq = Quantised(width=2, codes=8, slots=3, update="gradient")
    raw = torch.randn(5, 6, requires_grad=True)
    z, terms = vq(raw)
    alone, _ = Quantised.forward(vq.eval(), raw.detach().view(15, 2).repeat(1, 3))
    torch.testing.assert_close(z.view(15, 2), alone[:, :2])
    torch.testing.assert_close(terms["codes"], terms["commitment"] / vq.commitment)
    (terms["codes"]).backward()
    assert vq.codebook.grad is not None and raw.grad is None


def test_states_that_are_no_square_pictures_are_refused():
    with pytest.raises(RecipeError) as caught:
        Spec("dynamics", "kernel", channels=2).build(70, 2, 1)
    assert str(caught.value) == (
        "dynamics 'kernel' moves square pictures of 2 channels, the states have 70 numbers: take the encoder 'pixels' on square pictures, "
        "and set channels"
    )
    with pytest.raises(RecipeError) as far:
        ShiftInverse(36, 2, reach=3)
    assert str(far.value) == (
        "inverse 'shift': pictures of 6 pixels have no middle that all shifts up to 3 see: lower reach"
    )
