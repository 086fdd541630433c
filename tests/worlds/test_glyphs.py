"""Glyphs: a function of (seed, split, index), factors that mean what they say, shapes that can be told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.laws import check_source
from tacit.core.random import key, uniform
from tacit.core.spec import Spec
from tacit.worlds.glyphs.drawing import COLUMNS
from tacit.worlds.glyphs.letters import LETTERS, segments

STILL = {
    "x": (0, 0), "y": (0, 0), "scale": (0.6, 0.6), "rotation": (0, 0), "slant": (0, 0), "thickness": (3, 3), "hue": (0, 0),
    "saturation": (1, 1), "value": (1, 1), "background": (0, 0), "gradient": (0, 0), "grain": 0.0,
}  # fmt: skip


def glyphs(**settings):
    return Spec("source", "glyphs", **{"count": 400, **settings}).build()


def only(count=60, **changes):
    """Glyphs of which one factor alone varies."""
    return glyphs(count=count, classes=2, **{**STILL, **changes}).read(range(count))


def ink(batch):
    """How much ink each pixel has [n h w]: the red that `hue` 0 gives."""
    return batch.views["image"].data[:, 0].double() / 255


@pytest.mark.parametrize("settings", [{}, {"size": 20, "classes": 5}, {"split": "test", "seed": 3}])
def test_it_obeys_the_laws_of_a_source(settings):
    check_source(glyphs(**settings))


def test_a_sample_is_a_function_of_seed_split_and_index():
    """The draws are those of core.random, so any of them can be made again elsewhere."""
    batch = glyphs(seed=5).read([7])
    state = key(5, "glyphs", "train", 7)
    assert batch.facts["label"].item() == int(uniform(state, 0) * 26)
    for j, name in enumerate(COLUMNS):
        assert name in batch.facts
        low, high = Spec("source", "glyphs").resolve()[name]
        assert batch.facts[name].item() == pytest.approx(low + (high - low) * uniform(state, 1 + j), rel=1e-6)
    other = glyphs(seed=5, count=4000).read([7])
    assert torch.equal(batch.views["image"].data, other.views["image"].data)  # whatever their number


def test_splits_share_no_picture_and_the_test_split_is_a_quarter():
    train, test = glyphs(), glyphs(split="test")
    assert len(train) == 400 and len(test) == 100
    rows = {x.numpy().tobytes() for x in train.read(range(400)).views["image"].data}
    assert len(rows) == 400 and not rows & {x.numpy().tobytes() for x in test.read(range(100)).views["image"].data}
    assert train.facts == test.facts and train.digest() != test.digest()
    assert glyphs(seed=1).read([0]).facts["x"] != train.read([0]).facts["x"]


def test_every_factor_is_spread_over_its_range_and_independent_of_the_letter():
    batch = glyphs(count=4000).read(range(4000))
    label = batch.facts["label"].double()
    assert len(label.unique()) == 26
    for name in COLUMNS:
        low, high = Spec("source", "glyphs").resolve()[name]
        share = (batch.facts[name].double() - low) / (high - low)
        assert share.min() >= 0 and share.max() <= 1
        assert share.mean().item() == pytest.approx(0.5, abs=0.02) and share.std().item() == pytest.approx(
            12**-0.5, abs=0.01
        )
        assert abs(torch.corrcoef(torch.stack([share, label]))[0, 1]) < 0.06


def centre(weight):
    side = weight.shape[1]
    at = (torch.arange(side) + 0.5) / side * 2 - 1
    total = weight.sum(dim=(1, 2))
    return (weight.sum(1) @ at.double()) / total, (weight.sum(2) @ at.double()) / total


@pytest.mark.parametrize(("name", "which"), [("x", 0), ("y", 1)])
def test_position_moves_the_ink_by_as_much(name, which):
    batch = only(**{name: (-0.25, 0.25)})
    found, label = centre(ink(batch))[which], batch.facts["label"]
    for cls in (0, 1):
        own = found[label == cls] - batch.facts[name][label == cls]
        assert own.std() < 0.02


@pytest.mark.parametrize(("name", "span"), [("scale", (0.4, 0.8)), ("thickness", (1.5, 5.0))])
def test_scale_and_thickness_bring_more_ink(name, span):
    batch = only(**{name: span})
    for cls in (0, 1):
        own = batch.facts["label"] == cls
        pair = torch.stack([ink(batch)[own].sum(dim=(1, 2)), batch.facts[name][own].double()])
        assert torch.corrcoef(pair)[0, 1] > 0.98


def test_rotation_turns_the_letter_clockwise():
    """The stem of an H leans by the angle: the ink's axes turn."""
    still, turned = (glyphs(classes=8, count=400, **{**STILL, "rotation": (angle, angle)}) for angle in (0.0, 90.0))
    batch, other = still.read(range(400)), turned.read(range(400))
    assert torch.equal(batch.facts["label"], other.facts["label"])
    torch.testing.assert_close(ink(batch).rot90(-1, (1, 2)), ink(other), atol=0.02, rtol=0)


