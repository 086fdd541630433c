"""Pictures: what goes in is what is seen."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tacit.reports import unnormalise
from tacit.reports.pictures import pictures


def decoded(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_small_pictures_grow_by_nearest_neighbour_without_new_values():
    x = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    for image, uri in zip(x, pictures(x).uris, strict=True):
        np.testing.assert_array_equal(decoded(uri), image[0].repeat(8, 0).repeat(8, 1))


def test_numpy_torch_bytes_and_floats_give_the_same_picture():
    x = np.random.default_rng(1).integers(0, 256, (2, 3, 70, 90), dtype=np.uint8)
    wanted = pictures(x).uris
    assert pictures(torch.from_numpy(x)).uris == wanted
    assert pictures(x.astype(np.float64) / 255).uris == wanted
    assert pictures(torch.from_numpy(x).float().div(255).requires_grad_()).uris == wanted
    np.testing.assert_array_equal(decoded(wanted[0]), x[0].transpose(1, 2, 0))


def test_bfloat16_and_lists_of_different_sizes():
    shown = pictures([torch.zeros(3, 70, 90, dtype=torch.bfloat16), torch.ones(1, 80, 100)])
    assert [decoded(uri).shape for uri in shown.uris] == [(70, 90, 3), (80, 100)]


def test_other_channel_counts_are_shown_with_a_remark():
    rgb = np.random.default_rng(2).random((1, 3, 64, 64))
    shown = pictures(np.concatenate([rgb, np.zeros((1, 2, 64, 64))], axis=1))
    assert shown.uris == pictures(rgb).uris
    assert shown.remarks == ("Of 5 channels the first three are shown.",)
    two = pictures(np.stack([np.zeros((1, 64, 64)), np.ones((1, 64, 64))], axis=1))
    assert decoded(two.uris[0]).shape == (64, 64) and set(decoded(two.uris[0]).flat) == {128}
    assert two.remarks == ("Pictures of two channels show their mean.",)


def test_floats_outside_the_unit_range_are_stretched_over_all_pictures_with_a_remark():
    x = np.stack([np.full((1, 64, 64), v) for v in (-2.0, 0.0, 2.0)])
    shown = pictures(x)
    assert [int(decoded(uri)[0, 0]) for uri in shown.uris] == [0, 128, 255]
    assert shown.remarks == ("Values from -2 to 2 are stretched to black and white.",)
    assert pictures(np.clip(x, 0, 1)).remarks == ()


def test_values_that_are_not_finite_do_not_break_a_picture():
    x = np.full((1, 1, 64, 64), np.nan)
    x[..., 0, 0], x[..., 0, 1] = np.inf, 0.5
    assert [int(v) for v in decoded(pictures(x).uris[0])[0, :3]] == [255, 128, 0]


def test_large_pictures_shrink_and_keep_their_mean():
    x = np.random.default_rng(3).random((1, 1, 512, 256))
    small = decoded(pictures(x).uris[0])
    assert small.shape == (128, 64)
    assert abs(small.mean() / 255 - x.mean()) < 0.01  # box averages, rounded to 1/255


def test_normalisation_is_undone():
    x = torch.rand(4, 3, 5, 5)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    m, s = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
    np.testing.assert_allclose(unnormalise((x - m) / s, mean, std), x.numpy(), atol=1e-6)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"pictures are \[n c h w\], channels first; found one of shape \[8, 8\]\."):
        pictures(np.zeros((2, 8, 8)))
    with pytest.raises(
        ValueError, match=r"pictures are uint8 \(0\.\.255\) or float \(0\.\.1\); found int64\. Convert them first\."
    ):
        pictures(np.zeros((2, 1, 8, 8), dtype=np.int64))
