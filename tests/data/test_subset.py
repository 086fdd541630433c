"""A few samples that stand for all of a source."""

from __future__ import annotations

from itertools import pairwise

import torch

from tacit.core.laws import check_source
from tacit.data.digits import DigitsSource
from tacit.data.subset import even_subset


def test_laws():
    check_source(even_subset(DigitsSource(), 20))


def test_its_samples_are_those_of_the_source_first_and_last_among_them():
    source = DigitsSource()
    some = even_subset(source, 5)
    ids, whole = some.read(range(5)).ids, source.read(range(len(source))).ids
    assert (len(some), some.facts) == (5, source.facts)
    at = [int((whole == i).nonzero()) for i in ids]
    assert (at[0], at[-1]) == (0, len(source) - 1)
    gaps = [b - a for a, b in pairwise(at)]
    assert max(gaps) - min(gaps) <= 1
    assert torch.equal(some.read([3, 1]).ids, ids[[3, 1]])


def test_a_source_that_is_no_longer_is_itself():
    source = DigitsSource()
    assert even_subset(source, len(source)) is source
    assert len({source.digest(), even_subset(source, 5).digest(), even_subset(source, 6).digest()}) == 3
