"""Views of which some patches are hidden: blocks that a token replaces, or patches that are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.spec import ViewSpec
from tacit.core.values import Batch, Facts, View
from tacit.views import masks as drawn
from tacit.views.groups import Centre, Group, one_size

__all__ = ["Masked"]


@part("views", "masked")
class Masked(Group):
    """Two large views 'a' and 'b' and `locals` small ones, with masks over the patches of the large ones.

    masks: 'blocks' hides blocks of patches of both large views: `View.how['mask']` [n k], true where hidden (iBOT, DINOv2). A view is
    masked with chance `share`, up to a part of its patches uniform in `ratio`. 'scattered' and 'focal' leave patches of
    'b' out: `View.keep` [n v] names the visible ones, scattered or in one rectangle, and `ratio` is one number twice (MSN: 0.15 for
    ViT-S, 0.3 for B). Small views have no mask. patch: the side of the encoder's patches in pixels.

    Each mask is a function of (seed, epoch, sample id, view). centre: as in the pair.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        first: ViewSpec,
        second: ViewSpec | None = None,
        local: ViewSpec | None = None,
        locals: Annotated[int, Ge(0)] = 0,
        patch: Annotated[int, Gt(0)] = 16,
        masks: Literal["blocks", "scattered", "focal"] = "blocks",
        share: Annotated[float, Ge(0), Le(1)] = 0.5,
        ratio: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.1, 0.5),
        centre: Centre = 0.875,
    ) -> None:
        small: Sequence[str] = [f"local{i}" for i in range(locals)]
        super().__init__(facts, {"a": first, "b": second or first, **dict.fromkeys(small, local or first)}, centre)
        height, width = self.facts.shape or (0, 0)
        if height % patch or width % patch:
            raise DataError(
                f"views 'masked' hide patches of {patch} pixels, which do not divide views of {height} x {width}: choose another "
                "size or patch"
            )
        self._grid = height // patch, width // patch
        self._masks, self._share, self._ratio = masks, share, ratio

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        yield from one_size(settings)
        low, high = settings["ratio"]
        if low > high:
            yield f"ratio: needs (low, high) with low <= high, found ({low}, {high}): swap them"
        if settings["masks"] != "blocks" and low != high:
            yield (
                f"ratio: masks {settings['masks']!r} leave out as many patches of every sample, found ({low}, {high}): give one "
                f"number twice, for example ({low}, {low})"
            )
        if settings["locals"] and settings["local"] is None:
            yield f"local: {settings['locals']} small views are asked for and none is described: set local, or locals=0"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """A share of masked views belongs to blocks; without small views none is described."""
        found = {} if settings["masks"] == "blocks" else {"share": "every view 'b' has patches left out"}
        return found if settings["locals"] else {**found, "local": "there are no small views"}

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """The batch with its views and their masks."""
        made = super().__call__(batch, seed, epoch)
        ids, views = batch.ids.cpu().numpy(), dict(made.views)
        if self._masks == "blocks":
            for index, name in enumerate("ab"):
                hidden = drawn.blocks(ids, self._grid, self._share, self._ratio, seed, epoch, index)
                view = views[name]
                views[name] = View(view.data, {**view.how, "mask": _beside(hidden, view)})
        else:
            draw = drawn.scattered if self._masks == "scattered" else drawn.focal
            keep = draw(ids, self._grid, self._ratio[0], seed, epoch, 1)
            views["b"] = replace(views["b"], keep=_beside(keep, views["b"]))
        return replace(made, views=views)


def _beside(array: Any, view: View) -> torch.Tensor:
    """The array as a tensor where the view's pictures are."""
    found = torch.from_numpy(array)
    return found.to(view.data.device) if isinstance(view.data, torch.Tensor) else found
