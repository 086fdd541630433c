"""Sources mixed by weight, and sources one after the other: shares, coverage, and a function of (seed, epoch)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec

CLIPS = [Spec("source", "clips", count=n, frames=4, side=24, shapes=1, seed=n) for n in (10, 30)]


def mixed(*sources, **settings):
    return Spec("source", "mixture", sources=sources, **settings).resolve().build()


def test_shares_are_exact_and_every_sample_comes_once_before_any_comes_twice():
    source = mixed(*CLIPS, weights=(1.0, 3.0), count=20)
    seen = Counter()
    for epoch in range(6):
        now = source.at(5, epoch)
        places = [now.place(i) for i in range(20)]
        assert Counter(at for at, _ in places) == {0: 5, 1: 15}
        seen.update(places)
        for at, n in ((0, 10), (1, 30)):
            counts = [seen[at, j] for j in range(n)]
            assert max(counts) - min(counts) <= 1
    assert [source.at(5, 3).place(i) for i in range(20)] == [
        mixed(*CLIPS, weights=(1, 3), count=20).at(5, 3).place(i) for i in range(20)
    ]
    assert [source.at(5, 3).place(i) for i in range(20)] != [source.at(6, 3).place(i) for i in range(20)]


def test_replacement_draws_by_weight():
    source = mixed(*CLIPS, weights=(0.2, 0.8), count=2000, draw="replacement").at(0, 0)
    places = [source.place(i) for i in range(2000)]
    assert np.mean([at for at, _ in places]) == pytest.approx(0.8, abs=4 * (0.16 / 2000) ** 0.5)
    assert len({j for at, j in places if at == 1}) == 30


def test_samples_are_those_of_their_source_and_ids_never_meet():
    source = mixed(*CLIPS, weights=(1.0, 1.0), count=8)
    batch = source.read(range(8))
    assert batch.facts["source"].tolist() == [0] * 4 + [1] * 4 and len(set(batch.ids.tolist())) == 8
    at, j = source.place(6)
    one = CLIPS[at].build().read([j])
    assert (batch.views["image"].data[6] == one.views["image"].data[0]).all() and batch.facts["label"][6] == one.facts[
        "label"
    ][0]
    assert batch.ids[6] - (at << 48) == j and source.facts.shape == (4, 24, 24)


def test_images_stand_still_for_as_many_frames_as_the_clips_have(write, tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", i, (24, 24), "L")
    source = mixed(CLIPS[0], Spec("source", "folder", path=str(tmp_path)), weights=(0.5, 0.5), count=4)
    assert source.facts.frames == 4 and source.facts.classes == ()
    still = source.read([3]).views["image"].data[0]
    assert still.shape == (1, 4, 24, 24) and (still == still[:, :1]).all()


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(RecipeError, match="weights: 1 for 2 sources: give each source one weight"):
        mixed(*CLIPS, weights=(1.0,))
    with pytest.raises(DataError, match="have clips of 4 and 6 frames and 1 channels: give all of them the same"):
        mixed(CLIPS[0], CLIPS[1].change(frames=6), weights=(1.0, 1.0))


def test_stages_read_the_source_of_their_epoch():
    short, long = CLIPS[0], CLIPS[0].change(frames=8)
    source = Spec("source", "stages", sources=(short, long), starts=(0, 3)).resolve().build()
    lengths = [source.at(0, epoch).read([1]).views["image"].data.shape[2] for epoch in range(5)]
    assert lengths == [4, 4, 4, 8, 8] and source.read([0]).views["image"].data.shape[2] == 8 and len(source) == 10
    with pytest.raises(
        RecipeError, match=r"starts: needs one epoch for each of the 2 sources, rising from 0, found \[0, 0\]"
    ):
        Spec("source", "stages", sources=(short, long), starts=(0, 0)).resolve()
    with pytest.raises(DataError, match="its sources have 10 and 30 samples: epochs need the same number"):
        Spec("source", "stages", sources=CLIPS, starts=(0, 1)).build()
