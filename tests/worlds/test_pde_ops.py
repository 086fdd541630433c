"""Spectral operations, exponential coefficients, differences, interpolation: closed forms and identities."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import DataError
from tacit.ops import interpolation, spectral
from tacit.ops.adams import Adams, adams
from tacit.ops.exponential import advance, etdrk4, phi
from tacit.ops.fields import Field, difference

TAU = 2 * math.pi


def wave(points: int, length: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.arange(points, dtype=torch.float64) * length / points
    return x, torch.exp(torch.sin(TAU * x / length))


@pytest.mark.parametrize("points", [63, 64])
def test_derivatives_of_a_resolved_function_are_exact(points):
    x, u = wave(points)
    k = TAU / 5.0
    torch.testing.assert_close(spectral.derivative(u, 5.0), k * torch.cos(k * x) * u, atol=1e-11, rtol=0)
    twice = spectral.derivative(spectral.derivative(u, 5.0), 5.0)
    torch.testing.assert_close(spectral.derivative(u, 5.0, 2), twice, atol=1e-9, rtol=0)


def test_an_integer_shift_is_a_roll_and_two_half_shifts_are_one():
    u = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    modes = torch.fft.rfft(u)
    modes[..., -1] = 0  # a shift leaves the Nyquist mode, a roll flips its sign
    u = torch.fft.irfft(modes, n=32)
    torch.testing.assert_close(spectral.shift(u, 5 * 7.0 / 32, 7.0), u.roll(5, -1))
    half = spectral.shift(spectral.shift(u, 0.1, 7.0), 0.1, 7.0)
    torch.testing.assert_close(half, spectral.shift(u, 0.2, 7.0))
    torch.testing.assert_close(spectral.shift(spectral.shift(u, 0.3, 7.0), -0.3, 7.0), u)


@pytest.mark.parametrize("points", [15, 16])
def test_evaluation_at_the_grid_and_upsampling_return_the_samples(points):
    u = torch.randn(2, points, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = torch.arange(points, dtype=torch.float64).expand(2, -1) * 3.0 / points
    torch.testing.assert_close(spectral.evaluate(u, x, 3.0), u)
    fine = spectral.upsample(u, 4)
    torch.testing.assert_close(fine[:, ::4], u)
    middle = x + 3.0 / points / 4
    torch.testing.assert_close(spectral.evaluate(u, middle, 3.0), fine[:, 1::4])


@pytest.mark.parametrize("z", [0.0, 1e-8, 0.3, -0.99, -1.0, -50.0, 1j, 0.4j, 300j, -0.5 + 0.5j])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_phi_functions_keep_their_digits(z, order):
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(200):
        value = mp.mpmathify(z) if z else mp.mpf("1e-40")
        exact = mp.exp(value)
        for k in range(order):
            exact = (exact - 1 / mp.factorial(k)) / value
    got = complex(phi(torch.tensor([z], dtype=torch.complex128), order)[0])
    assert abs(got - complex(exact)) < 3e-15 * max(1, abs(complex(exact)))


def test_a_linear_equation_is_stepped_exactly_whatever_the_step():
    linear = torch.tensor([[-3.0, 2.0j, -1e4]], dtype=torch.complex128)
    scheme = etdrk4(linear, 0.7, dtype=torch.complex128)
    v = torch.ones(1, 3, dtype=torch.complex128)
    torch.testing.assert_close(advance(v, torch.zeros_like, scheme), torch.exp(linear * 0.7))


def test_etdrk4_has_order_four_with_a_nonlinearity_and_a_force():
    """v' = -2 v + v^2 / 4 + cos t against a fine run."""

    def run(steps: int) -> complex:
        h = 2.0 / steps
        scheme = etdrk4(torch.tensor([-2.0 + 1j]), h, dtype=torch.complex128)
        v = torch.tensor([0.5 + 0j], dtype=torch.complex128)
        for i in range(steps):
            t = [torch.cos(torch.tensor((i + s) * h, dtype=torch.float64)) for s in (0, 0.5, 1)]
            v = advance(v, lambda u: u * u / 4, scheme, (t[0], t[1], t[2]))
        return complex(v[0])

    fine = run(640)
    slope = math.log2(abs(run(20) - fine) / abs(run(40) - fine))
    assert 3.8 < slope < 4.4


