"""Teachers: what a student's prediction is compared with. A teacher's output carries no gradient."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.training.ema import follow, momentum_at

__all__ = ["EMA", "Twin"]

Momentum = Annotated[float, Ge(0), Le(1)]


@part("teacher", "ema")
class EMA(nn.Module):
    """A copy of encoder and projector that follows the student: weights <- m weights + (1 - m) student after every step.

        m(progress) = final - (final - momentum) (cos(pi progress) + 1) / 2

    momentum = final holds m fixed. Only parameters are averaged. In train mode the teacher's batch norms use their own batch, as
    in BYOL's code, and their running statistics are copies of the student's.
    Source: arXiv 2006.07733: 0.996 for 1,000 epochs, 0.99 for 300.
    """

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, *, momentum: Momentum = 0.996, final: Momentum = 1.0
    ) -> None:
        super().__init__()
        self.momentum, self.final = momentum, final
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.projector = copy.deepcopy(projector).requires_grad_(False)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["momentum"] > settings["final"]:
            yield (
                f"teacher 'ema' follows ever more slowly, found momentum={settings['momentum']} above "
                f"final={settings['final']}: swap them, or set both alike"
            )
        if settings["momentum"] == 1:
            yield (
                "teacher 'ema' with momentum 1 never moves from the first weights: take a momentum below 1, for example 0.996"
            )

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "n c h w"], z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:  # noqa: ARG002
        """The teacher's own output for the view `x`; the student's, `z`, is not looked at."""
        return self.projector(self.encoder(x).pooled)  # type: ignore[no-any-return]

    @torch.no_grad()
    def embedding(self, x: Float[Tensor, "n c h w"], z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:  # noqa: ARG002
        """The teacher's own embedding before the prototypes of its head."""
        return self.projector.embedding(self.encoder(x).pooled)  # type: ignore[no-any-return, operator]

    def head(self, own: nn.Module) -> nn.Module:  # noqa: ARG002
        """The teacher's projector."""
        return self.projector

    def after_step(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """Follow the student."""
        momentum = momentum_at(progress, self.momentum, self.final)
        follow(self.encoder, encoder, momentum)
        follow(self.projector, projector, momentum)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"momentum={self.momentum}, final={self.final}"


@part("teacher", "twin")
class Twin(nn.Module):
    """The student itself with its gradient stopped: nothing is copied, no second pass is made (SimSiam, SwAV, NNCLR).

    Source: arXiv 2011.10566.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:  # noqa: ARG002
        super().__init__()

    def forward(self, x: Float[Tensor, "n c h w"], z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:  # noqa: ARG002
        """The student's own output, before its predictor."""
        return z.detach()

    def embedding(self, x: Float[Tensor, "n c h w"], z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:  # noqa: ARG002
        """The student's own embedding before the prototypes of its head, `z`."""
        return z.detach()

    def head(self, own: nn.Module) -> nn.Module:
        """The student's projector."""
        return own

    def after_step(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """Nothing: it is the student."""
