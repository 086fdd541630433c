"""What the appliers read: the raw pictures of a batch, of one size or of many, checked once for all views."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.values import Facts

__all__ = ["Pictures", "denormalise", "statistics"]


@dataclass(frozen=True)
class Pictures:
    """n raw pictures: a tensor [n c h w], or a list of [c h w] where sizes differ; uint8, or float32 in [0, 1].

    source: rows and columns of each, [n 2].
    """

    data: Tensor | list[Tensor]
    source: NDArray[np.int64]
    channels: int

    @classmethod
    def of(cls, data: Tensor | list[Tensor] | Pictures, channels: int) -> Pictures:
        """Check type, shape, channels and, for float32, the range (one pass; NaN fails it). Raises DataError."""
        if isinstance(data, Pictures):
            return data
        every = [data] if isinstance(data, Tensor) else data
        for i, one in enumerate(every):
            where = "" if isinstance(data, Tensor) else f" {i}"
            dims = 4 if isinstance(data, Tensor) else 3
            if one.ndim != dims or one.shape[-3] != channels or 0 in one.shape[-2:]:
                layout = "[n c h w]" if dims == 4 else "[c h w]"
                raise DataError(
                    f"picture{where or 's'} must be {layout} with c = {channels}, found the shape {list(one.shape)}: "
                    "put channels first, and give the source the facts of its samples"
                )
            if one.dtype != torch.uint8:
                _check_floats(one, f"picture{where or 's'}")
            if one.dtype != every[0].dtype or one.device != every[0].device:
                raise DataError(
                    f"pictures of one batch must share type and device, found {every[0].dtype} on {every[0].device} "
                    f"and {one.dtype} on {one.device}: convert them in the source"
                )
        source = np.array([one.shape[-2:] for one in every], np.int64).reshape(-1, 2)
        return cls(data, source.repeat(len(data), axis=0) if isinstance(data, Tensor) else source, channels)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def device(self) -> torch.device:
        """Where the pictures lie; an empty list counts as the processor."""
        if isinstance(self.data, Tensor):
            return self.data.device
        return self.data[0].device if self.data else torch.device("cpu")

    @functools.cached_property
    def flat(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """(all pixels one after another, where each picture begins [n]); one size: no copy."""
        if isinstance(self.data, Tensor):
            n = len(self.data)
            return self.data.contiguous().view(-1).numpy(), np.arange(n) * (self.data.numel() // max(n, 1))
        counts = [one.numel() for one in self.data]
        if not counts:
            return np.empty(0, np.uint8), np.empty(0, np.int64)
        # numpy, not torch.cat: torch's own threads would go on spinning beside those of the kernel
        return np.concatenate([one.reshape(-1).numpy() for one in self.data]), np.cumsum([0, *counts])[:-1]

    @functools.cached_property
    def padded(self) -> Tensor:
        """[n c h w] in float32 within [0, 1]; smaller pictures are filled with zeros below and to the right."""
        if isinstance(self.data, Tensor):
            batch = self.data
        else:
            height, width = self.source.max(axis=0)
            batch = self.data[0].new_zeros((len(self), self.data[0].shape[0], int(height), int(width)))
            for to, one in zip(batch, self.data, strict=True):
                to[:, : one.shape[1], : one.shape[2]] = one
        return batch.float() / 255 if batch.dtype == torch.uint8 else batch


def _check_floats(picture: Tensor, name: str) -> None:
    if picture.dtype != torch.float32:
        raise DataError(
            f"{name} must be uint8, or float32 in [0, 1], found {picture.dtype}: convert them in the source"
        )
    if picture.numel() == 0:
        return
    low, high = (float(bound) for bound in torch.aminmax(picture))
    if not (low >= 0 and high <= 1):  # so written that NaN fails
        raise DataError(
            f"{name} of type float32 must hold values in [0, 1], found {low:.4g} to {high:.4g}: "
            "divide by the largest value, or drop what is not a number, in the source"
        )


def statistics(facts: Facts) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation [c] that normalise, or two empty arrays where the facts give none."""
    mean, std = np.array(facts.mean, np.float32), np.array(facts.std, np.float32)
    if len(mean) != len(std) or len(mean) not in (0, facts.channels) or not (std > 0).all():
        raise DataError(
            f"normalising needs one mean and one positive std for each of {facts.channels} channels, or none at all, "
            f"found mean {facts.mean} and std {facts.std}: mend the facts of the source"
        )
    return mean, std


def denormalise(x: Tensor, facts: Facts) -> Tensor:
    """Undo the normalisation of views [... c h w]: values in [0, 1] again, for pictures in reports."""
    mean, std = (torch.from_numpy(values).to(x.device)[:, None, None] for values in statistics(facts))
    return x * std + mean if len(mean) else x
