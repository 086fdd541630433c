"""Masks: areas, counts, tubes, what the published samplers do exactly, and how rows of unequal length become one array."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.ops import masks
from tacit.ops.masks import KeyStream, TorchStream

CLIP = (8, 16, 16)


class Fixed:
    """A stream that answers what it is told, for the arithmetic of sizes."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def uniform(self):
        return self.numbers.pop(0)

    def below(self, n):
        raise AssertionError("nothing is drawn here but uniform numbers")

    def order(self, n):
        raise AssertionError("nothing is drawn here but uniform numbers")


def rectangle(ids, grid):
    """Top, left, height, width of ids that fill one rectangle exactly."""
    rows, columns = np.divmod(ids, grid[1])
    height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
    assert height * width == len(ids)
    return rows.min(), columns.min(), height, width


@pytest.mark.parametrize(("u", "size"), [(1 / 3, (13, 13)), (1.0, (16, 11)), (0.0, (12, 15))])
def test_the_long_block_of_v_jepa_has_the_published_sizes(u, size):
    """keep = int(256 * 0.7) = 179; aspects 1, 1.5 and 0.75."""
    assert masks.block_3d(Fixed(0.0, 0.0, u), CLIP, (1.0, 1.0), (0.7, 0.7), (0.75, 1.5)) == (8, *size)


def test_one_number_drives_scale_and_aspect_in_i_jepas_own_sampler():
    large = masks.block_2d(Fixed(1.0), (16, 16), (0.15, 0.2), (0.75, 1.5), official=True)
    small = masks.block_2d(Fixed(0.0), (16, 16), (0.15, 0.2), (0.75, 1.5), official=True)
    assert large == (round(math.sqrt(51 * 1.5)), round(math.sqrt(51 / 1.5))) and large[0] > large[1]
    assert small == (round(math.sqrt(38 * 0.75)), round(math.sqrt(38 / 0.75))) and small[0] < small[1]
    assert (
        masks.block_2d(Fixed(1.0, 0.0), (16, 16), (0.15, 0.2), (0.75, 1.5))[0] < large[0]
    )  # the aspect is its own draw


def test_the_context_block_stays_below_the_grid_only_in_the_official_form():
    assert masks.block_2d(Fixed(1.0), (16, 16), (0.85, 1.0), (1.0, 1.0), official=True) == (15, 15)
    assert masks.block_2d(Fixed(1.0, 0.0), (16, 16), (0.85, 1.0), (1.0, 1.0)) == (16, 16)


