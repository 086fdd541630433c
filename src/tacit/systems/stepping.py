"""Time-stepping: from a history of frames to the next ones, perhaps told what the equation is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import Spec, StepperSpec
from tacit.core.values import Batch, Facts
from tacit.models.steppers import Ports
from tacit.systems.conditioning import Condition, Kind

__all__ = ["TimeStepping", "nmse"]

_STEPPER = Spec("stepper", "cnn")


@part("system", "time-stepping")
class TimeStepping(nn.Module):
    """Train a stepper f so that the next frames follow from the last ones: y = f(history, condition, action).

    The view "window" [n c w *space] holds `history` frames and some whole windows of `horizon` frames after them.

        loss "square":  mean over samples of the sum over frames and fields of the spatial mean of (y - target)^2
        loss "nmse":    mean over samples of sum (y - target)^2 / sum target^2

    "square" is the published loss (PDEArena; LPSDA's differs by a constant factor, which Adam does not feel). With more
    than one window, unroll="pushforward" (arXiv 2202.03376) first rolls k of them out without a gradient, k uniform in
    0 .. windows - 1, and learns on the next one from its own faulty history; "through" learns on all of them with the
    gradient through the roll-out; "first" learns on the first alone.

    condition: "none", "coefficient" (the facts named by `coefficients`), "representation" (the frozen encoder exported in
    `representation`, applied to the view "context"), "untrained" (the same encoder with fresh weights). predict="change"
    adds the output to the last frame that was read.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        stepper: StepperSpec = _STEPPER,
        history: Annotated[int, Gt(0)] = 20,
        horizon: Annotated[int, Gt(0)] = 20,
        condition: Kind = "none",
        coefficients: tuple[str, ...] = ("viscosity",),
        representation: str = "",
        bottleneck: Annotated[int, Ge(0)] = 0,
        standardise: bool = True,
        predict: Literal["frame", "change"] = "frame",
        loss: Literal["square", "nmse"] = "square",
        unroll: Literal["first", "pushforward", "through"] = "first",
    ) -> None:
        super().__init__()
        length, *space = facts.shape or (0,)
        self.windows, rest = divmod(length - history, horizon)
        if rest or self.windows < 1:
            raise RecipeError(
                f"history and horizon: a window of {length} frames is not history={history} and whole windows of"
                f" horizon={horizon}: give the views the same two numbers"
            )
        if unroll != "first" and self.windows == 1:
            raise RecipeError(
                f"unroll={unroll!r} needs more than one window to roll over: set views.windows to 2 or more"
            )
        self.condition = Condition(condition, coefficients, representation, bottleneck, standardise)
        ports = Ports(facts.channels, history, horizon, len(space), self.condition.dim, facts.action_dim)
        self.stepper = stepper.build(ports)
        self.history, self.horizon, self.predict = history, horizon, predict
        self.loss_name, self.unroll = loss, unroll

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        kind = settings["condition"]
        if kind in ("representation", "untrained") and not settings["representation"]:
            yield (
                f"representation: condition={kind!r} needs the folder of a run or of an export whose encoder is read:"
                " set system.representation"
            )
        if kind == "coefficient" and not settings["coefficients"]:
            yield "coefficients: condition='coefficient' needs the name of at least one fact of the data"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Without a condition nothing is read of it."""
        kind, found = settings["condition"], {}
        if kind != "coefficient":
            found["coefficients"] = "no coefficient is read"
        if kind not in ("representation", "untrained"):
            found["representation"] = "no encoder is read"
        if kind == "none":
            found |= dict.fromkeys(("bottleneck", "standardise"), "there is no condition")
            if "sinusoid" in settings["stepper"]:
                found["stepper.sinusoid"] = "there is no condition"
        return found

    def step(self, history: Tensor, condition: Tensor | None, action: Tensor | None) -> Tensor:
        """The next frames [n c horizon *space] after history [n c history *space]."""
        y = self.stepper(history, condition, action)
        return history[:, :, -1:] + y if self.predict == "change" else y

    def roll(self, history: Tensor, windows: int, condition: Tensor | None, action: Tensor | None) -> Tensor:
        """`windows` windows one after another, each read from what was predicted before: [n c windows*horizon *space]."""
        found = []
        for _ in range(windows):
            y = self.step(history, condition, action)
            found.append(y)
            history = torch.cat([history, y], 2)[:, :, -self.history :]
        return torch.cat(found, 2)

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """'loss' as chosen, and 'nmse' of the same frames."""
        window = batch.views["window"].data
        if not isinstance(window, Tensor):
            raise RecipeError("system 'time-stepping' needs windows of one size: use views 'windows' or 'lead-times'")
        c, a, h = self.condition(batch, ranks), batch.action, self.horizon
        history, future = window[:, :, : self.history], window[:, :, self.history :]
        if self.unroll == "pushforward":
            k = int(torch.randint(self.windows, ()))
            if k:
                with torch.no_grad():
                    known = self.roll(history, k, c, a)
                history = torch.cat([history, known], 2)[:, :, -self.history :]
                future = future[:, :, k * h :]
        windows = self.windows if self.unroll == "through" else 1
        y, target = self.roll(history, windows, c, a), future[:, :, : windows * h]
        relative = nmse(y, target)
        if self.loss_name == "square":
            loss = (y - target).square().flatten(3).mean(3).sum((1, 2)).mean()
        else:
            loss = relative.mean()
        return {"loss": loss, "nmse": relative.mean()}

    def forward(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The same as `loss`, so that DDP and FSDP can wrap the system."""
        return self.loss(batch, progress, ranks)

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """Weights with decay; biases and norms without. The encoder of the condition learns nothing."""
        learning = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if p.ndim > 1], "decay": True},
            {"params": [p for p in learning if p.ndim <= 1], "decay": False},
        ]

    def after_step(self, progress: float) -> None:
        """Nothing follows the step."""


def nmse(y: Tensor, target: Tensor) -> Tensor:
    """sum (y - target)^2 / sum target^2 over all but the first axis: [n]. 0 is exact, 1 is as good as predicting 0."""
    return (y - target).square().flatten(1).sum(1) / target.square().flatten(1).sum(1).clamp_min(1e-30)
