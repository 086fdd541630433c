"""A folder of pictures as a video, one picture a frame: Jester is published so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.data.images import EXTENSIONS as PICTURES
from tacit.data.images import decode, header

__all__ = ["Pictures"]


class Pictures:
    """A folder of pictures in the order of their names, `rate` a second (12 is Jester's)."""

    steady = True

    def __init__(self, folder: Path, rate: float = 12.0) -> None:
        names = sorted(e.name for e in os.scandir(folder) if os.path.splitext(e.name)[1].lower() in PICTURES)
        if not names:
            raise DataError("this folder holds no picture to take as a frame")
        self._files, self.rate = [folder / name for name in names], rate
        self.times = np.arange(len(names)) / rate
        with open(self._files[0], "rb") as file:
            self.size = header(file)[1:]

    def frames(self, indices: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """The pictures."""
        return torch.stack([self._read(int(i)) for i in indices], dim=1)

    def _read(self, i: int) -> Tensor:
        try:
            with open(self._files[i], "rb") as file:
                picture = decode(file, 3)
        except DataError as error:
            raise DataError(f"its frame {self._files[i].name}: {error}") from error
        if tuple(picture.shape[1:]) != self.size:
            raise DataError(f"its frame {self._files[i].name} has another size than the first")
        return picture

    def walk(self) -> Iterator[NDArray[np.uint8]]:
        """All of them."""
        for i in range(len(self._files)):
            yield self._read(i).permute(1, 2, 0).numpy()
