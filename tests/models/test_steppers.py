"""Steppers: published sizes, exact linear solutions, symmetry under shifts and grids, conditions that act or do not."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.models.steppers import Ports
from tacit.models.steppers.layers import NumberEmbedding, SpectralConvolution, sinusoids
from tacit.ops import spectral

LINE, PLANE = Ports(1, 4, 3, 1, 2, 1), Ports(2, 2, 1, 2, 1, 1)
SMALL = {
    "cnn": {"width": 8, "kernels": (3, 5)},
    "fno": {"width": 6, "modes": 4, "depth": 2, "last": 5},
    "fno-conditioned": {"width": 6, "modes": 4, "depth": 2, "pad": 2},
    "unet": {"width": 8, "levels": (1, 2), "blocks": 1},
}
CASES = [(kind, ports) for kind in SMALL for ports in (LINE, PLANE) if (kind, ports.axes) != ("cnn", 2)]


def weights(module):
    return sum(p.numel() for p in module.parameters())


def build(kind, ports, **changes):
    torch.manual_seed(0)
    return Spec("stepper", kind, **{**SMALL[kind], **changes}).build(ports)


def inputs(ports, n=3, points=16):
    torch.manual_seed(1)
    space = (points,) * ports.axes
    return (
        torch.randn(n, ports.channels, ports.history, *space),
        torch.randn(n, ports.condition),
        torch.rand(n, ports.action),
    )


def awake(module):
    """Every weight away from zero, so that layers that start at zero act."""
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return module.eval()


def test_sizes_are_the_published_ones():
    ports = Ports(1, 20, 20, 1, action=2)
    assert weights(Spec("stepper", "cnn").build(ports)) == 1_006_100
    complex_weights = 5 * 256 * 256 * 32  # stored as two real ones, counted once in the paper
    assert weights(Spec("stepper", "fno").build(ports)) - complex_weights == 10_856_084
    with torch.device("meta"):
        ports = Ports(3, 1, 1, 2, condition=1, action=1)
        assert weights(Spec("stepper", "unet").build(ports)) == 148_765_635
        assert weights(Spec("stepper", "unet", conditioning="addition").build(ports)) == 146_594_499


@pytest.mark.parametrize(("kind", "ports"), CASES)
def test_frames_come_out_and_every_input_matters(kind, ports):
    model = awake(build(kind, ports))
    given = [x.requires_grad_() for x in inputs(ports)]
    y = model(*given)
    assert y.shape == (3, ports.channels, ports.horizon, *given[0].shape[3:])
    for gradient in torch.autograd.grad(y.square().sum(), given):
        assert gradient.abs().max() > 0


@pytest.mark.parametrize(("kind", "ports"), CASES)
def test_samples_do_not_see_each_other(kind, ports):
    model, given = awake(build(kind, ports)), inputs(ports)
    alone = torch.cat([model(*(x[i : i + 1] for x in given)) for i in range(3)])
    torch.testing.assert_close(model(*given), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes", "by"),
    [("cnn", {}, 1), ("fno", {}, 1), ("fno-conditioned", {"pad": 0}, 1), ("unet", {"edges": "circular"}, 2),
     ("unet", {"edges": "circular", "fourier": 1, "modes": 4}, 2)],
)  # fmt: skip
def test_on_a_circle_a_shifted_history_gives_shifted_frames(kind, changes, by):
    model, (u, c, a) = awake(build(kind, LINE, **changes)), inputs(LINE)
    torch.testing.assert_close(model(u.roll(by, -1), c, a), model(u, c, a).roll(by, -1), rtol=1e-4, atol=1e-5)


def test_a_spectral_convolution_with_unit_weights_is_the_identity_on_what_it_keeps():
    layer = SpectralConvolution(1, 1, 5, 1).double()
    with torch.no_grad():
        layer.weights1.copy_(torch.tensor([1.0, 0.0]).expand_as(layer.weights1))
    x = torch.arange(32, dtype=torch.float64) * 2 * math.pi / 32
    low, high = (1 + (4 * x).cos() + x.sin()).view(1, 1, -1), (5 * x).cos().view(1, 1, -1)
    torch.testing.assert_close(layer(low + high), low)


def test_a_spectral_convolution_can_solve_the_heat_equation_in_the_plane():
    nu, t, m = 0.1, 0.7, 3
    layer = SpectralConvolution(1, 1, m, 2).double()
    k = torch.arange(m, dtype=torch.float64)
    with torch.no_grad():
        for weight, across in ((layer.weights1, k), (layer.weights2, k - m)):
            weight.zero_()
            weight[0, 0, ..., 0] = torch.exp(-nu * t * (across.unsqueeze(1) ** 2 + k**2))
    x = torch.arange(16, dtype=torch.float64) * 2 * math.pi / 16
    x, y = x.unsqueeze(1), x.unsqueeze(0)
    u = (2 * x - y).cos() + 0.5 * (x + 2 * y).sin()
    exact = math.exp(-nu * t * 5) * u
    torch.testing.assert_close(layer(u.view(1, 1, 16, 16))[0, 0], exact)


def test_a_spectral_layer_maps_functions_the_grid_does_not_matter():
    torch.manual_seed(0)
    layer = SpectralConvolution(2, 3, 4, 1).double()
    u = spectral.upsample(torch.randn(1, 2, 8, dtype=torch.float64), 2)
    torch.testing.assert_close(layer(spectral.upsample(u, 4))[..., ::4], layer(u))


def test_an_operator_trained_on_one_grid_gives_the_same_function_on_a_finer_one():
    model = build("fno", LINE, modes=4).double()
    _, c, a = (v.double() for v in inputs(LINE))
    modes = torch.fft.rfft(torch.randn(3, 1, 4, 64, dtype=torch.float64))
    modes[..., 4:] = 0
    fine = torch.fft.irfft(modes, n=64)
    coarse = model(fine[..., ::2], c, a)
    assert (model(fine, c, a)[..., ::2] - coarse).abs().max() < 1e-3 * coarse.abs().max()


@pytest.mark.parametrize("conditioning", ["adagn", "addition"])
def test_a_condition_whose_maps_are_zero_is_none(conditioning):
    told = awake(build("unet", PLANE, conditioning=conditioning))
    free = build("unet", Ports(2, 2, 1, 2), conditioning=conditioning).eval()
    missing = free.load_state_dict(told.state_dict(), strict=False)
    assert not missing.missing_keys
    for name, p in told.named_parameters():
        if "cond_emb" in name:
            torch.nn.init.zeros_(p)
    u, c, a = inputs(PLANE)
    torch.testing.assert_close(told(u, c, a), free(u))


def test_a_fourier_unet_is_spectral_in_its_first_levels_down_and_its_waves_are_seen_whole_there():
    model = awake(build("unet", PLANE, levels=(1, 2, 2), fourier=2, modes=8))
    kept = [(name, m.modes) for name, m in model.named_modules() if isinstance(m, SpectralConvolution)]
    assert [modes for _, modes in kept] == [8, 8, 4, 4] and all(name.startswith("down.") for name, _ in kept)
    near = build("unet", PLANE, levels=(1, 2, 2))
    assert not [m for m in near.modules() if isinstance(m, SpectralConvolution)]
    with torch.no_grad():  # a point moves what is half a domain away, in the first block already
        h = torch.zeros(1, 8, 32, 32)
        e = torch.zeros(1, 32)
        h[..., 0, 0] = torch.linspace(1, 2, 8)
        block = model.down[0]
        far = (block(h, e) - block(torch.zeros_like(h), e))[..., 16, 16]
    assert float(far.abs().max()) > 1e-3


def test_the_unet_begins_by_predicting_exactly_nothing():
    assert build("unet", PLANE)(*inputs(PLANE)).abs().max() == 0
    assert build("unet", PLANE, fourier=1, modes=4)(*inputs(PLANE)).abs().max() == 0


def test_sinusoids_of_zero_are_ones_and_zeros_and_the_linear_reader_has_none():
    e = sinusoids(torch.zeros(1, 2), 4)
    assert e.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] or e.tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
    reader = NumberEmbedding(3, 4, sinusoid=False)
    x = torch.randn(2, 3)
    torch.testing.assert_close(reader(2 * x) - reader(x), reader(x) - reader(0 * x))


def test_what_does_not_fit_is_refused():
    model = build("fno", LINE)
    u, c, a = inputs(LINE)
    with pytest.raises(DataError, match=r"this stepper was built for a condition of 2 numbers, found 0"):
        model(u, None, a)
    with pytest.raises(DataError, match=r"this stepper reads histories \[n 1 4 x\], found \[3, 1, 2, 16\]"):
        model(u[:, :, :2], c, a)
    with pytest.raises(DataError, match=r"4 modes need at least 8 points along each axis, found \(6,\): lower modes"):
        model(u[..., :6], c, a)
    with pytest.raises(DataError, match=r"halves each axis to 2 times less, and \(15,\) does not divide"):
        build("unet", LINE)(u[..., :15], c, a)
    with pytest.raises(RecipeError, match="stepper 'cnn' lives on a line"):
        build("cnn", PLANE)
    with pytest.raises(RecipeError, match="a centred convolution has an odd width, found 4"):
        build("cnn", LINE, kernels=(3, 4))
