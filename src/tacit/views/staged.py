"""Views that change in the middle of a run: small and short first, large and long for the last epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Ge

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.spec import ViewsSpec
from tacit.core.values import Batch, Facts
from tacit.ops.stages import check_starts, stage

__all__ = ["StagedViews"]


@part("views", "stages")
class StagedViews:
    """`stages` of views one after the other, stage i from epoch `starts`[i] on; all have views of the same names.

    Encoders with fixed or rotary positions take every size; learned positions are resampled. Evaluation is that of the last stage, and so
    are the facts from which an encoder is built. frames: of the clips of each stage, where the source 'stages' gives clips of several
    lengths. Source: arXiv 2506.09985 (256 pixels and 16 frames, then up to 384 and 64).
    """

    def __init__(
        self,
        facts: Facts,
        *,
        stages: tuple[ViewsSpec, ...],
        starts: tuple[Annotated[int, Ge(0)], ...],
        frames: tuple[Annotated[int, Ge(1)], ...] = (),
    ) -> None:
        lengths = frames or (None,) * len(stages)
        self._stages: list[Any] = [spec.build(_of(facts, one)) for spec, one in zip(stages, lengths, strict=True)]
        self.starts = starts
        self.names = self._stages[-1].names
        odd = next((views.names for views in self._stages if views.names != self.names), None)
        if odd is not None:
            raise DataError(
                f"views 'stages': one stage makes {', '.join(odd)}, the last {', '.join(self.names)}: all need the same views"
            )
        self.facts: Facts = self._stages[-1].facts

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """A rising start for each stage, the first at 0."""
        yield from check_starts(settings["starts"], len(settings["stages"]), "stages")
        if settings["frames"] and len(settings["frames"]) != len(settings["stages"]):
            yield f"frames: {len(settings['frames'])} for {len(settings['stages'])} stages: give each its number of frames, or none"

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """The views of the stage of this epoch."""
        return self._stages[stage(self.starts, epoch)](batch, seed, epoch)  # type: ignore[no-any-return]

    def plain(self, batch: Batch) -> Batch:
        """The evaluation view of the last stage."""
        return self._stages[-1].plain(batch)  # type: ignore[no-any-return]


def _of(facts: Facts, frames: int | None) -> Facts:
    """The facts of clips of this length."""
    if frames is None:
        return facts
    if facts.shape is not None:
        return replace(facts, shape=(frames, *facts.shape[-2:]))
    return replace(facts, frames=frames)
