"""The published normalisation of Two Rooms as views: a world model sees clips as they are, without augmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.worlds.rooms.pictures import colours, normalise

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

__all__ = ["RoomColours", "RoomViews"]


@part("views", "rooms")
class RoomViews:
    """The one view 'image' of Two Rooms: each channel of each frame scaled to [0, 1], then standardised.

    Takes clips [n 2 t 65 65] or pictures [n 2 65 65]. Actions (in pixels, as published), facts and ids pass unchanged; there is no
    noise. shrink: side of the blocks of pixels whose mean is seen (1: as published).
    """

    names: tuple[str, ...] = ("image",)

    def __init__(self, facts: Facts, *, shrink: Annotated[int, Ge(1), Le(16)] = 1) -> None:
        if facts.channels != 2:
            raise DataError(
                f"views 'rooms' normalise the channels dot and walls, the data have {facts.channels} channels: "
                "take the source 'rooms'"
            )
        self.shrink = shrink
        shape = facts.shape and (*facts.shape[:-2], *(n // shrink for n in facts.shape[-2:]))
        self.facts = replace(facts, shape=shape)

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:  # noqa: ARG002  (nothing is drawn)
        """The same as `plain`."""
        return self.plain(batch)

    def plain(self, batch: Batch) -> Batch:
        """float32 of the same shape, height and width divided by `shrink`."""
        data = batch.views["image"].data
        if isinstance(data, list):
            raise DataError("views 'rooms' need pictures of one size, found a list of different ones")
        clips = data.ndim == 5
        x = normalise(data.transpose(1, 2) if clips else data, self.shrink)
        return Batch({"image": View(x.transpose(1, 2) if clips else x)}, batch.ids, batch.action, batch.facts)


@part("views", "rooms-colour")
class RoomColours:
    """Two Rooms in colours for encoders that were trained on photographs: white ground, black walls, red dot.

    As DINO-WM shows its wall world. Resized to size x size (bilinear) and standardised by ImageNet's statistics. Takes clips
    [n 2 t 65 65] or pictures [n 2 65 65].
    """

    names: tuple[str, ...] = ("image",)

    def __init__(self, facts: Facts, *, size: Annotated[int, Ge(16)] = 196) -> None:
        if facts.channels != 2:
            raise DataError(
                f"views 'rooms-colour' paint the channels dot and walls, the data have {facts.channels} channels: "
                "take the source 'rooms'"
            )
        self.size = size
        shape = facts.shape and (*facts.shape[:-2], size, size)
        self.facts = replace(facts, channels=3, shape=shape, mean=_IMAGENET[0], std=_IMAGENET[1])

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:  # noqa: ARG002  (nothing is drawn)
        """The same as `plain`."""
        return self.plain(batch)

    def plain(self, batch: Batch) -> Batch:
        """float32 [n 3 t size size], or [n 3 size size] of pictures."""
        data = batch.views["image"].data
        if isinstance(data, list):
            raise DataError("views 'rooms-colour' need pictures of one size, found a list of different ones")
        frames = data.transpose(1, 2).flatten(0, 1) if data.ndim == 5 else data
        x = F.interpolate(colours(frames), size=(self.size, self.size), mode="bilinear", align_corners=False)
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in _IMAGENET)
        x = (x - mean) / std
        if data.ndim == 5:
            x = x.unflatten(0, (len(data), -1)).transpose(1, 2)
        return Batch({"image": View(x)}, batch.ids, batch.action, batch.facts)
