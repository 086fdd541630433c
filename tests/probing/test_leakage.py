"""Leakage: planted twins are found by id, and nothing else is; likeness that is usual within train is told."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import DataError
from tacit.probing import find_leakage


@pytest.fixture
def planted():
    """60 train and 40 test pictures; test 3 is train 10, test 5 is train 11 brighter, test 7 is train 12 under a little noise."""
    rng = torch.Generator().manual_seed(0)
    train, test = torch.rand(60, 48, generator=rng), torch.rand(40, 48, generator=rng)
    test[3] = train[10]
    test[5] = 0.5 * train[11] + 0.4
    test[7] = train[12] + 0.01 * torch.randn(48, generator=rng)
    return train, test


def test_twins_are_found_by_their_ids_whatever_their_brightness(planted):
    ids = (torch.arange(60) + 1000, torch.arange(40) + 5000)
    labels = (torch.zeros(60, dtype=torch.int64), (torch.arange(40) == 5).long())
    found = find_leakage(pixels=planted, ids=ids, labels=labels)
    assert {(leak.test, leak.train) for leak in found.leaks} == {(5003, 1010), (5005, 1011), (5007, 1012)}
    assert (found.by_pixels, found.by_features, found.exact) == (3, None, 1)
    assert found.usual_pixels == 0
    by_test = {leak.test: leak for leak in found.leaks}
    assert by_test[5003].pixels == pytest.approx(1)
    assert by_test[5005].pixels == pytest.approx(1)
    assert (by_test[5003].same, by_test[5005].same) == (True, False)
    assert math.isnan(by_test[5003].features)
    assert "pixels (correlation) at 0.98 or more: 3 test samples (7.50 %) have a twin in train" in found.text()
    assert "exactly equal pictures: 1" in found.text()


def test_features_are_compared_about_their_mean(planted):
    train, test = (100 + z for z in planted)  # without centring everything would be alike
    found = find_leakage(features=(train, test), feature_threshold=0.99)
    assert {(leak.test, leak.train) for leak in found.leaks} == {(3, 10), (7, 12)}
    assert found.by_pixels is None


def test_what_is_usual_in_the_data_is_counted_within_train():
    z = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    doubled = torch.cat([z[:25], z[:25]])
    assert find_leakage(features=(doubled, z[25:])).usual_features == 1
    assert find_leakage(features=(z, z[:5] * 1.0)).by_features == 5


def test_refusals(planted):
    with pytest.raises(DataError) as error:
        find_leakage()
    assert str(error.value) == "leakage needs pixels or features of both splits, found neither"
    with pytest.raises(
        DataError, match="leakage compares the same samples in both spaces and splits of one width, found features"
    ):
        find_leakage(pixels=planted, features=(planted[0][:5], planted[1]))
