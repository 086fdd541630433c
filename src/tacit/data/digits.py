"""The handwritten digits that come with scikit-learn: real scans, there on every machine that has tacit."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.core.parts import part
from tacit.core.random import key, uniform
from tacit.data.checks import choose
from tacit.data.samples import Held, StoredSource

__all__ = ["DigitsSource"]


@part("source", "digits")
class DigitsSource(StoredSource):
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, ten classes: no files needed; splits train, test and all.

    Test is a fixed fifth of each class (359 of 1,797 samples), train the rest. A sample keeps its id, its place in
    scikit-learn's order, in every split. Values 0..16 are spread over 0..255; `channels` 3 repeats the grey values, for
    recipes that work on colour. Source: UCI ML hand-written digits, test part.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        channels: Literal[1, 3] = 1,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        choose(split, ("train", "test", "all"), "the digits")
        images, labels = _digits()
        images = np.repeat(images, channels, axis=1)
        train = _ids("train")
        ids = _ids(split)
        held = Held(torch.from_numpy(images[ids]), labels[ids], [("digits", len(ids))])
        reference = Held(torch.from_numpy(images[train]), labels[train], [("digits", len(train))])
        classes = tuple(str(digit) for digit in range(10))
        super().__init__(
            held, path="digits", split=split, classes=classes, reference=reference, mean=mean, std=std, ids=ids
        )


@functools.cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # here: importing scikit-learn takes most of a second

    data, labels = load_digits(return_X_y=True)
    return np.rint(data.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8), labels.astype(np.int64)


@functools.cache
def _ids(split: str) -> NDArray[np.int64]:
    """Ascending. Each class is shuffled by integer arithmetic of its own, so no library's generator can move the split."""
    labels = _digits()[1]
    test: set[int] = set()
    for digit in range(10):
        state = key("digits", digit)
        own = sorted(np.flatnonzero(labels == digit).tolist(), key=lambda i: uniform(state, i))
        test.update(own[: round(len(own) / 5)])
    chosen = [i for i in range(len(labels)) if split == "all" or (i in test) == (split == "test")]
    return np.array(chosen, dtype=np.int64)
