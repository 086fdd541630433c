from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from tacit.ops import contrast
from tacit.ops.contrast import absolute_sum, log_sum_exp
from tacit.ops.duality import normalised, off_diagonal_squares, repulsion, smaller_gram

SHAPES = [(12, 5), (5, 12), (7, 7), (2, 3)]


def off_diagonal(m):
    return m - torch.diag(m.diagonal())


def side_of(a, b, side):
    return a @ b.T if side == "sample" else a.T @ b


def draw(rng, shape):
    return (z.requires_grad_() for z in torch.randn(2, *shape, dtype=torch.float64, generator=rng).unbind())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", ["sample", "dimension"])
def test_every_route_gives_the_sum_and_the_gradient_of_its_side(rng, shape, side):
    a, b = draw(rng, shape)
    for found, right in (
        (off_diagonal_squares(a, b, side), side_of(a, b, side)),
        (off_diagonal_squares(a, side=side), side_of(a, a, side)),
    ):
        expected = off_diagonal(right).square().sum()
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
        slopes = [torch.autograd.grad(v, (a, b), allow_unused=True, materialize_grads=True) for v in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 1024), (1024, 64)])
@pytest.mark.parametrize("side", ["sample", "dimension"])
def test_float32_is_right_to_a_hundred_thousandth(rng, shape, side):
    a, b = torch.randn(2, *shape, generator=rng)
    exact = off_diagonal(side_of(a.double(), b.double(), side)).square().sum().item()
    assert off_diagonal_squares(a, b, side).item() == pytest.approx(exact, rel=1e-5)


def test_the_numeric_example_of_the_frobenius_identity_gradients_included():
    """L_nc + sum row^4 = L_c + sum col^4 (arXiv 2206.02574, proposition 3.1) for K = Z^T, as values and as gradients."""
    k = torch.from_numpy(np.random.RandomState(0).randn(3, 4))
    z = k.T.clone().requires_grad_()
    contrastive, dimensional = off_diagonal_squares(z, side="sample"), off_diagonal_squares(z, side="dimension")
    rows, columns = z.square().sum(0).square().sum(), z.square().sum(1).square().sum()
    found = [value.item() for value in (contrastive, dimensional, rows, columns)]
    assert found == pytest.approx([67.84061298, 48.21201227, 119.76967401, 100.14107330], abs=1e-8)
    left, right = dimensional + rows, contrastive + columns
    assert left.item() == pytest.approx(right.item(), rel=1e-13)
    torch.testing.assert_close(torch.autograd.grad(left, z), torch.autograd.grad(right, z), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (30, 3)])
def test_the_equivalence_bounds_hold(rng, shape):
    """Unit samples: L_nc - N + N^2/M <= L_c <= L_nc - N + N^2, and the same with sides exchanged for unit dimensions."""
    n, m = shape
    z = torch.randn(*shape, dtype=torch.float64, generator=rng)
    for unit_side, other in ((0, 1), (1, 0)):
        u = z / z.norm(dim=1 - unit_side, keepdim=True)
        sums = [off_diagonal_squares(u, side=side).item() for side in ("sample", "dimension")]
        own, across = sums[unit_side], sums[other]
        count, width = (n, m) if unit_side == 0 else (m, n)
        assert across - count + count**2 / width - 1e-9 <= own <= across - count + count**2 + 1e-9
        if unit_side == 0 and n >= m:
            assert own >= n**2 / m - n - 1e-9  # Welch


def test_with_both_sides_of_equal_norm_the_two_criteria_differ_by_a_constant(rng):
    """Rows of norm one and columns of norm sqrt(n / d): L_nc + n^2 / d = L_c + n, whatever the signs of the entries."""
    for n, d in ((8, 8), (12, 5), (5, 12)):
        z = torch.where(torch.rand(n, d, dtype=torch.float64, generator=rng) < 0.5, -1.0, 1.0).double() / d**0.5
        sample, dimension = (off_diagonal_squares(z, side=side).item() for side in ("sample", "dimension"))
        assert dimension + n**2 / d == pytest.approx(sample + n, rel=1e-12)


