"""Views with masks, and clips."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

IMAGES = Facts(channels=1, shape=(32, 32), mean=(0.5,), std=(0.25,))
CLIPS = Facts(channels=1, shape=(8, 32, 32), mean=(0.5,), std=(0.25,))
PLAIN = {"jitter": 0.0, "saturation": 0.0, "hue": 0.0, "grey": 0.0, "blur": 0.0}
KINDS = {
    "multi-block": (IMAGES, {"compat": "correct"}),
    "multi-block official": (IMAGES, {"compat": "official"}),
    "random": (IMAGES, {"ratio": 0.75}),
    "inverse-block": (IMAGES, {}),
    "multi-block-3d": (CLIPS, {}),
    "multi-block-3d official": (CLIPS, {"compat": "official"}),
    "random-tube": (CLIPS, {"ratio": 0.8}),
    "causal": (CLIPS, {"visible": 2}),
}


def views(facts, *masks, **settings):
    tubelet = 2 if len(facts.shape) == 3 else None
    view = Spec("view", "clip", size=32) if tubelet else Spec("view", "image", size=32, **PLAIN)
    settings = {"view": view, "masks": masks, "patch": 2 if not tubelet else 4, "tubelet": tubelet, **settings}
    return Spec("views", "context-target", **settings).resolve().build(facts)


def batch(facts, n=5, first=0):
    raw = torch.randint(0, 256, (n, 1, *facts.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch({"image": View(raw)}, torch.arange(first, first + n))


@pytest.mark.parametrize("name", KINDS)
def test_context_and_targets_are_ids_of_the_grid_without_a_common_one(name):
    facts, settings = KINDS[name]
    made = views(facts, Spec("mask", name.partition(" ")[0], **settings))
    how = made(batch(facts), 3, 1).views["image"].how
    total = 256
    for context, target, hidden in zip(how["context.0"], how["target.0"], how["hidden.0"], strict=True):
        assert 0 < len(context) == len(set(context.tolist())) and context.min() >= 0 and context.max() < total
        assert not set(context.tolist()) & set(target.flatten().tolist())
        assert not hidden[context].any() and hidden.shape == (total,)
        assert (context.diff() > 0).all() and (target.diff(dim=1) > 0).all()


@pytest.mark.parametrize("name", [name for name in KINDS if "official" not in name])
def test_a_mask_is_a_function_of_seed_epoch_and_sample(name):
    facts, settings = KINDS[name]
    made = views(facts, Spec("mask", name, **settings), truncate="none")
    ids = torch.tensor([4, 0, 2])
    whole, some = made.masks(torch.arange(5), 3, 1), made.masks(ids, 3, 1)
    for key in ("context.0", "target.0"):
        for row, one in enumerate(ids.tolist()):
            a, b = some[key][row].flatten(), whole[key][one].flatten()
            assert a[a >= 0].tolist() == b[b >= 0].tolist()
    other = made.masks(torch.arange(5), 3, 2)
    assert name == "causal" or not all(
        torch.equal(other[key], whole[key]) for key in whole if other[key].shape == whole[key].shape
    )


def test_copies_draw_again_and_several_kinds_stand_side_by_side():
    made = views(CLIPS, Spec("mask", "random-tube", ratio=0.5), Spec("mask", "causal"), copies=2)
    how = made.masks(torch.arange(4), 0, 0)
    assert {f"context.{i}" for i in range(4)} <= set(how)
    assert not torch.equal(how["context.0"], how["context.1"]) and torch.equal(how["context.2"], how["context.3"])


def test_without_a_cut_the_lengths_are_told():
    how = views(IMAGES, Spec("mask", "multi-block"), truncate="none").masks(torch.arange(6), 0, 0)
    assert how["lengths.0"].shape == (6, 5)
    assert torch.equal((how["context.0"] >= 0).sum(1), how["lengths.0"][:, 0])
    assert torch.equal((how["target.0"] >= 0).sum(2), how["lengths.0"][:, 1:])


def test_the_evaluation_view_has_no_masks():
    made = views(CLIPS, Spec("mask", "causal"))
    plain = made.plain(batch(CLIPS)).views["image"]
    assert plain.how == {} and plain.data.shape == (5, 1, 8, 32, 32)
    torch.testing.assert_close(plain.data, (batch(CLIPS).views["image"].data / 255 - 0.5) / 0.25)


def test_masks_for_the_other_kind_of_samples_are_refused():
    with pytest.raises(
        RecipeError, match="mask 'multi-block' is made for images, the samples are clips: choose another kind"
    ):
        views(CLIPS, Spec("mask", "multi-block"))
    with pytest.raises(RecipeError, match="mask 'causal' is made for clips, the samples are images"):
        views(IMAGES, Spec("mask", "causal"))
    with pytest.raises(RecipeError, match=r"tokens of 5 x 5 do not divide samples of 32 x 32: choose another size"):
        views(IMAGES, Spec("mask", "random"), patch=5)
    with pytest.raises(RecipeError, match="with tubelet=None need images of one size after the view"):
        views(CLIPS, Spec("mask", "causal"), tubelet=None)
    with pytest.raises(RecipeError, match="leaves nothing to predict: take fewer"):
        views(CLIPS, Spec("mask", "causal", visible=4))
    with pytest.raises(
        RecipeError, match=r"ratio=0.999 of 256 tokens leaves 0 of them visible: some must be seen and some hidden"
    ):
        views(IMAGES, Spec("mask", "random", ratio=0.999))
    with pytest.raises(RecipeError, match="needs at least one kind of mask"):
        views(IMAGES)
    with pytest.raises(
        RecipeError, match=r"scale: needs \(low, high\) with low <= high, found \(0.5, 0.2\): swap them"
    ):
        views(IMAGES, Spec("mask", "multi-block", scale=(0.5, 0.2)))


def test_all_frames_of_a_clip_are_cropped_and_mirrored_alike():
    """Frame f of the view of a clip is the view of a clip of that frame alone."""
    view = Spec("view", "clip", size=16).resolve().build(CLIPS)
    made = batch(CLIPS)
    raw = made.views["image"].data
    whole = view(raw, made.ids, 1, 0, 0)
    frame = view(raw[:, :, 3:4], made.ids, 1, 0, 0)
    torch.testing.assert_close(whole.data[:, :, 3:4], frame.data)
    assert set(whole.how) == {"box", "flip"} and torch.equal(view.apply(raw, whole.how), whole.data)
    assert view.facts.shape == (8, 16, 16)


@pytest.mark.parametrize("size", [16, 72])
def test_pixels_are_those_of_floats_first_to_the_last_bit_and_floats_get_a_gradient(size):
    """One pass over the bytes: whole floats first, then the crop, torch's resizing and the mirror give the same."""
    view = (
        Spec("view", "clip", size=size, flip=0.5)
        .resolve()
        .build(replace(CLIPS, channels=2, mean=(0.5, 0.4), std=(0.25, 0.2)))
    )
    raw = torch.randint(0, 256, (5, 2, 3, 90, 80), dtype=torch.uint8)
    how = view(raw, torch.arange(5), 3, 0, 0).how
    how = {
        **how,
        "box": torch.cat([how["box"][:-1], torch.tensor([[2, 3, size, size]])]),
    }  # the last one is not resized
    mean, std = torch.tensor([0.5, 0.4])[:, None, None, None], torch.tensor([0.25, 0.2])[:, None, None, None]
    wanted = []
    for clip, (top, left, height, width), flip in zip(
        raw.float() / 255, how["box"].tolist(), how["flip"].tolist(), strict=True
    ):
        one = clip[:, :, top : top + height, left : left + width]
        if (height, width) != (size, size):
            one = torch.nn.functional.interpolate(one, size=(size, size), mode="bilinear", align_corners=False)
        wanted.append((one.flip(-1) if flip else one).sub(mean).div(std))
    assert how["flip"].any()
    torch.testing.assert_close(view.apply(raw, how), torch.stack(wanted), rtol=0, atol=2e-6)
    floats = (raw.float() / 255).requires_grad_()
    seen = view.apply(floats, how)
    assert torch.equal(seen, torch.stack(wanted))
    seen.sum().backward()
    assert floats.grad is not None and floats.grad.any()


