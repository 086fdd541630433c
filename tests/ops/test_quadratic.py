"""The fused march takes the steps of `advance`: same numbers, each sample by itself, in both precisions."""

from __future__ import annotations

import pytest
import torch

from tacit.ops import spectral
from tacit.ops.adams import Adams, adams
from tacit.ops.exponential import advance, etdrk4
from tacit.ops.quadratic import SquareAdams, SquareMarch

pytestmark = pytest.mark.compile  # numba cannot compile what a shape-checking wrapper stands around
N, KEPT = 32, 11


def parts(n=3, dtype=torch.complex128):
    torch.manual_seed(0)
    length = torch.tensor([20.0, 25.0, 30.0])[:n].double()
    k = spectral.wavenumbers(N, length)[:, :KEPT]
    scheme = etdrk4(1j * k**3 - 0.1 * k**2, torch.tensor([0.01, 0.02, 0.03])[:n], -0.5j * k, dtype=dtype)
    modes = torch.fft.rfft(torch.randn(3, N, dtype=torch.float64))[:n, :KEPT] * torch.exp(-0.5 * torch.arange(KEPT))
    return scheme, modes.to(dtype).contiguous()


def plain(scheme, v, count):
    for _ in range(count):
        v = advance(v, lambda w: torch.fft.rfft(torch.fft.irfft(w, n=N).square())[:, :KEPT], scheme)
    return torch.fft.irfft(v, n=N)


@pytest.mark.parametrize(("dtype", "error"), [(torch.complex128, 1e-12), (torch.complex64, 1e-5)])
def test_it_takes_the_same_steps(dtype, error):
    scheme, v = parts(dtype=dtype)
    march = SquareMarch(scheme, v, N)
    expected = plain(scheme, v, 25)
    march.steps(20)
    assert float((march.steps(5).field() - expected).abs().max() / expected.abs().max()) < error


@pytest.mark.parametrize(("dtype", "error"), [(torch.complex128, 1e-12), (torch.complex64, 1e-5)])
def test_so_does_the_multistep_scheme_whatever_the_calls(dtype, error):
    k = spectral.wavenumbers(N, torch.tensor([20.0, 25.0, 30.0], dtype=torch.float64))[:, :KEPT]
    scheme = adams(-0.1 * k**2, torch.tensor([0.01, 0.02, 0.03]), -0.5j * k, dtype=dtype)
    v = parts(dtype=dtype)[1]
    march, ahead, expected = SquareAdams(scheme, v, N), Adams(scheme), v
    for _ in range(25):
        expected = ahead(expected, lambda w: torch.fft.rfft(torch.fft.irfft(w, n=N).square())[:, :KEPT])
    march.steps(2).steps(3)
    found, field = march.steps(20).field(), torch.fft.irfft(expected, n=N)
    assert float((found - field).abs().max() / field.abs().max()) < error


def test_samples_do_not_see_each_other():
    scheme, v = parts()
    one, first = parts(1)
    every, alone = (SquareMarch(*given, N).steps(9).field() for given in ((scheme, v), (one, first)))
    torch.testing.assert_close(every[:1], alone, rtol=0, atol=1e-14)


def test_the_start_is_not_written_into():
    scheme, v = parts()
    before = v.clone()
    SquareMarch(scheme, v, N).steps(3)
    assert torch.equal(v, before)