def test_a_tight_frame_meets_the_welch_bound():
    frame = torch.cat([torch.eye(4), -torch.eye(4), torch.eye(4)]).double()
    assert off_diagonal_squares(frame, side="sample").item() == pytest.approx(12**2 / 4 - 12, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_smaller_gram_matrix_has_the_spectrum_of_both(rng, shape):
    z = torch.randn(*shape, dtype=torch.float64, generator=rng)
    gram = smaller_gram(z)
    assert len(gram) == min(shape)
    torch.testing.assert_close(torch.linalg.eigvalsh(gram), torch.linalg.svdvals(z).square().flip(0))


def test_normalisations_have_entries_of_mean_square_one(rng):
    z = torch.randn(9, 5, dtype=torch.float64, generator=rng) * 4 + 3
    for how in ("samples", "centred-samples"):
        torch.testing.assert_close(normalised(z, how).square().mean(1), torch.ones(9, dtype=torch.float64))
    flat = normalised(z, "dimensions")
    torch.testing.assert_close(flat.square().mean(0), torch.ones(5, dtype=torch.float64), rtol=1e-5, atol=0)
    assert max(normalised(z, how).mean(0).abs().max() for how in ("centred", "dimensions")) < 1e-14
    torch.testing.assert_close(normalised(z, "none"), z)


MEMBERS = [
    (kind, sets, side)
    for kind, sets, side in product(
        ("square", "absolute", "exponential", "decoupled"), ("each", "joint", "cross"), ("sample", "dimension")
    )
    if kind != "decoupled"
    or sets == "cross"
    or (sets, side) == ("joint", "sample")  # elsewhere no partner to leave out
]
PHI = {"plain": lambda x: x, "absolute": torch.abs, "square": torch.square}


def by_the_book(a, b, kind, side, sets, divisor, entries, temperature):
    """The repulsion entry by entry, from whole matrices."""
    n = len(a)
    if sets == "each":
        return sum(by_the_book(z, z, kind, side, "self", divisor, entries, temperature) for z in (a, b))
    if sets == "joint":
        a = b = torch.cat([a, b])
    m = side_of(a, b, side) / divisor
    found = []
    for matrix in (m, m.T) if sets == "cross" else (m,):
        rows = []
        for i, row in enumerate(matrix):
            out = {i}
            if sets == "cross" and kind == "exponential":
                out = set()
            if sets == "joint" and kind == "decoupled":
                out = {i, (i + n) % (2 * n)}
            others = torch.stack([x for j, x in enumerate(row) if j not in out])
            if kind in ("square", "absolute"):
                rows.append(PHI[kind](others).sum())
            else:
                rows.append((PHI[entries](others) / temperature).logsumexp(0))
        found.append(torch.stack(rows).mean())
    return sum(found) / len(found)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
@pytest.mark.parametrize(("kind", "sets", "side"), MEMBERS)
def test_repulsion_is_that_of_the_whole_matrix(rng, shape, kind, sets, side):
    a, b = draw(rng, shape)
    for entries in PHI if kind in ("exponential", "decoupled") else ("plain",):
        found = repulsion(a, b, kind, side=side, sets=sets, divisor=2.0, entries=entries, temperature=0.7)
        expected = by_the_book(a, b, kind, side, sets, 2.0, entries, 0.7)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
        slopes = [torch.autograd.grad(v, (a, b)) for v in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("entries", PHI)
def test_tiles_change_nothing(rng, monkeypatch, entries):
    a, b = draw(rng, (7, 4))
    hidden = torch.arange(7)[:, None]

    def both():
        found = log_sum_exp(a, b, hidden, 0.5, entries), absolute_sum(a, b, hidden)
        return [*found, *torch.autograd.grad(sum(found), (a, b))]

    whole = both()
    monkeypatch.setattr(contrast, "_TILE", 3 * 7)
    torch.testing.assert_close(both(), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])  # the factor goes to the rows, or to the tile
@pytest.mark.parametrize(("tile", "block"), [(1 << 26, 256), (1 << 26, 3), (3 * 7, 256)])
def test_rows_as_their_own_columns_are_columns_that_move_with_them(rng, monkeypatch, shape, tile, block):
    monkeypatch.setattr(contrast, "_TILE", tile)
    monkeypatch.setattr(contrast, "_BLOCK", block)
    z, _ = draw(rng, shape)
    itself = torch.arange(len(z))[:, None]
    for entries in PHI:
        found = [log_sum_exp(z, c, itself, 0.5, entries) + absolute_sum(z, c, itself) for c in (None, z)]
        slopes = [torch.autograd.grad(v, z) for v in found]
        torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-12, atol=1e-14)


def test_a_partner_makes_it_the_cross_entropy_of_naming_it(rng, monkeypatch):
    a, b = draw(rng, (7, 4))
    none, partner = torch.zeros(7, 0, dtype=torch.int64), torch.arange(7).roll(2)
    expected = torch.nn.functional.cross_entropy(a @ b.T / 0.5, partner, reduction="sum")
    for tile in (1 << 26, 2 * 7):
        monkeypatch.setattr(contrast, "_TILE", tile)
        found = log_sum_exp(a, b, none, 0.5, partner=partner)
        torch.testing.assert_close(found, expected)
        slopes = [torch.autograd.grad(v, (a, b), retain_graph=True) for v in (found, expected)]
        torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("temperature", [0.03, 0.001])
def test_cold_float32_neither_underflows_nor_overflows(temperature):
    z, hidden = torch.eye(4), torch.arange(4)[:, None]
    found = log_sum_exp(z, -z, hidden[:, :0], temperature, bounded=True).item()
    exact = ((z.double() @ -z.double().T) / temperature).logsumexp(1).sum().item()
    assert found == pytest.approx(exact, abs=1e-6 / temperature)  # the rounding of logits of that size


def test_a_second_derivative_is_refused_instead_of_wrong(rng):
    a, b = draw(rng, (4, 3))
    for name, value in (
        ("off_diagonal_squares", off_diagonal_squares(a, b, "sample")),
        ("log_sum_exp", log_sum_exp(a, b, torch.arange(4)[:, None], 1.0)),
    ):
        with pytest.raises(RuntimeError, match=f"^{name} gives first derivatives only"):
            torch.autograd.grad(value, a, create_graph=True)


def test_without_gradient_none_is_made(rng):
    a, b = torch.randn(2, 4, 3, generator=rng)
    assert not off_diagonal_squares(a, b, "sample").requires_grad
    assert not log_sum_exp(a, b, torch.arange(4)[:, None], 1.0).requires_grad
