"""Views that change with the epoch: each stage by itself, evaluation by the last, and what cannot be is refused."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

FACTS = Facts(channels=1, shape=(4, 16, 16))
STAGES = tuple(
    Spec(
        "views",
        "context-target",
        view=Spec("view", "clip", size=size),
        masks=(Spec("mask", "causal", visible=1),),
        patch=8,
        tubelet=2,
    )
    for size in (8, 16)
)


def staged(**settings):
    return Spec("views", "stages", stages=STAGES, **{"starts": (0, 5), **settings}).resolve().build(FACTS)


def test_every_epoch_has_the_views_of_its_stage():
    batch = Batch({"image": View(torch.randint(0, 256, (3, 1, 4, 16, 16), dtype=torch.uint8))}, torch.arange(3))
    views = staged()
    for epoch, stage in ((0, 0), (4, 0), (5, 1), (99, 1)):
        alone = STAGES[stage].resolve().build(FACTS)(batch, 3, epoch).views["image"]
        found = views(batch, 3, epoch).views["image"]
        assert torch.equal(found.data, alone.data) and torch.equal(found.how["context.0"], alone.how["context.0"])
    assert (
        views.plain(batch).views["image"].data.shape[-1] == 16
        and views.facts.shape == (4, 16, 16)
        and views.names == ("image",)
    )


def test_stages_that_do_not_rise_or_do_not_match_are_refused():
    with pytest.raises(
        RecipeError, match=r"starts: needs one epoch for each of the 2 stages, rising from 0, found \[1, 5\]"
    ):
        staged(starts=(1, 5))
    with pytest.raises(RecipeError, match="frames: 1 for 2 stages: give each its number of frames, or none"):
        staged(frames=(4,))
    pair = Spec("views", "pair", first=Spec("view", "clip", size=8))
    mixed = Spec("views", "stages", stages=(pair, STAGES[1]), starts=(0, 1)).resolve()
    with pytest.raises(DataError, match="one stage makes a, b, the last image: all need the same views"):
        mixed.build(FACTS)
