"""One symmetry by itself, the units of the channels, crops that are not moved."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

FACTS = Facts(channels=1, shape=(12, 16))
LINE = Spec("views", "lie-line", equation="burgers", time=0.5, length=4.0, projective=0.05, crop=(8, 10))
PLANE = Spec("views", "lie-plane", time=0.5, crop=(2, 8, 8))
NAMES = ("time", "shift", "galilei", "scale", "projective")


def batch(n=3):
    g = torch.Generator().manual_seed(0)
    u = torch.randn(n, 1, 12, 16, generator=g)
    facts = {
        "time": torch.linspace(0, 2, 12).expand(n, -1).double(),
        "x": torch.linspace(0, 3, 16).expand(n, -1).double(),
    }
    return Batch({"image": View(u)}, torch.arange(n), facts=facts)


@pytest.mark.parametrize("use", NAMES)
def test_one_symmetry_leaves_the_other_parameters_at_zero(use):
    g = LINE.change(use=use).build(FACTS)(batch(), 0, 0).views["a"].how["g"]
    moved = [name for k, name in enumerate(NAMES) if bool((g[:, k] != 0).any())]
    assert moved == [use]


def test_none_is_a_crop_alone_and_the_same_crop_as_with_all():
    views, moved = LINE.change(use="none").build(FACTS), LINE.build(FACTS)
    a, b = views(batch(), 5, 1).views["a"], moved(batch(), 5, 1).views["a"]
    assert torch.equal(a.how["start"], b.how["start"])
    t, x = a.how["start"][1].tolist()
    assert torch.equal(a.data[1, 0], batch().views["image"].data[1, 0, t : t + 8, x : x + 10])
    assert not torch.equal(a.data, b.data)


def test_shift_of_the_plane_is_both_axes():
    facts = Facts(channels=3, shape=(4, 8, 8))
    axis = torch.arange(8.0).expand(2, -1).double()
    known = {"time": torch.arange(4.0).expand(2, -1).double(), "x": axis, "y": axis}
    flow = Batch({"image": View(torch.randn(2, 3, 4, 8, 8))}, torch.arange(2), facts=known)
    g = PLANE.change(use="shift").build(facts)(flow, 0, 0).views["a"].how["g"]
    assert (g != 0).any(dim=0).tolist() == [False, True, True, *[False] * 6]


def test_units_divide_the_channels_and_nothing_else():
    raw, scaled = LINE.build(FACTS)(batch(), 0, 0), LINE.change(unit=(2.0, 4.0, 0.5)).build(FACTS)(batch(), 0, 0)
    for name in ("a", "b"):
        expected = raw.views[name].data / torch.tensor([2.0, 4.0, 0.5]).reshape(1, 3, 1, 1)
        torch.testing.assert_close(scaled.views[name].data, expected)
        assert torch.equal(raw.views[name].how["g"], scaled.views[name].how["g"])


def test_a_cut_is_drawn_anew_each_epoch_and_not_moved():
    views = LINE.build(FACTS)
    first, again, later = (views.cut(batch(), 0, epoch).views["image"] for epoch in (0, 0, 1))
    assert torch.equal(first.data, again.data) and not torch.equal(first.how["start"], later.how["start"])
    assert not first.how["g"].any()
    t, x = first.how["start"][0].tolist()
    torch.testing.assert_close(first.data[0, 1, 0], torch.linspace(0, 3, 16)[x : x + 10])
    torch.testing.assert_close(first.data[0, 2, :, 0], torch.linspace(0, 2, 12)[t : t + 8])


def test_a_symmetry_without_strength_is_refused():
    with pytest.raises(RecipeError, match="use: the strength of 'galilei' is 0, so nothing would be moved"):
        LINE.change(use="galilei", galilei=0.0).resolve()
