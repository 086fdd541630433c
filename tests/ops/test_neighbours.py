"""Neighbours and votes: exact selection, ties by index, all k in one pass."""

from __future__ import annotations

import pytest
import torch

from tacit.ops.neighbours import nearest, unit_rows, votes


def searched(bank, queries, k, **options):
    parts = list(nearest(bank, queries, k, **options))
    return torch.cat([value for _, value, _ in parts]), torch.cat([index for _, _, index in parts])


@pytest.mark.parametrize("chunk", [1, 4, 100, None])
def test_search_equals_a_stable_sort_also_among_many_equals(chunk):
    """Integer features make exact ties, so the k-th neighbour is usually one of many equals."""
    rng = torch.Generator().manual_seed(0)
    bank = torch.randint(-1, 2, (60, 3), generator=rng).float()
    queries = torch.randint(-1, 2, (9, 3), generator=rng).float()
    product = queries @ bank.T
    order = product.argsort(dim=1, descending=True, stable=True)
    for k in (1, 7, 59, 60):
        value, index = searched(bank, queries, k, chunk=chunk)
        assert torch.equal(index, order[:, :k])
        assert torch.equal(value, product.gather(1, order)[:, :k])


@pytest.mark.parametrize("kinds", [2, 1000])
def test_selection_by_groups_equals_a_stable_sort(kinds):
    """A bank wide enough that only the groups of largest maximum are looked at, with a tail that fills no group."""
    rng = torch.Generator().manual_seed(4)
    bank = torch.randint(-kinds, kinds + 1, (16 * 60 + 5, 2), generator=rng).float()
    queries = torch.randint(-3, 4, (25, 2), generator=rng).float()
    product = queries @ bank.T
    order = product.argsort(dim=1, descending=True, stable=True)
    for k in (1, 5, 14):
        value, index = searched(bank, queries, k)
        assert torch.equal(index, order[:, :k])
        assert torch.equal(value, product.gather(1, order)[:, :k])


def test_no_row_is_its_own_neighbour():
    bank = unit_rows(torch.randn(20, 4, generator=torch.Generator().manual_seed(1)))
    _, index = searched(bank, bank, 19, skip_self=True, chunk=6)
    assert not (index == torch.arange(20)[:, None]).any()
    assert all(len(set(row)) == 19 for row in index.tolist())


def test_unit_rows_have_length_one_and_zero_stays_zero():
    z = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0], [3e30, 4e30]])
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    torch.testing.assert_close(unit_rows(z), expected)
    torch.testing.assert_close(unit_rows(z[:1]), expected[:1])
    assert unit_rows(z.half()).dtype == torch.float32


def test_votes_are_sums_of_exponentials_and_low_bits_name_the_class():
    similarity = torch.tensor([[0.9, 0.8, 0.5]])
    labels = torch.tensor([[2, 0, 2]])
    found = dict(votes(similarity, labels, 3, [1, 3], 0.1))
    weight = lambda s: torch.tensor((s - 0.9) / 0.1).double().exp()  # noqa: E731
    expected = torch.tensor([weight(0.8), 0.0, 1 + weight(0.5)], dtype=torch.float64)
    one = (found[3][0] >> 2).double()
    torch.testing.assert_close(one / one.sum(), expected / expected.sum(), rtol=1e-6, atol=0)
    assert (3 - 1 - (found[1][0] & 3)).tolist() == [0, 1, 2]
    assert found[1][0].argmax() == 2
