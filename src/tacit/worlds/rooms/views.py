"""The published normalisation of Two Rooms as views: a world model sees clips as they are, without augmentation."""

from __future__ import annotations

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.worlds.rooms.pictures import normalise

__all__ = ["RoomViews"]


@part("views", "rooms")
class RoomViews:
    """The one view 'image' of Two Rooms: each channel of each frame scaled to [0, 1], then standardised.

    Takes clips [n 2 t 65 65] or pictures [n 2 65 65]. Actions (in pixels, as published), facts and ids
    pass unchanged; there is no noise.
    """

    names: tuple[str, ...] = ("image",)

    def __init__(self, facts: Facts) -> None:
        if facts.channels != 2:
            raise DataError(
                f"views 'rooms' normalise the channels dot and walls, the data have {facts.channels} channels: "
                "take the source 'rooms'"
            )
        self.facts = facts

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:  # noqa: ARG002  (nothing is drawn)
        """The same as `plain`."""
        return self.plain(batch)

    def plain(self, batch: Batch) -> Batch:
        """float32 of the same shape."""
        data = batch.views["image"].data
        if isinstance(data, list):
            raise DataError("views 'rooms' need pictures of one size, found a list of different ones")
        clips = data.ndim == 5
        x = normalise(data.transpose(1, 2) if clips else data)
        return Batch({"image": View(x.transpose(1, 2) if clips else x)}, batch.ids, batch.action, batch.facts)
