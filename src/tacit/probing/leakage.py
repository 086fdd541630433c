"""Test samples that training has seen: twins and near-twins across the splits, in pixels and in features, named by their ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.neighbours import nearest, unit_rows
from tacit.probing.arrays import as_features
from tacit.probing.subsets import as_ids

__all__ = ["Leak", "Leakage", "find_leakage"]

PIXELS, FEATURES = 0.98, 0.995


@dataclass(frozen=True)
class Leak:
    """A test sample and the training sample that is its twin, with their similarities (nan where a space was not given).

    pixels: correlation of the pictures; features: cosine about the training mean. same: whether their labels agree, None if unknown.
    """

    test: int
    train: int
    pixels: float
    features: float
    same: bool | None = None


@dataclass(frozen=True)
class Leakage:
    """What leaks. by_pixels, by_features: test samples with a twin in train in that space; `usual_*`: the share of *training* samples
    that have one within train, which tells how much likeness is usual in these data."""

    leaks: tuple[Leak, ...]
    n: int
    train: int
    by_pixels: int | None
    by_features: int | None
    exact: int
    usual_pixels: float | None
    usual_features: float | None
    pixel_threshold: float
    feature_threshold: float

    @property
    def protocol(self) -> str:
        """The name of what was done."""
        return f"leakage/pixels={self.pixel_threshold:g},features={self.feature_threshold:g}@1"

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "protocol": self.protocol, "leaks": [vars(leak) for leak in self.leaks]}

    def text(self) -> str:
        """For people."""
        lines = [f"{self.protocol}: {self.n} test samples against {self.train} training samples"]
        for space, count, usual, at in (
            ("pixels (correlation)", self.by_pixels, self.usual_pixels, self.pixel_threshold),
            ("features (cosine)", self.by_features, self.usual_features, self.feature_threshold),
        ):
            if count is not None and usual is not None:
                lines.append(
                    f"{space} at {at:g} or more: {count} test samples ({100 * count / self.n:.2f} %) have a twin in train; within "
                    f"train {100 * usual:.2f} % have one"
                )
        lines.append(f"exactly equal pictures: {self.exact}")
        for leak in self.leaks[:20]:
            same = "" if leak.same is None else ", labels agree" if leak.same else ", labels differ"
            lines.append(
                f"  test {leak.test} ~ train {leak.train}: pixels {leak.pixels:.4f}, features {leak.features:.4f}{same}"
            )
        if len(self.leaks) > 20:
            lines.append(f"  and {len(self.leaks) - 20} more (all of them with --json)")
        return "\n".join(lines)


def find_leakage(
    *,
    pixels: tuple[Any, Any] | None = None,
    features: tuple[Any, Any] | None = None,
    ids: tuple[Any, Any] | None = None,
    labels: tuple[Any, Any] | None = None,
    pixel_threshold: float = PIXELS,
    feature_threshold: float = FEATURES,
) -> Leakage:
    """Every test sample whose nearest training sample is at or above a threshold in either space; pairs are (train, test).

    pixels: pictures as rows [n p], compared by correlation, so that brightness and contrast do not hide a twin; a constant picture is
    like none but one of equal pixels. features: [n d], compared by cosine about the training mean, since a common offset would make
    everything alike. Ids must differ within a split; without them samples are counted.
    """
    if pixels is None and features is None:
        raise DataError("leakage needs pixels or features of both splits, found neither")
    spaces = {"pixels": pixels, "features": features}
    held = {
        name: tuple(as_features(z, f"{split} {name}") for z, split in zip(pair, ("train", "test"), strict=True))
        for name, pair in spaces.items()
        if pair is not None
    }
    n_train, n = (len(z) for z in next(iter(held.values())))
    for name, pair in held.items():
        if (len(pair[0]), len(pair[1])) != (n_train, n) or pair[0].shape[1] != pair[1].shape[1]:
            raise DataError(
                f"leakage compares the same samples in both spaces and splits of one width, found {name} "
                f"{list(pair[0].shape)} and {list(pair[1].shape)} for {n_train} and {n} samples"
            )
    own = [
        as_ids(ids[i] if ids else None, size, split)
        for i, (size, split) in enumerate(((n_train, "train"), (n, "test")))
    ]
    units = {name: _units(name, *pair) for name, pair in held.items()}
    threshold = {"pixels": pixel_threshold, "features": feature_threshold}
    best = {name: _best(*pair) for name, pair in units.items()}
    twins: dict[int, set[int]] = {}
    for name, (value, index) in best.items():
        for i in (value >= threshold[name]).nonzero()[:, 0].tolist():
            twins.setdefault(i, set()).add(int(index[i]))
    equal = _equal(held["pixels"]) if "pixels" in held else {}
    for i, j in equal.items():
        twins.setdefault(i, set()).add(j)

    def alike(name: str, i: int, j: int) -> float:
        return float(units[name][1][i] @ units[name][0][j]) if name in units else float("nan")

    known = None if labels is None else (torch.as_tensor(labels[0]).cpu(), torch.as_tensor(labels[1]).cpu())
    leaks = [
        Leak(
            int(own[1][i]), int(own[0][j]), alike("pixels", i, j), alike("features", i, j),
            None if known is None else bool((known[0][j] == known[1][i]).all()),
        )
        for i, found in twins.items()
        for j in sorted(found)
    ]  # fmt: skip
    leaks.sort(key=lambda leak: (-max(x for x in (leak.pixels, leak.features) if x == x), leak.test, leak.train))
    counts = {name: int((value >= threshold[name]).sum()) for name, (value, _) in best.items()}
    usual = {
        name: float((_best(z[0], z[0], skip_self=True)[0] >= threshold[name]).double().mean())
        for name, z in units.items()
    }
    return Leakage(
        tuple(leaks), n, n_train, counts.get("pixels"), counts.get("features"), len(equal), usual.get("pixels"),
        usual.get("features"), pixel_threshold, feature_threshold,
    )  # fmt: skip


def _units(name: str, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    if name == "pixels":
        return unit_rows(train - train.mean(dim=1, keepdim=True)), unit_rows(test - test.mean(dim=1, keepdim=True))
    mean = train.mean(dim=0)
    return unit_rows(train - mean), unit_rows(test - mean)


def _best(bank: Tensor, queries: Tensor, *, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """The largest product of each query with the bank and where it is."""
    if skip_self and len(bank) < 2:
        return torch.full((len(queries),), -1.0), torch.zeros(len(queries), dtype=torch.int64)
    parts = [(value[:, 0], index[:, 0]) for _, value, index in nearest(bank, queries, 1, skip_self=skip_self)]
    return torch.cat([value for value, _ in parts]).cpu(), torch.cat([index for _, index in parts]).cpu()


def _equal(pair: tuple[Tensor, ...]) -> dict[int, int]:
    """The first training sample of equal pixels for each test sample that has one."""
    seen: dict[bytes, int] = {}
    for j, row in _rows(pair[0]):
        seen.setdefault(row, j)
    return {i: seen[row] for i, row in _rows(pair[1]) if row in seen}


def _rows(z: Tensor) -> Iterator[tuple[int, bytes]]:
    for i, row in enumerate(z.cpu().contiguous().numpy()):
        yield i, row.tobytes()
