"""Two gloo processes with unequal shares of the rows, one of them with none of the views, judge as one process with all of them."""

from __future__ import annotations

import pytest

NAMES = (
    "rankme/eps", "rankme/renormalised", "stable-rank", "classical-rank", "participation-ratio", "nesum", "alpha-req", "spectrum-area",
    "self-cluster", "uniformity", "cluster-learnability", "intrinsic-dimension", "lidar", "alignment", "collapse/spread",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_it_is_merged_over_processes(two_processes, name):
    """Those that need pairs look at an even sample, which is all rows here, in another order: k-means may part another way by rounding."""
    gaps = {protocol: gap for protocol, gap in two_processes["judges"].items() if protocol.startswith(name)}
    assert len(gaps) == 1
    assert max(gaps.values()) < (0.05 if name == "cluster-learnability" else 1e-6)


def test_every_criterion_is_among_them(two_processes):
    assert len(two_processes["judges"]) == len(NAMES)
