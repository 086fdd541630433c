"""Positions of clips: fixed tables, rotary ones corrected and as published."""

from __future__ import annotations

import pytest
import torch

from tacit.ops.positions import rope, rotate, sincos_2d, sincos_grid

GRID = (3, 4, 5)


def test_a_table_of_images_is_the_two_dimensional_one_and_the_published_one_swaps_its_halves():
    correct, official = sincos_grid((3, 4), 16), sincos_grid((3, 4), 16, "official")
    assert torch.equal(correct, sincos_2d(3, 4, 16))
    assert torch.equal(official, torch.cat([correct[:, 8:], correct[:, :8]], dim=1))  # I-JEPA: the column comes first


def test_the_published_clip_table_loses_the_end_of_its_column_part():
    """32 = 3 * 12 - 4: frame and row keep 12 channels, the column 8."""
    official = sincos_grid(GRID, 32, "official").reshape(*GRID, 32)
    assert (official[:, :, :, :12] == official[:, :1, :1, :12]).all() and (
        official[:, :, :, 12:24] == official[:1, :, :1, 12:24]
    ).all()
    assert (official[:, :, :, 24:] == official[:1, :1, :, 24:]).all()
    one = torch.tensor([10000.0 ** (-j / 6) for j in range(6)], dtype=torch.float64)
    torch.testing.assert_close(
        official[2, 0, 0, :12].double(), torch.cat([(2 * one).sin(), (2 * one).cos()]), rtol=0, atol=1e-6
    )
    assert torch.equal(
        sincos_grid(GRID, 36, "official"), sincos_grid(GRID, 36)
    )  # where six divides the width nothing is lost


def test_a_corrected_clip_table_has_whole_parts():
    """Every part is sines and cosines of the same angles, so all positions have one length."""
    for d in (32, 36, 40):
        p = sincos_grid(GRID, d, dtype=torch.float64)
        torch.testing.assert_close(p.square().sum(1), torch.full((60,), d / 2, dtype=torch.float64))


@pytest.mark.parametrize("e", [32, 64, 80, 88])
def test_position_zero_turns_nothing_and_some_channels_never_turn(e):
    s = 2 * (e // 3 // 2)
    for compat in ("correct", "official"):
        table = rope(GRID, e, compat)
        x = torch.randn(60, e)
        turned = rotate(x, table)
        assert torch.equal(turned[0], x[0]) and torch.equal(turned[:, 3 * s :], x[:, 3 * s :])


def test_corrected_scores_depend_on_differences_of_positions_and_norms_are_kept(rng):
    x, y = torch.randn(2, 64, generator=rng, dtype=torch.float64)
    table = rope(GRID, 64).double().reshape(*GRID, 2, 64)
    a = rotate(x, table[0, 0, 0]) @ rotate(y, table[1, 2, 1])
    b = rotate(x, table[1, 1, 3]) @ rotate(y, table[2, 3, 4])
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rotate(x, table).norm(dim=-1), x.norm().expand(GRID), rtol=1e-6, atol=1e-6)


def test_the_published_form_is_no_rotation(rng):
    """Both members of a pair turn by different angles: norms change, and no further than the reference says for width 8."""
    x = torch.randn(4000, 1, 8, generator=rng)
    table = rope((40,), 8, "official")
    ratio = rotate(x, table).norm(dim=-1) / x.norm(dim=-1)
    assert ratio.min() < 0.9 and ratio.max() > 1.1


def test_the_published_form_is_the_published_arithmetic_bit_for_bit(rng):
    """Direct evaluation: tiled angles, neighbours paired; as written in the reference, in float32."""
    e, s = 64, 20
    x = torch.randn(60, e, generator=rng)
    out = x.clone()
    ids = torch.arange(60)
    for axis, place in enumerate((ids // 20, ids % 20 // 5, ids % 5)):
        part = x[:, axis * s : axis * s + s]
        rates = 1.0 / 10000 ** (torch.arange(s // 2, dtype=torch.float32) / (s / 2.0))
        angles = (place[:, None] * rates).repeat(1, 2)
        pairs = part.unflatten(1, (-1, 2))
        turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(1)
        out[:, axis * s : axis * s + s] = part * angles.cos() + turned * angles.sin()
    assert torch.equal(rotate(x, rope(GRID, e, "official")), out)


def test_tokens_keep_their_positions_when_others_are_left_out():
    table = rope(GRID, 32)
    keep = torch.tensor([[3, 59, 7]])
    x = torch.randn(1, 60, 32)
    assert torch.equal(rotate(x, table)[0, keep[0]], rotate(x[0, keep[0]], table[keep[0]]))


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"^sine-cosine positions need a width that is a multiple of 2, found 7$"):
        sincos_grid(GRID, 7)
