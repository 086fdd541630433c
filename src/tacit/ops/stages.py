"""Stages of a run by epoch: stage i lasts from epoch starts[i] to the next one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["check_starts", "stage"]


def stage(starts: Sequence[int], epoch: int) -> int:
    """The number of the stage that an epoch belongs to."""
    return bisect_right(starts, epoch) - 1


def check_starts(starts: Sequence[int], stages: int, name: str) -> Iterable[str]:
    """Sentences about starts that do not rise from 0, one for each of the `stages` parts called `name`."""
    rising = all(a < b for a, b in pairwise(starts))
    if len(starts) != stages or not stages or starts[0] != 0 or not rising:
        yield f"starts: needs one epoch for each of the {stages} {name}, rising from 0, found {list(starts)}: for example [0, 800]"
