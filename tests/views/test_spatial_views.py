"""Spatial views are squares of the resized clip where the published protocols put them."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.views.spatial import spatial_views


def test_three_squares_lie_at_both_ends_and_in_the_middle_of_the_long_side():
    clip = torch.rand(3, 2, 8, 12)
    for turned in (False, True):
        seen = spatial_views(clip.transpose(2, 3) if turned else clip, 8, 3)
        seen = seen.transpose(3, 4) if turned else seen
        assert all(torch.equal(seen[i], clip[..., 2 * i : 2 * i + 8]) for i in range(3))


def test_one_square_is_the_centre_of_a_slightly_larger_picture():
    clip = torch.rand(1, 1, 16, 24)
    assert torch.equal(spatial_views(clip, 14, 1)[0], clip[..., 1:15, 5:19])  # int(14 * 256 / 224) = 16
    assert torch.equal(
        spatial_views((255 * clip).round().to(torch.uint8), 14, 1), (255 * clip).round()[None, ..., 1:15, 5:19] / 255
    )


def test_other_numbers_are_refused():
    with pytest.raises(DataError, match="clips are seen in 1 or 3 spatial views, found 2"):
        spatial_views(torch.rand(1, 1, 8, 8), 8, 2)
