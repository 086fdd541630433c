from __future__ import annotations

import pytest
import torch

from tacit.ops.positions import resize_grid, sincos_2d


def test_positions_have_equal_length_and_depend_on_offsets_only():
    """sin^2 + cos^2 = 1, and the dot product of two positions is a function of their distance."""
    p = sincos_2d(5, 7, 16, dtype=torch.float64)
    torch.testing.assert_close(p.square().sum(1), torch.full((35,), 8.0, dtype=torch.float64))
    p = p.reshape(5, 7, 16)
    torch.testing.assert_close(p[0, 0] @ p[1, 2], p[3, 4] @ p[4, 6])


def test_a_larger_grid_continues_the_smaller_one():
    small, large = sincos_2d(3, 4, 8).reshape(3, 4, 8), sincos_2d(6, 9, 8).reshape(6, 9, 8)
    torch.testing.assert_close(large[:3, :4], small, rtol=0, atol=0)


def test_rows_come_first():
    p = sincos_2d(2, 3, 4, dtype=torch.float64).reshape(2, 3, 4)
    one = torch.tensor(1.0, dtype=torch.float64)
    torch.testing.assert_close(p[1, 2], torch.stack([one.sin(), one.cos(), (2 * one).sin(), (2 * one).cos()]))


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"^sine-cosine positions need a width that is a multiple of 4, found 6$"):
        sincos_2d(2, 2, 6)


def test_resizing_keeps_constants_and_the_own_grid(rng):
    p = torch.randn(12, 5, generator=rng)
    assert resize_grid(p, (3, 4), (3, 4)) is p
    torch.testing.assert_close(resize_grid(torch.ones(12, 5), (3, 4), (6, 5)), torch.ones(30, 5))
