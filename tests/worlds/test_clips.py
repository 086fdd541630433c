"""Generated clips: what is said of them is true of their pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.laws import check_source
from tacit.core.spec import Spec
from tacit.worlds.clips.drawing import SHAPES
from tacit.worlds.clips.source import DIRECTIONS, ClipSource


def test_it_obeys_the_laws_of_sources():
    check_source(ClipSource(count=50))
    check_source(ClipSource(count=20, frames=4, side=24, channels=3, shapes=0, label="identity", split="test"))


def test_the_digit_moves_as_is_said():
    """Without shapes the centre of light moves by speed pixels a frame in the named direction."""
    batch = ClipSource(count=64, shapes=0).read(range(64))
    clips = batch.views["image"].data[:, 0].double()
    light = (clips - clips.flatten(1).median(dim=1).values[:, None, None, None]).abs()
    rows = torch.arange(32).double() + 0.5
    mass = light.sum(dim=(2, 3))
    y, x = (light.sum(dim=3) @ rows) / mass, (light.sum(dim=2) @ rows) / mass
    moved = torch.stack([y[:, -1] - y[:, 0], x[:, -1] - x[:, 0]], dim=1) / 7
    turn = batch.facts["direction"] * (math.pi / 4)
    expected = batch.facts["speed"][:, None] * torch.stack([turn.sin(), turn.cos()], dim=1)
    assert DIRECTIONS[2] == "down" and DIRECTIONS[0] == "right"
    torch.testing.assert_close(moved, expected.double(), rtol=0, atol=0.05)


def test_where_the_digit_starts_does_not_tell_where_it_goes():
    """The middle of its way has the same law for every direction."""
    facts = ClipSource(count=3000).read(range(3000)).facts
    turn = facts["direction"] * (math.pi / 4)
    middle = facts["position"] + 3.5 * facts["speed"][:, None] * torch.stack([turn.sin(), turn.cos()], dim=1)
    for direction in range(8):
        assert (middle[facts["direction"] == direction].mean(dim=0) - 16).abs().max() < 1.0


def test_objects_are_brighter_or_darker_than_the_ground():
    clips = ClipSource(count=400, shapes=0).read(range(400)).views["image"].data.double()
    ground = clips.flatten(1).median(dim=1).values
    sign = (clips.flatten(1).mean(dim=1) - ground).sign()
    assert abs(float((sign > 0).double().mean()) - 0.5) < 0.1


def test_a_ground_of_one_grey_changes_nothing_but_the_greys():
    """Objects keep their places and their contrast to the ground."""
    one, many = (ClipSource(count=50, shapes=1, **more).read(range(50)) for more in ({"ground": (0.5, 0.5)}, {}))
    clips, others = (batch.views["image"].data.double().flatten(1) for batch in (one, many))
    assert (clips.median(dim=1).values == 128).all() and others.median(dim=1).values.std() > 15
    centred, theirs = (x - x.median(dim=1, keepdim=True).values for x in (clips, others))
    assert (centred - theirs).abs().max() <= 1.5  # rounding to bytes
    with pytest.raises(
        RecipeError, match=r"ground: needs \(low, high\) with low <= high, found \(0.6, 0.4\): swap them"
    ):
        Spec("source", "clips", ground=(0.6, 0.4)).resolve()


def test_facts_are_spread_evenly_and_independent():
    facts = ClipSource(count=4000).read(range(4000)).facts
    for name, classes in (("direction", 8), ("identity", 10), ("count", 3)):
        share = torch.bincount(facts[name], minlength=classes) / 4000
        assert (share - 1 / classes).abs().max() < 0.03
    together = torch.bincount(facts["direction"] * 10 + facts["identity"], minlength=80) / 4000
    assert (together - 1 / 80).abs().max() < 0.01


def test_the_digit_stays_in_the_picture_and_shapes_are_counted():
    source = ClipSource(count=200, side=24, speed=(3.0, 3.0))
    facts = source.read(range(200)).facts
    turn = facts["direction"] * (math.pi / 4)
    last = facts["position"] + 7 * facts["speed"][:, None] * torch.stack([turn.sin(), turn.cos()], dim=1)
    for place in (facts["position"], last):
        assert (place > 0.22 * 24).all() and (place < 24 - 0.22 * 24).all()
    empty = ClipSource(count=200, shapes=0).read(range(200))
    assert (empty.facts["count"] == 0).all()


def test_a_shape_turns_back_at_the_edge():
    from tacit.worlds.clips.drawing import draw

    out = np.zeros((1, 40, 24, 24), np.uint8)
    kind, radius, light = np.array([[1]]), np.array([[3.0]]), np.array([[1.0]])
    draw(
        np.array([[[12.0, 12.0]]]), np.array([[[0.0, 1.5]]]), kind, radius, light, np.zeros((1, 8, 8)), np.zeros(1), out
    )
    columns = (out[0].astype(float).sum(axis=1) @ (np.arange(24) + 0.5)) / out[0].sum(axis=(1, 2))
    assert columns.max() <= 21.1 and columns.min() >= 2.9
    assert columns[24] == pytest.approx(12.0, abs=0.05)  # there and back: two ways of 18 pixels at 1.5 a frame


def test_splits_share_no_scan():
    from tacit.worlds.clips.source import _scans

    scans = _scans()
    for digit in range(10):
        train, test = ({scan.tobytes() for scan in scans[split][digit]} for split in ("train", "test"))
        assert len(train & test) <= 0.02 * len(test)  # the data hold a few equal scans
    assert sum(map(len, scans["test"])) == pytest.approx(1797 / 5, rel=0.05)


def test_a_large_shape_moves_where_the_digit_did():
    """The same places and greys, five kinds told by the pixels about the middle, and none of the digits."""
    digits, shapes = (
        Spec("source", "clips", count=300, shapes=0, side=24, moves=moves, label="identity").resolve().build()
        for moves in ("digit", "shape")
    )
    a, b = digits.read(range(300)), shapes.read(range(300))
    assert torch.equal(a.facts["position"], b.facts["position"]) and torch.equal(
        a.facts["direction"], b.facts["direction"]
    )
    assert shapes.facts.classes == SHAPES and set(b.facts["label"].tolist()) == set(range(5))
    assert digits.digest() != shapes.digest()
    rows, columns = (b.facts["position"][:, axis].long() for axis in (0, 1))
    frames = b.views["image"].data[:, 0, 0]
    middle, ground = frames[torch.arange(300), rows, columns], frames.flatten(1).mode(dim=1).values
    assert torch.equal(middle == ground, b.facts["label"] == SHAPES.index("ring"))  # a ring alone is open in the middle


def test_the_label_is_the_fact_that_was_asked_for():
    for label in ("direction", "identity", "count"):
        batch = ClipSource(count=20, label=label).read(range(20))
        assert torch.equal(batch.facts["label"], batch.facts[label])
    assert ClipSource(label="identity").digest() != ClipSource().digest()


def test_what_is_not_there_is_refused():
    with pytest.raises(UnknownNameError, match="no split named 'valid'"):
        ClipSource(split="valid")
    with pytest.raises(DataError, match=r"sample 20 does not exist: there are 20, from 0 to 19"):
        ClipSource(count=20).read([20])
    with pytest.raises(DataError, match="draws at most 8 shapes beside the digit, found shapes=9: take fewer"):
        ClipSource(shapes=9)