def test_the_multistep_scheme_has_order_five_and_steps_a_linear_equation_exactly():
    def run(steps: int) -> complex:
        ahead = Adams(adams(torch.tensor([-2.0 + 1j]), 2.0 / steps, dtype=torch.complex128))
        v = torch.tensor([0.5 + 0j], dtype=torch.complex128)
        for _ in range(steps):
            v = ahead(v, lambda u: u * u)
        return complex(v[0])

    fine = run(1280)
    slope = math.log2(abs(run(40) - fine) / abs(run(80) - fine))
    assert 4.7 < slope < 5.5
    linear = torch.tensor([[-3.0, 2.0j, -1e4]], dtype=torch.complex128)
    ahead, v = Adams(adams(linear, 0.7, dtype=torch.complex128)), torch.ones(1, 3, dtype=torch.complex128)
    for _ in range(7):
        v = ahead(v, torch.zeros_like)
    torch.testing.assert_close(v, torch.exp(linear * 4.9))


def test_nine_point_differences_have_the_published_weights_and_bear_uneven_steps():
    x = torch.arange(9, dtype=torch.float64).unsqueeze(0) * 0.5
    weights = difference(torch.eye(9, dtype=torch.float64), x.expand(9, -1), 1).squeeze() * 0.5
    known = torch.tensor([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280], dtype=torch.float64)
    torch.testing.assert_close(weights, known, atol=1e-12, rtol=0)
    t = torch.linspace(0, 1, 40, dtype=torch.float64).unsqueeze(0) ** 1.2
    torch.testing.assert_close(difference(t**5, t, 1), 5 * t[:, 4:-4] ** 4, atol=1e-9, rtol=0)


def test_cubic_interpolation_reproduces_parabolas_and_beats_the_kernel_of_torch():
    i = torch.arange(12, dtype=torch.float64)
    at = torch.linspace(1.2, 9.7, 30, dtype=torch.float64)
    torch.testing.assert_close(interpolation.cubic((i**2).unsqueeze(0), at.unsqueeze(0), False), at.unsqueeze(0) ** 2)
    _, u = wave(64)
    at = (torch.arange(64, dtype=torch.float64) + 0.5).unsqueeze(0)
    exact = spectral.upsample(u, 2)[1::2]
    ours = float((interpolation.cubic(u.unsqueeze(0), at, True)[0] - exact).abs().max())
    assert ours < 1e-4
    plane = u.unsqueeze(1) * u
    both = interpolation.cubic_plane(plane, (at.T.expand(64, 64), at.expand(64, 64)), (True, True))
    assert float((both - exact.unsqueeze(1) * exact).abs().max()) < 5e-4


def test_cubic_interpolation_refuses_to_extrapolate():
    with pytest.raises(DataError, match=r"between the grid lines 1 and 10, found 0.5 to 0.5: choose a target grid"):
        interpolation.cubic(torch.zeros(1, 12), torch.tensor([[0.5]]), False)


def field(**changes) -> Field:
    x = torch.arange(16, dtype=torch.float64).expand(2, -1) / 4
    t = torch.arange(12, dtype=torch.float64).expand(2, -1) / 8
    whole = Field("kdv", {"u": torch.ones(2, 12, 16, dtype=torch.float64)}, t, (x,), (True,))
    return whole.replace(**changes)


def test_a_sound_field_passes_and_a_crop_loses_its_period():
    whole = field().check()
    assert whole.lengths[0].tolist() == [4.0, 4.0]
    part = whole.crop((2, 4), (5, 8))
    assert part.values["u"].shape == (2, 5, 8)
    assert part.periodic == (False,)
    assert whole.crop((2, 0), (5, 16)).periodic == (True,)
    with pytest.raises(DataError, match="crop of 9 from 8 does not fit axis 1 of size 16"):
        whole.crop((0, 8), (1, 9))


def test_nan_gaps_and_uneven_grids_are_named():
    u = torch.ones(2, 12, 16, dtype=torch.float64)
    u[1, 5, 3] = math.nan
    with pytest.raises(DataError, match=r"component 'u' of trajectory 1 is not finite from frame 5 on \(1 of 2"):
        field(values={"u": u}).check()
    t = field().time.clone()
    t[0, 6:] += 1
    with pytest.raises(
        DataError, match=r"time of trajectory 0 goes from 0.625 to 1.75 after frame 5, where steps are 0.125"
    ):
        field(time=t).check()
    x = field().space[0] ** 2
    with pytest.raises(DataError, match="space axis 0 is not evenly spaced"):
        field(space=(x,)).check()
    with pytest.raises(DataError, match=r"has shape \(2, 12, 16\), its coordinates say \(2, 11, 16\)"):
        field(time=field().time[:, 1:]).check()
