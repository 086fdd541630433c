"""Arrays as pictures: memory-mapped .npy or .npz, any number of channels. Object arrays are never loaded; names are in array_files.

Shape. [n h w] is one channel. Of [n a b c] the channel axis is the smaller of a and c (a: 'nchw', c: 'nhwc'); a = c needs `layout`.

Values. uint8 is kept, bool becomes 0 and 255. uint16 is divided by 65535, floats must lie in [0, 1], both become float32;
`range: [low, high]` maps these two values to 0 and 1 instead, for every number type; other types need it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.array_files import Stored, find, nothing
from tacit.data.checks import MIB, NotFiniteError, checked_labels, checked_path, choose, fingerprint
from tacit.data.samples import Layout, StoredSource

__all__ = ["ArraysSource", "recognise"]


def recognise(path: Path) -> Layout | None:
    """A .npy or .npz file, or a folder with such files, under names that say what they hold."""
    if not path.is_dir() and path.suffix.lower() not in (".npy", ".npz"):
        return None
    found = find(path)
    if not found:
        return None
    how = ", ".join(str(images) + (f" with labels {labels}" if labels else "") for images, labels in found.values())
    return Layout("arrays", str(path), tuple(found), f"images in {how}")


class Arrays:
    """Items over one array; a .npy file is mapped anew in each process, an .npz array is carried along."""

    def __init__(
        self,
        stored: Stored,
        layout: str | None,
        value_range: tuple[float, float] | None,
        labels: Stored | None = None,
    ) -> None:
        self.stored = stored
        array = self.array
        self._axes = _axes(array.shape, layout, str(stored))
        self._range = _range(array.dtype, value_range, str(stored))
        c, h, w = (array.shape[axis] if axis else 1 for axis in self._axes)
        self.channels = c
        self.shape: tuple[int, int] | None = (h, w)
        self.dtype = torch.uint8 if self._range is None else torch.float32
        self.labels = None if labels is None else checked_labels(labels.load(), len(array), None, str(labels))

    @functools.cached_property
    def array(self) -> NDArray[Any]:
        """As stored."""
        return self.stored.load()

    def __getstate__(self) -> dict[str, Any]:
        mapped = self.stored.key is None
        return {name: value for name, value in self.__dict__.items() if not (mapped and name == "array")}

    def __len__(self) -> int:
        return len(self.array)

    def name(self, i: int) -> str:
        """The array and the index."""
        return f"{self.stored} sample {i}"

    def size(self, i: int) -> tuple[int, int, int]:  # noqa: ARG002 (of every sample)
        """(c, h, w), the same for every sample."""
        h, w = self.shape or (0, 0)
        return self.channels, h, w

    def image(self, i: int) -> Tensor:
        """[c h w]."""
        return self._read(slice(i, i + 1), "")[0]

    def everything(self) -> Tensor | None:
        """[n c h w], in pieces of about 64 MiB so that the conversion needs little memory on top."""
        step = max(1, 64 * MIB // (8 * max(1, int(np.prod(self.array.shape[1:])))))
        self._refuse_not_finite(step)
        return torch.cat([self._read(slice(i, i + step), f"{self.stored}: ") for i in range(0, len(self), step)])

    def _refuse_not_finite(self, step: int) -> None:
        if self.array.dtype.kind != "f":
            return
        count, first = 0, -1
        for i in range(0, len(self), step):
            wrong = ~np.isfinite(self.array[i : i + step]).reshape(len(self.array[i : i + step]), -1)
            if first < 0 and wrong.any():
                first = i + int(np.argmax(wrong.any(axis=1)))
            count += int(wrong.sum())
        if count:
            raise NotFiniteError(
                f"{self.stored}: {count} values are NaN or infinite, the first in sample {first}: "
                "repair these samples or leave them out"
            )

    def _read(self, which: slice, name: str) -> Tensor:
        values = np.asarray(self.array[which])
        if values.ndim == 3:
            values = values[:, None]
        elif self._axes[0] == 3:
            values = values.transpose(0, 3, 1, 2)
        if values.dtype == np.bool_:
            return torch.from_numpy(values.astype(np.uint8) * np.uint8(255))
        if self._range is None:
            return torch.from_numpy(np.ascontiguousarray(values, dtype=np.uint8).copy())
        low, high = self._range
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise NotFiniteError(f"{name}{int((~np.isfinite(numbers)).sum())} of its values are NaN or infinite")
        least, most = float(numbers.min()), float(numbers.max())
        slack = 1e-6 * (high - low)  # float32 rounding of values computed to be the bounds
        if least < low - slack or most > high + slack:
            raise DataError(
                f"{name}values run from {least:g} to {most:g} where {low:g} to {high:g} was expected: "
                "set range: [low, high] to the values that mean black and white"
            )
        scaled = (np.clip(numbers, low, high) - low) / (high - low)
        return torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32))

    def fingerprint(self) -> str:
        """The file's, and how its values are read."""
        own = fingerprint([self.stored.file], self.stored.file.parent)
        return f"{own}{self.stored.key}{self._axes}{self._range}"


