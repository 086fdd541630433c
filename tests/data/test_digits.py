"""The embedded digits: fixed, stratified, the same numbers everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tacit.core.errors import UnknownNameError
from tacit.core.laws import check_source
from tacit.data.digits import DigitsSource


def test_laws():
    for split in ("train", "test", "all"):
        check_source(DigitsSource(split=split))


def test_splits_share_nothing_and_miss_nothing():
    train, test, whole = (DigitsSource(split=split) for split in ("train", "test", "all"))
    assert (len(train), len(test), len(whole)) == (1438, 359, 1797)
    assert sorted([*train.ids, *test.ids]) == whole.ids.tolist() == list(range(1797))


def test_each_class_gives_a_fifth():
    labels = DigitsSource(split="all").labels
    test = np.bincount(DigitsSource(split="test").labels)
    assert np.abs(test - np.bincount(labels) / 5).max() <= 0.5


def test_the_split_never_moves():
    assert DigitsSource(split="test").ids[:8].tolist() == [16, 20, 22, 26, 31, 36, 37, 42]


def test_an_id_is_the_place_in_scikit_learns_order():
    data, labels = load_digits(return_X_y=True)
    batch = DigitsSource(split="test").read([3, 200])
    ids = batch.ids.numpy()
    np.testing.assert_array_equal(batch.facts["label"].numpy(), labels[ids])
    np.testing.assert_allclose(
        batch.views["image"].data.flatten(1).numpy() * (16 / 255), data[ids], atol=0.5 * 16 / 255
    )


def test_every_split_is_normalised_by_train():
    data, _ = load_digits(return_X_y=True)
    facts = DigitsSource().facts
    assert facts.mean == DigitsSource(split="test").facts.mean
    assert facts.mean[0] == pytest.approx(data.mean() / 16, abs=0.01)
    assert facts.std[0] == pytest.approx(data.std() / 16, abs=0.01)


def test_unknown_split():
    with pytest.raises(UnknownNameError) as caught:
        DigitsSource(split="trian")
    assert str(caught.value) == (
        "no split named 'trian'. Did you mean 'train'? Known: all, test, train. These are the splits of the digits."
    )