def test_a_whole_clip_of_its_own_size_is_left_as_it_is():
    view = Spec("view", "clip", size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0).resolve().build(CLIPS)
    made = batch(CLIPS)
    data = view(made.views["image"].data, made.ids, 1, 0, 0).data
    torch.testing.assert_close(data, (made.views["image"].data / 255 - 0.5) / 0.25)


def test_the_evaluation_view_of_a_wide_clip_is_its_centre():
    view = Spec("view", "clip", size=8).resolve().build(Facts(channels=1))
    clip = torch.zeros(1, 2, 8, 20, dtype=torch.uint8)
    clip[..., 6:14] = 255
    assert (view.plain([clip], 1.0) == 1).all()


def test_images_are_refused_as_clips():
    with pytest.raises(
        DataError,
        match=r"view 'clip' needs clips \[channels frames height width\], the samples have the shape \[32, 32\]",
    ):
        Spec("view", "clip", size=16).resolve().build(IMAGES)
    view = Spec("view", "clip", size=16).resolve().build(CLIPS)
    with pytest.raises(
        DataError,
        match=r"needs clips of 1 channels \[c frames h w\], found the shape \[3, 8, 32, 32\]: put channels first",
    ):
        view.plain(torch.zeros(2, 3, 8, 32, 32), 1.0)
