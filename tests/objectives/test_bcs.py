"""EB-JEPA's SIGReg: its known values, and its relation to LeJEPA's."""

import torch

from tacit.objectives.bcs import BCS


def test_known_values():
    torch.manual_seed(0)
    bcs, n = BCS(weight=1.0, directions=64), 400
    zero = torch.zeros(n, 6)
    torch.testing.assert_close(bcs(zero, zero)["bcs"], torch.tensor(0.39996), atol=1e-4, rtol=0)
    found = torch.stack([bcs(*torch.randn(2, n, 6))["bcs"] for _ in range(30)])
    assert abs(float(found.mean()) * n - 1.0503) < 0.15
    assert bcs(zero, zero)["invariance"] == 0


def test_the_terms_are_weighted_and_summed():
    a, b = torch.randn(2, 32, 5)
    torch.manual_seed(0)
    one = BCS(weight=1.0)(a, b)
    torch.manual_seed(0)
    ten = BCS()(a, b)
    torch.testing.assert_close(ten["bcs"], 10 * one["bcs"])
    torch.testing.assert_close(ten["loss"], ten["bcs"] + (a - b).square().mean())


def test_a_shift_costs_and_a_sign_does_not():
    torch.manual_seed(0)
    a = torch.randn(256, 4)
    bcs = BCS(weight=1.0)

    def value(z):
        torch.manual_seed(1)
        return bcs(z, z)["bcs"]

    torch.testing.assert_close(value(-a), value(a))
    assert value(a + 1) > 10 * value(a)
