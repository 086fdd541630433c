"""Masks over patches: functions of their key, within their bounds, and where they are carried."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Views
from tacit.core.spec import Spec
from tacit.views import masks

IDS = np.arange(400)


def blocks(ids=IDS, grid=(14, 14), share=0.5, ratio=(0.1, 0.5), seed=0, epoch=0, index=0):
    return masks.blocks(ids, grid, share, ratio, seed, epoch, index)


def test_half_of_the_views_are_masked_by_a_tenth_to_a_half_of_their_patches():
    hidden = blocks().mean(axis=1)
    masked = hidden[hidden > 0]
    assert 0.43 < len(masked) / len(IDS) < 0.57
    assert masked.max() <= 0.5 and 0.24 < masked.mean() < 0.36 and masked.std() > 0.08
    assert not blocks(share=0.0).any()


def test_blocks_are_blocks():
    """Nearly every hidden patch has a hidden neighbour beside it and one above or below; scattered ones would not."""
    one = blocks(share=1.0, ratio=(0.3, 0.3)).reshape(-1, 14, 14)
    padded = np.pad(one, ((0, 0), (1, 1), (1, 1)))
    beside = padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]
    assert beside[one].mean() > 0.8


@pytest.mark.parametrize(
    "draw", [blocks, lambda **k: masks.scattered(**{**KEEP, **k}), lambda **k: masks.focal(**{**KEEP, **k})]
)
def test_a_mask_is_a_function_of_seed_epoch_sample_and_view(draw):
    whole = draw(ids=IDS)
    assert np.array_equal(draw(ids=IDS[::-1].copy())[::-1], whole)
    assert np.array_equal(draw(ids=IDS[5:9]), whole[5:9])
    for other in ({"seed": 1}, {"epoch": 1}, {"index": 2}):
        assert not np.array_equal(draw(ids=IDS, **other), whole)


KEEP = {"ids": IDS, "grid": (4, 6), "ratio": 0.5, "seed": 0, "epoch": 0, "index": 1}


def test_scattered_patches_are_each_as_likely_and_in_order():
    keep = masks.scattered(**KEEP)
    assert keep.shape == (400, 12) and (np.diff(keep, axis=1) > 0).all() and keep.min() >= 0 and keep.max() < 24
    counts = np.bincount(keep.flatten(), minlength=24) / 400
    assert (abs(counts - 0.5) < 0.12).all()
    assert masks.scattered(**{**KEEP, "grid": (14, 14), "ratio": 0.15}).shape[1] == 166  # floor(196 * 0.85)


def test_a_focal_mask_leaves_one_rectangle():
    keep = masks.focal(**{**KEEP, "ratio": 0.75})
    assert keep.shape == (400, 6)
    rows, columns = keep // 6, keep % 6
    assert (np.ptp(rows, axis=1) == 1).all() and (np.ptp(columns, axis=1) == 2).all()
    assert set(rows.min(axis=1)) == {0, 1, 2} and set(columns.min(axis=1)) == {0, 1, 2, 3}


GREY = Spec("view", "image", size=16, saturation=0.0, hue=0.0, grey=0.0, blur=0.0)


def build(**settings):
    source = Spec("source", "digits").build()
    return Spec("views", "masked", first=GREY, patch=4, **settings).build(source.facts), source


def test_blocks_are_recorded_with_the_large_views():
    views, source = build(local=GREY.change(size=8), locals=2)
    assert isinstance(views, Views) and views.names == ("a", "b", "local0", "local1")
    made = views(source.read(range(20)), 0, 0)
    for index, name in enumerate("ab"):
        expected = masks.blocks(made.ids.numpy(), (4, 4), 0.5, (0.1, 0.5), 0, 0, index)
        assert torch.equal(made.views[name].how["mask"], torch.from_numpy(expected)) and made.views[name].keep is None
    assert "mask" not in made.views["local0"].how and made.views["local0"].data.shape == (20, 1, 8, 8)
    pair = Spec("views", "pair", first=GREY).build(source.facts)(source.read(range(20)), 0, 0)
    assert torch.equal(pair.views["b"].data, made.views["b"].data)  # the pictures are those of the pair


@pytest.mark.parametrize("kind", ["scattered", "focal"])
def test_visible_patches_go_with_the_second_view_alone(kind):
    views, source = build(masks=kind, ratio=(0.25, 0.25))
    made = views(source.read(range(5)), 3, 2)
    draw = masks.scattered if kind == "scattered" else masks.focal
    expected = draw(made.ids.numpy(), (4, 4), 0.25, 3, 2, 1)
    assert torch.equal(made.views["b"].keep, torch.from_numpy(expected)) and made.views["a"].keep is None
    assert views.plain(source.read([0])).views["image"].keep is None


REFUSED = {
    "ratio: needs (low, high) with low <= high, found (0.5, 0.1): swap them": {"ratio": (0.5, 0.1)},
    "ratio: masks 'focal' leave out as many patches of every sample, found (0.1, 0.5): give one number twice, for example (0.1, 0.1)": {
        "masks": "focal"
    },
    "local: 2 small views are asked for and none is described: set local, or locals=0": {"locals": 2},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_settings_that_do_not_fit_are_refused(sentence):
    with pytest.raises(RecipeError) as caught:
        build(**REFUSED[sentence])
    assert str(caught.value).endswith(sentence)


def test_views_that_do_not_divide_into_patches_are_refused():
    source = Spec("source", "digits").build()
    with pytest.raises(DataError) as caught:
        Spec("views", "masked", first=GREY, patch=5).build(source.facts)
    assert str(caught.value) == (
        "views 'masked' hide patches of 5 pixels, which do not divide views of 16 x 16: choose another size or patch"
    )
