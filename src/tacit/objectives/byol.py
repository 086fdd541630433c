"""BYOL and SimSiam: predict the embedding that a teacher gives another view. One equation in two conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from tacit.core.parts import part
from tacit.core.ranks import Ranks
from tacit.objectives.distillation import Distillation
from tacit.ops.similarity import cosine, unit

__all__ = ["BYOL", "SimSiam"]


class _Prediction(Distillation):
    """The target is the teacher's direction, and nothing is remembered."""

    def _target(self, teacher: Tensor, ranks: Ranks, progress: float) -> Tensor:  # noqa: ARG002
        return unit(teacher)

    def _remember(self, teacher: Sequence[Tensor], ranks: Ranks) -> None:
        """Nothing."""


@part("objective", "byol")
class BYOL(_Prediction):
    """Predict the direction of the teacher's embedding of another view.

        loss = over both directions, mean_i (2 - 2 cosine(prediction_i, stop-gradient target_i))

    A system gives the mean over directions. over 'sum', the paper's, counts the two directions of a pair of views fully, so
    the loss lies in [0, 8]; 'mean', of many ports, lies in [0, 4] and asks for twice the rate. Wants a predictor and a teacher
    that follows slowly: without the predictor everything becomes equal. Source: arXiv 2006.07733 eq. 2.
    """

    kind: ClassVar[str] = "byol"

    def __init__(self, *, over: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self.over = over

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:  # noqa: ARG002
        return {"loss": (2 if self.over == "sum" else 1) * (2 - 2 * cosine(student, target)).mean()}

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"over={self.over!r}"


@part("objective", "simsiam")
class SimSiam(_Prediction):
    """Predict the direction of the network's own embedding of another view, held fixed.

        loss = -mean over both directions of mean_i cosine(prediction_i, stop-gradient target_i), in [-1, 1]

    BYOL's equation without the constant, at a quarter of its scale. The teacher is the 'twin'; without predictor or
    stopped gradient it collapses. Source: arXiv 2011.10566 eq. 1.
    """

    kind: ClassVar[str] = "simsiam"

    def __init__(self) -> None:
        super().__init__()

    def _compare(self, student: Tensor, target: Tensor, ranks: Ranks) -> dict[str, Tensor]:  # noqa: ARG002
        return {"loss": -cosine(student, target).mean()}
