"""What a run does beside its steps: judge its embedding without labels, export its parts, feed trackers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.data.checks import evenly
from tacit.judging import Panel, ViewPanel
from tacit.runs.augmented import view_embeddings
from tacit.runs.build import Built, export
from tacit.training.folder import Folder
from tacit.training.hooks import Context

__all__ = ["ExportHook", "JudgeHook", "TrackerHook"]

_JUDGED = 1024  # samples; four times the width of a small projector, a fraction of a second on a CPU
_VIEWED, _AUGMENTED = 128, 4  # samples and augmented views of each, for LiDAR and alignment
_PAIRED = 512  # samples for uniformity
_LOGGED = {
    "rankme": "rankme", "alpha-req": "alpha_req", "nesum": "nesum", "stable-rank": "stable_rank", "self-cluster": "self_cluster",
    "uniformity": "uniformity", "lidar": "lidar", "alignment": "alignment",
}  # fmt: skip

_FLAT = 1.5  # RankMe of an embedding that has one direction left
_SHRUNK = 0.02  # share of its largest standard deviation at which an embedding counts as shrunk to a point
_EARLY = 0.1  # share of the run in which no warning is given


class JudgeHook:
    """Label-free criteria of the embedding of a fixed sample of the training set, at step 1 and every `judge_every` steps.

    The sample is evenly spaced over the source, at most 1,024, in plain views; its RankMe is comparable within a run, not between
    runs of other sizes. LiDAR and alignment look at 4 augmented views of 128 of them. All draws are functions of the recipe's
    seed. A collapse is a warning with its likely cause, once.
    """

    name = "judge"

    def __init__(self, built: Built) -> None:
        n = len(built.source)
        self._built, self._chosen, self._viewed = built, evenly(n, _JUDGED), evenly(n, _VIEWED)
        self._images: Tensor | None = None
        self._last: float | None = None
        self._peak = 0.0
        self._warned = False

    def __call__(self, step: int, terms: Mapping[str, Tensor], context: Context) -> None:  # noqa: ARG002
        """Judge on judging steps; show the last value on logging steps."""
        every = context.recipe.checks.judge_every
        if every and (step == 1 or step % every == 0 or context.last):
            self._judge(context)
        if context.logging and self._last is not None:
            context.values = {**context.values, "rankme": self._last}

    def _judge(self, context: Context) -> None:
        if self._images is None:
            data = self._built.views.plain(self._built.source.read(self._chosen)).views["image"].data
            self._images = data if isinstance(data, Tensor) else torch.stack(data)
        system, training = self._built.system, self._built.system.training
        system.eval()
        panel, viewed = Panel(sample=_PAIRED, clusters=False), ViewPanel()
        recipe, device = context.recipe, context.runtime.device
        try:
            with torch.no_grad(), context.runtime.autocast():
                for images in self._images.split(256):
                    panel.update(system.project(images.to(device)).float().cpu())
                for z in view_embeddings(
                    system.project,
                    self._built.source,
                    self._built.views,
                    self._viewed,
                    _AUGMENTED,
                    seed=recipe.seed,
                    device=device,
                ):
                    viewed.update(z)
        finally:
            system.train(training)
        scores = [*panel.scores(), *(viewed.scores() if len(self._viewed) > 1 else [])]
        rank, spread = scores[0], panel.collapse.compute()
        std = float(panel.collapse.spread().mean())
        self._last, self._peak = rank.value, max(self._peak, std)
        seen: set[str] = set()
        for score in scores:
            name = _LOGGED.get(score.protocol.partition("@")[0].partition("/")[0], "")
            if name and name not in seen and score.value == score.value:
                seen.add(name)  # the first form of each: RankMe as published
                context.log(name, score.value)
        context.log("embedding_std", std)
        cause = spread.note or (rank.note if rank.value < _FLAT else "")
        if std < _SHRUNK * self._peak:
            cause = (
                f"the embedding's standard deviation fell to {std:.1e}, from {self._peak:.1e} before: all samples are drawn to "
                "one point; check the weight of the variance or repulsion term and the learning rate"
            )
        settled = context.step > _EARLY * context.steps  # an untrained network looks collapsed, and need not stay so
        if cause and settled and not self._warned:
            self._warned = True
            if context.runtime.leads:
                Folder(context.folder).note(f"step {context.step}: {cause}", logging.WARNING)

    def state_dict(self) -> dict[str, Any]:
        """What the next start shows before it judges again."""
        return {"last": self._last, "peak": self._peak, "warned": self._warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as before."""
        self._last, self._peak, self._warned = state["last"], state["peak"], state["warned"]

    def close(self, status: str) -> None:
        """Nothing is held."""


class ExportHook:
    """Writes `export/<part>/` whenever a checkpoint is due, so that a running encoder can be loaded."""

    def __init__(self, built: Built) -> None:
        self._built = built

    def __call__(self, step: int, terms: Mapping[str, Tensor], context: Context) -> None:  # noqa: ARG002
        """Export on saving steps. Sharded weights are exported when the run has ended."""
        every = context.recipe.checks.save_every
        due = bool(every and step % every == 0) and not context.last
        if due and context.runtime.leads and not context.runtime.sharded:
            export(self._built, context.folder)

    def close(self, status: str) -> None:
        """Nothing is held."""


class TrackerHook:
    """Passes the values of logging steps on to trackers (TensorBoard and kin)."""

    def __init__(self, trackers: Sequence[Any]) -> None:
        self._trackers = trackers

    def __call__(self, step: int, terms: Mapping[str, Tensor], context: Context) -> None:  # noqa: ARG002
        """Log where the run logs."""
        if context.logging:
            for tracker in self._trackers:
                tracker.log(step, {**context.values, "rate": context.rate})

    def close(self, status: str) -> None:
        """Close the trackers' files."""
        for tracker in self._trackers:
            tracker.close(status)
