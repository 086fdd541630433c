"""Groups of views: names, independence of the views, settings of published recipes, refusals."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Views
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

FACTS = Facts(channels=3, shape=(20, 20), classes=("x", "y"), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
SMALL = Spec("view", "image", size=12)
STILL = Spec(
    "view", "image", size=20, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0
)  # fmt: skip


def batch(n=5):
    data = torch.randint(0, 256, (n, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch({"image": View(data)}, torch.arange(n), facts={"label": torch.arange(n)})


def test_a_pair_satisfies_the_contract_and_records_its_parameters():
    pair = Spec("views", "pair", first=SMALL).build(FACTS)
    assert isinstance(pair, Views) and pair.names == ("a", "b")
    assert pair.facts.shape == (12, 12) and pair.facts.classes == FACTS.classes
    made = pair(batch(), seed=0, epoch=0)
    assert tuple(made.views) == ("a", "b") and torch.equal(made.facts["label"], torch.arange(5))
    assert torch.equal(made.ids, torch.arange(5))
    for view in made.views.values():
        assert view.data.shape == (5, 3, 12, 12) and view.data.dtype == torch.float32
        assert view.how["box"].shape == (5, 4)
    assert not torch.equal(made.views["a"].data, made.views["b"].data)  # one part, two draws


def test_the_same_place_gives_the_same_views_and_another_epoch_others():
    pair = Spec("views", "pair", first=SMALL).build(FACTS)
    one, two, later = pair(batch(), 1, 4), pair(batch(), 1, 4), pair(batch(), 1, 5)
    for name in ("a", "b"):
        assert torch.equal(one.views[name].data, two.views[name].data)
        assert not torch.equal(one.views[name].data, later.views[name].data)


def test_a_part_of_the_batch_gives_a_part_of_the_views():
    pair, whole = Spec("views", "pair", first=SMALL).build(FACTS), batch()
    half = Batch({"image": View(whole.views["image"].data[2:])}, whole.ids[2:])
    assert torch.equal(pair(half, 0, 0).views["b"].data, pair(whole, 0, 0).views["b"].data[2:])


def test_unlike_views_keep_their_own_settings():
    second = SMALL.change(solarise=1.0, grey=1.0)
    made = Spec("views", "pair", first=SMALL, second=second).build(FACTS)(batch(), 0, 0)
    assert made.views["b"].how["solarise"].all() and not made.views["a"].how["solarise"].any()
    assert made.views["b"].how["grey"].all()


def test_still_views_are_the_normalised_picture_and_so_is_the_plain_one():
    pair = Spec("views", "pair", first=STILL).build(FACTS)
    expected = (batch().views["image"].data.float() / 255 - 0.5) / 0.25
    made, plain = pair(batch(), 0, 0), pair.plain(batch())
    assert tuple(plain.views) == ("image",) and torch.equal(plain.facts["label"], torch.arange(5))
    for view in (made.views["a"], made.views["b"], plain.views["image"]):
        torch.testing.assert_close(view.data, expected, rtol=0, atol=1e-6)


def test_multi_crop_makes_two_large_and_many_small_views():
    local = SMALL.change(size=8, scale=(0.05, 0.14))
    crops = Spec("views", "multi-crop", first=SMALL.change(scale=(0.14, 1.0)), local=local, locals=3).build(FACTS)
    assert isinstance(crops, Views) and crops.names == ("a", "b", "local0", "local1", "local2")
    assert crops.facts.shape == (12, 12)
    made = crops(batch(), 0, 0)
    assert [view.data.shape[-1] for view in made.views.values()] == [12, 12, 8, 8, 8]
    small = [made.views[f"local{i}"].data for i in range(3)]
    assert not torch.equal(small[0], small[1]) and not torch.equal(small[1], small[2])
    pair = Spec("views", "pair", first=SMALL.change(scale=(0.14, 1.0))).build(FACTS)(batch(), 0, 0)
    assert torch.equal(pair.views["b"].data, made.views["b"].data)  # adding local views changes no large one


def test_ragged_batches_are_made_alike():
    images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((30, 40), (64, 20), (11, 11))]
    ragged = Batch({"image": View(images)}, torch.arange(3))
    pair = Spec("views", "pair", first=SMALL).build(FACTS)
    assert pair(ragged, 0, 0).views["a"].data.shape == (3, 3, 12, 12)
    assert pair.plain(ragged).views["image"].data.shape == (3, 3, 12, 12)


@pytest.mark.parametrize("kind", ["pair", "multi-crop"])
def test_two_sizes_in_one_pair_are_refused(kind):
    more = {"local": SMALL} if kind == "multi-crop" else {}
    with pytest.raises(RecipeError) as error:
        Spec("views", kind, first=SMALL, second=SMALL.change(size=14), **more).resolve()
    assert str(error.value) == (
        "views: second.size: 'a' and 'b' go through one encoder and need one size, found 12 and 14: set both alike"
    )


def test_a_batch_without_raw_pictures_is_refused():
    pair = Spec("views", "pair", first=SMALL).build(FACTS)
    with pytest.raises(DataError) as error:
        pair(pair(batch(), 0, 0), 0, 0)
    assert str(error.value) == (
        "views are made from the raw view 'image', this batch has a, b: pass the batch as the source reads it"
    )