@pytest.mark.parametrize("official", [True, False])
def test_targets_are_rectangles_and_the_context_holds_none_of_them(official):
    reached = set()
    for i in range(200):
        mask = masks.multi_block_2d(KeyStream(i), (16, 16), (6, 7), (15, 15), official=official)
        for target in mask.targets:
            assert rectangle(target, (16, 16))[2:] == (6, 7)
            assert not set(target) & set(mask.context)
            reached |= set(target.tolist())
        assert len(mask.targets) == 4 and len(mask.context) > 10
    edge = {i for i in range(256) if i // 16 == 15 or i % 16 == 15}
    assert bool(reached & edge) is not official  # the published code reads the upper end as exclusive
    assert reached >= set(range(256)) - edge


def test_a_context_that_cannot_be_is_refused_and_a_tight_one_gives_up_a_target():
    mask = masks.multi_block_2d(KeyStream(0), (4, 4), (4, 4), (4, 4), min_keep=3, targets=2)
    assert set(mask.context) == set(range(16))  # both targets cover all: after 40 failures neither is cut out
    with pytest.raises(
        RecipeError,
        match=r"no block of 2 x 2 tokens on a grid of 4 x 4 keeps more than min_keep=4 tokens: lower min_keep",
    ):
        masks.multi_block_2d(KeyStream(0), (4, 4), (2, 2), (4, 4), min_keep=4)


def test_context_and_target_share_the_clip_and_every_frame_has_one_pattern():
    for i in range(20):
        mask = masks.multi_block_3d(KeyStream(i), CLIP, (8, 6, 6), blocks=8)
        both = np.concatenate([mask.context, *mask.targets])
        assert sorted(both) == list(range(math.prod(CLIP)))
        seen = np.isin(np.arange(math.prod(CLIP)), mask.context).reshape(CLIP)
        assert (seen == seen[0]).all()


def test_a_causal_multi_block_hides_the_end():
    mask = masks.multi_block_3d(KeyStream(1), CLIP, (8, 6, 6), blocks=2, temporal_keep=0.5)
    assert mask.context.max() < 4 * 256 and len(mask.context) + len(mask.targets[0]) == 2048


def test_blocks_that_cover_everything_are_refused():
    with pytest.raises(
        RecipeError, match=r"1 blocks of 8 x 16 x 16 tokens cover the whole grid of 8 x 16 x 16: take fewer or smaller"
    ):
        masks.multi_block_3d(KeyStream(0), CLIP, (8, 16, 16), blocks=1)


def test_the_published_generators_give_the_published_order_of_draws():
    """Sizes: time, area, aspect from one generator; places: top, left, start of each block from another."""
    size, place = torch.Generator().manual_seed(7), torch.Generator().manual_seed(8)
    t, h, w = masks.block_3d(TorchStream(size), CLIP, (1.0, 1.0), (0.15, 0.15), (0.75, 1.5))
    mask = masks.multi_block_3d(TorchStream(place), CLIP, (t, h, w), blocks=3)
    size.manual_seed(7)
    place.manual_seed(8)
    u = [torch.rand(1, generator=size).item() for _ in range(3)]
    aspect = 0.75 + u[2] * 0.75
    assert (h, w) == (round(math.sqrt(38 * aspect)), round(math.sqrt(38 / aspect))) and t == 8
    free = torch.ones(CLIP)
    for _ in range(3):
        top, left, start = (int(torch.randint(0, n, (1,), generator=place)) for n in (17 - h, 17 - w, 9 - t))
        free[start : start + t, top : top + h, left : left + w] = 0
    assert mask.context.tolist() == free.flatten().nonzero()[:, 0].tolist()


@pytest.mark.parametrize("ratio", [0.6, 0.75, 0.9])
def test_counts_are_those_of_the_papers(ratio):
    stream = KeyStream(3)
    assert len(masks.random_tokens(stream, (14, 14), ratio).context) == int(196 * (1 - ratio))
    tube = masks.random_tube(stream, CLIP, ratio)
    assert len(tube.context) == 8 * int(256 * (1 - ratio))
    seen = np.isin(np.arange(2048), tube.context).reshape(8, 256)
    assert (seen == seen[0]).all()
    units = masks.random_units(stream, (12, 12), ratio, 2)
    assert len(units.targets[0]) == 4 * math.ceil(36 * ratio)
    hidden = np.isin(np.arange(144), units.targets[0]).reshape(6, 2, 6, 2)
    assert (hidden == hidden[:, :1, :, :1]).all()
    inverse = masks.inverse_block(stream, (14, 14), ratio)
    assert len(inverse.context) == int(196 * (1 - ratio))


def test_what_stays_visible_of_an_inverse_block_lies_together():
    mask = masks.inverse_block(KeyStream(0), (16, 16), 0.8, 0.1)
    rows, columns = np.divmod(mask.context, 16)
    assert (rows.max() - rows.min() + 1) * (
        columns.max() - columns.min() + 1
    ) <= 81  # the 9 x 9 block it was trimmed from


def test_causal_shows_the_first_tubelets():
    mask = masks.causal((4, 2, 3), 3)
    assert mask.context.tolist() == list(range(18)) and mask.targets[0].tolist() == list(range(18, 24))


def test_cutting_keeps_the_first_ids_a_random_subset_or_all():
    rows = [np.arange(4), np.arange(10, 20), np.arange(30, 37)]
    keys = [1, 2, 3]
    first = masks.truncate(rows, "first", keys)
    assert first.tolist() == [[0, 1, 2, 3], [10, 11, 12, 13], [30, 31, 32, 33]]
    chosen = masks.truncate(rows, "random", keys)
    assert chosen.shape == (3, 4) and all(
        set(a) <= set(b) and sorted(a) == list(a) for a, b in zip(chosen, rows, strict=True)
    )
    assert chosen[1].tolist() != first[1].tolist()
    whole = masks.truncate(rows, "none", keys)
    assert [row[row >= 0].tolist() for row in whole] == [row.tolist() for row in rows]
    with pytest.raises(DataError, match="a mask of this batch is empty: lower the ratio, or choose other blocks"):
        masks.truncate([np.arange(0), np.arange(3)], "random", keys)


def test_keeping_the_first_ids_loses_the_end_of_a_clip_and_a_random_subset_does_not():
    """The bias the reference measured: after the official cut the last tubelet has almost no context left."""
    rows = [masks.multi_block_3d(KeyStream(i), CLIP, (8, 6, 6), blocks=8).context for i in range(24)]
    density = {}
    for how in ("first", "random"):
        frames = masks.truncate(rows, how, list(range(24))) // 256
        density[how] = [(frames == f).mean() * 8 for f in (0, 7)]
    assert density["first"][1] < 0.3 < 1.2 < density["first"][0]
    assert all(0.8 < value < 1.2 for value in density["random"])


def test_a_picture_of_a_mask_darkens_what_is_not_seen():
    images = torch.ones(1, 3, 4, 4)
    seen = torch.tensor([[True, False, False, True]])
    shown = masks.picture(images, seen, (2, 2), shade=0.25)
    assert shown[0, 0].tolist() == [[1, 1, 0.25, 0.25], [1, 1, 0.25, 0.25], [0.25, 0.25, 1, 1], [0.25, 0.25, 1, 1]]
    clip = masks.picture(torch.ones(1, 1, 4, 4, 4), torch.tensor([[True] * 4 + [False] * 4]), (2, 2, 2), shade=0.0)
    assert clip[0, 0].mean(dim=(1, 2)).tolist() == [1, 1, 0, 0]