def test_hue_saturation_and_value_are_those_of_the_ink():
    import colorsys

    batch = only(hue=(0, 1), saturation=(0.4, 1), value=(0.7, 1), thickness=(6, 6))
    pictures = batch.views["image"].data.double() / 255
    for i in range(20):
        pixels = pictures[i].flatten(1)
        strongest = pixels[:, pixels.sum(dim=0).argmax()]
        hsv = colorsys.rgb_to_hsv(*strongest.tolist())
        assert hsv == pytest.approx([batch.facts[name][i].item() for name in ("hue", "saturation", "value")], abs=0.02)


def test_the_background_is_grey_and_as_bright_as_it_says():
    batch = only(background=(0, 0.4), scale=(0.3, 0.3))
    corner = batch.views["image"].data[:, :, :3, :3].double() / 255
    torch.testing.assert_close(corner.mean(dim=(1, 2, 3)), batch.facts["background"].double(), atol=0.003, rtol=0)
    assert corner.std(dim=1).max() == 0


def test_letters_lie_in_their_square_and_can_be_told_apart():
    lines, begin = segments()
    assert len(begin) == 27 and abs(lines).max() <= 1.1
    source = glyphs(classes=26, count=2000, **STILL)
    batch = source.read(range(2000))
    first = {}
    for i, cls in enumerate(batch.facts["label"].tolist()):
        first.setdefault(cls, ink(batch)[i].flatten())
    shapes = torch.stack([first[cls] for cls in range(26)])
    apart = torch.cdist(shapes, shapes).fill_diagonal_(torch.inf)
    assert apart.min() > 2.0 and source.facts.classes == tuple(LETTERS)


def test_pictures_of_another_size_show_the_same():
    small, large = (glyphs(size=size, count=20, **STILL).read(range(20)) for size in (32, 64))
    halved = torch.nn.functional.avg_pool2d(ink(large)[:, None], 2)[:, 0]
    assert (halved - ink(small)).abs().mean() < 0.03


def test_what_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"sample 400 does not exist: there are 400, from 0 to 399"):
        glyphs().read([400])
    with pytest.raises(UnknownNameError, match="no split named 'valid'"):
        glyphs(split="valid")
    with pytest.raises(RecipeError) as caught:
        glyphs(x=(0.2, -0.2))
    assert str(caught.value).endswith("x: needs (low, high) with low <= high, found (0.2, -0.2): swap them")
    with pytest.raises(RecipeError, match=r"scale: needs positive numbers, found \(0.0, 0.5\)"):
        glyphs(scale=(0.0, 0.5))


def test_reading_is_fast():
    """A batch of 256 takes far less than the step that eats it."""
    import time

    source = glyphs(count=1024)
    source.read(range(4))
    start = time.process_time()
    source.read(np.arange(1024))
    assert time.process_time() - start < 1.0
