"""Groups of views of one sample: a pair, and two large crops with several small ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.spec import Spec, ViewSpec
from tacit.core.values import Batch, Facts, View
from tacit.ops.spread import Job, spread_all
from tacit.views.pictures import Pictures

__all__ = ["Centre", "Group", "MultiCrop", "Pair", "one_size"]

Centre = Annotated[float, Gt(0), Le(1)]


class Group:
    """Named views of the raw view 'image'. View number i draws under key i, so equal settings still give two draws."""

    def __init__(self, facts: Facts, specs: Mapping[str, Spec], centre: float) -> None:
        built = {spec: spec.build(facts) for spec in specs.values()}
        self.names = tuple(specs)
        self._views = [built[spec] for spec in specs.values()]
        self._centre = centre
        self.facts: Facts = self._views[0].facts

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """The batch with its views, parameters recorded; the raw pictures are not carried on."""
        pictures = self._pictures(batch)
        made: dict[str, View] = {}
        jobs: list[Job] = []
        for index, (name, view) in enumerate(zip(self.names, self._views, strict=True)):
            if hasattr(view, "begin"):  # the pixels of all views are made together
                made[name], more = view.begin(pictures, batch.ids, seed, epoch, index)
                jobs += more
            else:
                made[name] = view(pictures, batch.ids, seed, epoch, index)
        spread_all(jobs, torch.get_num_threads())
        return replace(batch, views=made)

    def plain(self, batch: Batch) -> Batch:
        """The evaluation view 'image': resized, cropped about the centre, normalised, no noise."""
        return replace(batch, views={"image": View(self._views[0].plain(self._pictures(batch), self._centre))})

    def _pictures(self, batch: Batch) -> Pictures:
        if "image" not in batch.views:
            raise DataError(
                f"views are made from the raw view 'image', this batch has {', '.join(batch.views) or 'none'}: "
                "pass the batch as the source reads it"
            )
        return Pictures.of(batch.views["image"].data, self.facts.channels)


def one_size(settings: Mapping[str, Any]) -> Iterable[str]:
    """A rule: views 'a' and 'b' need one size."""
    first, second = settings["first"], settings["second"]
    if second is not None and first.get("size") != second.get("size"):
        yield (
            f"second.size: 'a' and 'b' go through one encoder and need one size, "
            f"found {first.get('size')} and {second.get('size')}: set both alike"
        )


@part("views", "pair")
class Pair(Group):
    """Two views of every sample, 'a' made by `first` and 'b' by `second` (the same part again where it is left out).

    centre: what part of the shorter side the evaluation view keeps, where pictures are not of the views' size already
    (0.875: 224 of 256).
    """

    def __init__(
        self, facts: Facts, *, first: ViewSpec, second: ViewSpec | None = None, centre: Centre = 0.875
    ) -> None:  # fmt: skip
        super().__init__(facts, {"a": first, "b": second or first}, centre)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Both views need one size."""
        yield from one_size(settings)


@part("views", "multi-crop")
class MultiCrop(Group):
    """Two large views 'a' and 'b' and `locals` small ones, 'local0', 'local1', ... (SwAV, arXiv 2006.09882).

    centre: as in the pair; the evaluation view has the size of `first`. compat 'official' blurs the large views with the complement of
    their chances, as the released code of DINOv2 and DINOv3 does by a misread flag (1.0 and 0.1 become 0.0 and 0.9), and its weights.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        first: ViewSpec,
        second: ViewSpec | None = None,
        local: ViewSpec,
        locals: Annotated[int, Ge(1)] = 6,
        centre: Centre = 0.875,
        compat: Literal["correct", "official"] = "correct",
    ) -> None:
        if compat == "official":
            second = _blur_inverted(second or first)
            first = _blur_inverted(first)
        small: Sequence[str] = [f"local{i}" for i in range(locals)]
        super().__init__(facts, {"a": first, "b": second or first, **dict.fromkeys(small, local)}, centre)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Both large views need one size."""
        yield from one_size(settings)

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Chances of one half are their own complement."""
        chances = {spec.get("blur") for spec in (settings["first"], settings["second"]) if spec is not None}
        return {"compat": "the large views blur with chance 0.5, or not by chance"} if chances <= {0.5, None} else {}


def _blur_inverted(view: Spec) -> Spec:
    """The view with the complement of its chance of blur; one that has no such chance as it is."""
    chance = view.get("blur")
    return view if chance is None else view.change(blur=round(1 - chance, 12))