def _axes(shape: tuple[int, ...], layout: str | None, name: str) -> tuple[int, int, int]:
    """The axes of channels, height and width; 0 where there is no channel axis."""
    if len(shape) == 3 and layout in (None, "nhw"):
        return 0, 1, 2
    if len(shape) == 4 and layout != "nhw":
        if layout is None and shape[1] == shape[3]:
            raise DataError(
                f"{name}: shape {list(shape)} does not tell where the channels are: set layout: nchw or layout: nhwc"
            )
        first = layout == "nchw" if layout is not None else shape[1] < shape[3]
        return (1, 2, 3) if first else (3, 1, 2)
    wanted = layout or "[n h w], [n h w c] or [n c h w]"
    raise DataError(f"{name}: shape {list(shape)} is not {wanted}: images are needed, one a row")


def _range(dtype: np.dtype[Any], given: tuple[float, float] | None, name: str) -> tuple[float, float] | None:
    """The values that become 0 and 1, or None where bytes are kept."""
    if given is not None and dtype.kind in "uif":
        return given
    if dtype in (np.uint8, np.bool_):
        return None
    if dtype == np.uint16:
        return 0.0, 65535.0
    if dtype.kind == "f":
        return 0.0, 1.0
    remedy = "set range: [low, high] to the values that mean black and white" if dtype.kind in "iu" else "store numbers"
    raise DataError(f"{name}: images of type {dtype} have no agreed range: {remedy}")


@part("source", "arrays")
class ArraysSource(StoredSource):
    """Arrays: x.npy, x.npz or a folder of them, [n h w], [n h w c] or [n c h w], splits by name (x_train, test_images, train.npy).

    key, labels: names of the arrays where they are others than the usual ones, with '{split}' where there are splits.
    memory: MiB of values that may be held; larger arrays stay on disk, mapped.
    """

    def __init__(
        self,
        *,
        path: str,
        split: str = "train",
        layout: Literal["nhw", "nhwc", "nchw"] | None = None,
        range: tuple[float, float] | None = None,  # the word for it, as in the messages
        key: str | None = None,
        labels: str | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        memory: Annotated[int, Ge(0)] = 1024,
    ) -> None:
        root = checked_path(path)
        found = find(root, key, labels)
        if not found:
            raise DataError(nothing(root, key))
        choose(split, found, str(root))
        images, own = found[split]
        if labels is not None and own is None:
            raise DataError(
                f"{images}: no labels named {labels!r} beside it: leave out the setting labels to read without"
            )
        items = Arrays(images, layout, range, own)
        there = [stored.load() for _, stored in found.values() if stored is not None] if own is not None else []
        classes = tuple(map(str, np.arange(max((int(array.max()) for array in there if array.size), default=-1) + 1)))
        reference = partial(Arrays, found["train"][0], layout, range) if "train" in found and split != "train" else None
        super().__init__(
            items,
            path=str(root),
            split=split,
            classes=classes,
            reference=reference,
            mean=mean,
            std=std,
            memory=memory,
        )

    @staticmethod
    def check_settings(settings: dict[str, Any]) -> Iterator[str]:
        """Rules across fields."""
        bounds = settings["range"]
        if bounds is not None and not bounds[0] < bounds[1]:
            yield f"range: {list(bounds)} is empty: give the value that means black, then the one that means white"
