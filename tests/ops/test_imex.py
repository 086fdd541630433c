"""ARS(4,4,3): exact on what it solves exactly, third order, damping without a limit, and the same limit as ETDRK4."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tacit.ops.imex import advance_imex, ars443, integrator

Z = torch.complex128


def solve(symbol, nonlinear, start, horizon, steps, method="imex"):
    ahead = integrator(method, torch.tensor([symbol], dtype=Z), horizon / steps, dtype=Z)
    v = torch.tensor([start], dtype=Z)
    for _ in range(steps):
        v = ahead(v, nonlinear)
    return complex(v[0])


@pytest.mark.parametrize("symbol", [-2.0, 3j, -1 + 2j])
def test_the_order_is_three_where_both_parts_act(symbol):
    """v' = L v - v^2 has the closed solution L / (1 - (1 - L / v0) e^(-L t))."""
    exact = symbol / (1 - (1 - symbol / 0.5) * complex(math.e) ** (-symbol))
    errors = [abs(solve(symbol, lambda v: -v * v, 0.5, 1.0, n) - exact) for n in (20, 40, 80)]
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(2.9 < s < 3.3 for s in slopes), slopes


def test_both_methods_have_one_limit():
    by = {m: solve(-1 + 1j, lambda v: -v * v, 0.5, 1.0, 160, m) for m in ("imex", "etdrk4")}
    assert abs(by["imex"] - by["etdrk4"]) < 1e-7


def test_stiff_modes_vanish_and_none_grows_whatever_the_step():
    real = -torch.logspace(-3, 8, 40, dtype=torch.float64).to(Z)
    imaginary = 1j * torch.logspace(-3, 8, 40, dtype=torch.float64)
    for symbols in (real, imaginary):
        v = advance_imex(torch.ones(40, dtype=Z), torch.zeros_like, ars443(symbols, 1.0, dtype=Z))
        assert v.abs().max() <= 1 + 1e-12 and v[-1].abs() < 1e-6


def test_each_sample_has_its_own_step_and_factor():
    symbol = torch.tensor([[-1.0], [-1.0]], dtype=Z)
    step, factor = torch.tensor([0.1, 0.2]), torch.tensor([[2.0], [3.0]])
    both = advance_imex(torch.ones(2, 1, dtype=Z), lambda v: v, ars443(symbol, step, factor, dtype=Z))
    for i in range(2):
        alone = ars443(symbol[i : i + 1], float(step[i]), factor[i : i + 1], dtype=Z)
        torch.testing.assert_close(advance_imex(torch.ones(1, 1, dtype=Z), lambda v: v, alone), both[i : i + 1])
