"""A view with masks: one picture or clip, and for each mask what of it is seen and what is to be predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.random import key
from tacit.core.spec import Role, Spec, ViewSpec
from tacit.core.values import Batch, Facts, View
from tacit.ops.masks import Ids, Truncate, truncate

__all__ = ["ContextTarget"]

Count = Annotated[int, Ge(1)]


@part("views", "context-target")
class ContextTarget:
    """The one view 'image', made by `view`, and its masks, which stand in `how`.

    For mask i:

        context.i [n k]    ids of the tokens that the encoder sees
        target.i [n b m]   ids of the tokens that are predicted from them, in b blocks
        hidden.i [n N]     which of all N tokens are not seen
        lengths.i [n 1+b]  with truncate='none' or 'packed': how many ids of the context and of each block are no fillings
        packed.i [n]       with truncate='packed': fillings are not to be computed

    `masks`: kinds of masks (role 'mask'); `copies`: how often each is drawn. patch, tubelet: those of the encoder.
    `truncate`: how rows of unequal length become one array. 'first' cuts to the shortest and keeps the first ids (the published
    collators, which lose the end of the clip); 'random' keeps a random subset; 'none' loses no token and fills up with -1;
    'packed' as well, and fillings are not computed: the tokens of all samples stand in one row, and each sample attends to itself.
    centre: as in the views 'pair'.
    """

    names = ("image",)

    def __init__(
        self,
        facts: Facts,
        *,
        view: ViewSpec,
        masks: tuple[Annotated[Spec, Role("mask")], ...],
        copies: Count = 1,
        patch: Count = 16,
        tubelet: Count | None = None,
        truncate: Truncate = "random",
        centre: Annotated[float, Gt(0), Le(1)] = 0.875,
    ) -> None:
        self._view: Any = view.build(facts)
        self.facts: Facts = self._view.facts
        self.grid = _grid(self.facts, patch, tubelet)
        self._masks = [spec.build(self.grid) for spec in masks for _ in range(copies)]
        self._truncate, self._centre = truncate, centre

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """At least one mask."""
        if not settings["masks"]:
            yield "masks: needs at least one kind of mask, for example masks=[{kind: random}]"

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """The view and its masks; a function of (seed, epoch, sample id), but for the cut to a common length."""
        view: View = self._view(_raw(batch), batch.ids, seed, epoch, 0)
        return replace(batch, views={"image": replace(view, how={**view.how, **self.masks(batch.ids, seed, epoch)})})

    def masks(self, ids: Tensor, seed: int, epoch: int) -> dict[str, Tensor]:
        """The masks alone, by the names above."""
        numbers, total = ids.tolist(), int(np.prod(self.grid))
        found: dict[str, Tensor] = {}
        for index, kind in enumerate(self._masks):
            drawn = kind.draw(numbers, seed, epoch, index)
            per = len(drawn[0].targets)
            contexts = [mask.context for mask in drawn]
            blocks = [block for mask in drawn for block in mask.targets]
            own = [key(seed, "truncate", epoch, one, index) for one in numbers]
            found[f"context.{index}"] = torch.from_numpy(truncate(contexts, self._truncate, own))
            own = [key(one, block) for one in own for block in range(per)]
            target = torch.from_numpy(truncate(blocks, self._truncate, own))
            found[f"target.{index}"] = target.reshape(len(drawn), per, -1)
            if self._truncate in ("none", "packed"):
                if self._truncate == "packed":
                    found[f"packed.{index}"] = torch.ones(len(drawn), dtype=torch.bool)
                sizes = [[len(mask.context), *map(len, mask.targets)] for mask in drawn]
                found[f"lengths.{index}"] = torch.tensor(sizes)
            found[f"hidden.{index}"] = torch.from_numpy(_hidden(contexts, total))
        return found

    def plain(self, batch: Batch) -> Batch:
        """The evaluation view 'image' of `view`, whole."""
        return replace(batch, views={"image": View(self._view.plain(_raw(batch), self._centre))})


def _grid(facts: Facts, patch: int, tubelet: int | None) -> tuple[int, ...]:
    shape = facts.shape
    if shape is None or len(shape) != (3 if tubelet else 2):
        raise RecipeError(
            f"views 'context-target' with tubelet={tubelet} need {'clips' if tubelet else 'images'} of one size after the view, "
            f"found samples of shape {shape}: set tubelet=2 for clips and none for images"
        )
    sides = (tubelet, patch, patch) if tubelet else (patch, patch)
    if any(size % side for size, side in zip(shape, sides, strict=True)):
        raise RecipeError(
            f"views 'context-target': tokens of {' x '.join(map(str, sides))} do not divide samples of "
            f"{' x '.join(map(str, shape))}: choose another size of the view, or another patch"
        )
    return tuple(size // side for size, side in zip(shape, sides, strict=True))


def _raw(batch: Batch) -> Any:
    if "image" not in batch.views:
        raise DataError(
            f"views are made from the raw view 'image', this batch has {', '.join(batch.views) or 'none'}: "
            "pass the batch as the source reads it"
        )
    return batch.views["image"].data


def _hidden(contexts: list[Ids], total: int) -> Any:
    hidden = np.ones((len(contexts), total), dtype=bool)
    for row, context in zip(hidden, contexts, strict=True):
        row[context] = False
    return hidden
