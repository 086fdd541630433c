"""A linear probe that learns beside the encoder: the cheapest look at accuracy while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError, TacitError
from tacit.core.values import Features
from tacit.data.checks import evenly
from tacit.runs.build import Built, split_of
from tacit.training.hooks import Context

__all__ = ["OnlineProbe"]

_RATE, _MOMENTUM = 0.1, 0.9
_TESTED = 1024  # samples of the test split, evenly spaced
_EPS = 1e-5


class OnlineProbe:
    """A linear classifier on the encoder's output of the first view of every training batch, learned by its own descent.

    The features are detached and the labels go nowhere else, so that the weights of the run are bit for bit those without it. Features
    are standardised by their batch (by running averages where it is tested); SGD, momentum 0.9, rate 0.1 falling as half a cosine.
    Logged: `probe_accuracy`, the share of training samples that it named right before it learned from them, since the last
    logging step; `probe_test_accuracy` on at most 1,024 samples of the test split, where there is one, on judging steps.

    A proxy that follows offline probes closely; numbers to report come from `tacit probe`.
    """

    name = "probe"

    def __init__(self, built: Built) -> None:
        encoder = getattr(built.system, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise RecipeError(
                "checks.probe: the system has no encoder whose output a probe could read: set checks.probe=false"
            )
        if built.recipe.machine.compile:
            raise RecipeError(
                "checks.probe: it reads the encoder's output by a hook, which a compiled network does not call: set "
                "machine.compile=false or checks.probe=false"
            )
        self.classes = len(built.source.facts.classes)
        if self.classes < 2:
            raise DataError(
                "checks.probe: the data name no classes, and a probe needs two or more: set checks.probe=false"
            )
        self._built, self._labels = built, None
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._first = False
        self._handles = (
            built.system.register_forward_pre_hook(self._begin, with_kwargs=True),
            encoder.register_forward_hook(self._note),
        )
        self._test: tuple[Tensor, Tensor] | None = None
        self._right = self._count = 0
        self._state: dict[str, Tensor] = {}
        self._last = float("nan")

    def _begin(self, _system: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """A batch enters the network: keep its labels, and take the next output of the encoder."""
        batch = given[0] if given else named.get("batch")
        facts = getattr(batch, "facts", {})
        self._labels = facts.get("label")
        self._first = self._labels is not None

    def _note(self, encoder: nn.Module, _inputs: Any, output: Any) -> None:
        if self._first and encoder.training and self._labels is not None:
            self._first = False
            z = output.pooled if isinstance(output, Features) else output
            self._seen.append((z.detach().float(), self._labels))

    def __call__(self, step: int, terms: Mapping[str, Tensor], context: Context) -> None:  # noqa: ARG002
        """Learn from what the step has shown; log on logging and judging steps."""
        for z, y in self._seen:
            ranks = context.runtime.ranks
            z, y = (ranks.gather(z), ranks.gather(y)) if ranks.size > 1 else (z, y)
            known = y >= 0
            if int(known.sum()) > 1:
                self._learn(z[known], y[known], step / context.steps)
        self._seen.clear()
        if context.logging and self._count:
            self._last = self._right / self._count
            context.log("probe_accuracy", self._last)
            self._right = self._count = 0
        every = context.recipe.checks.judge_every
        if self._state and (context.last or (every and step % every == 0)):
            accuracy = self._tested(context)
            if accuracy is not None:
                context.log("probe_test_accuracy", accuracy)
        if context.logging and self._last == self._last:
            context.values = {**context.values, "probe_accuracy": self._last}

    @torch.no_grad()
    def _learn(self, z: Tensor, y: Tensor, progress: float) -> None:
        s = self._ready(z)
        var, mean = torch.var_mean(z, dim=0, correction=0)
        s["mean"].lerp_(mean, 1 - _MOMENTUM)
        s["var"].lerp_(var, 1 - _MOMENTUM)
        x = (z - mean) / (var + _EPS).sqrt()
        logits = torch.addmm(s["bias"], x, s["weight"].T)
        self._right += int((logits.argmax(dim=1) == y).sum())
        self._count += len(y)
        wrong = logits.softmax(dim=1)
        wrong[torch.arange(len(y), device=y.device), y] -= 1
        wrong /= len(y)
        rate = _RATE * (1 + math.cos(math.pi * progress)) / 2
        for name, gradient in (("weight", wrong.T @ x), ("bias", wrong.sum(dim=0))):
            speed = s[f"speed of {name}"].mul_(_MOMENTUM).add_(gradient)
            s[name].sub_(rate * speed)

    def _ready(self, z: Tensor) -> dict[str, Tensor]:
        if not self._state:
            d, c = z.shape[1], self.classes
            shapes = {"weight": (c, d), "speed of weight": (c, d), "bias": (c,), "speed of bias": (c,), "mean": (d,)}
            self._state = {name: z.new_zeros(shape) for name, shape in shapes.items()}
            self._state["var"] = z.new_ones(d)
        elif self._state["mean"].device != z.device:
            self._state = {name: value.to(z.device) for name, value in self._state.items()}
        return self._state

    @torch.no_grad()
    def _tested(self, context: Context) -> float | None:
        """Accuracy on the test sample; None where there is no test split with labels."""
        if self._test is None:
            self._test = self._sample()
        images, labels = self._test
        if not len(labels):
            return None
        system, s = self._built.system, self._state
        training, right = system.training, 0
        system.eval()
        try:
            with context.runtime.autocast():
                for x, y in zip(images.split(256), labels.split(256), strict=True):
                    z = system.embed(x.to(context.runtime.device)).pooled.float()
                    logits = torch.addmm(s["bias"], (z - s["mean"]) / (s["var"] + _EPS).sqrt(), s["weight"].T)
                    right += int((logits.argmax(dim=1).cpu() == y).sum())
        finally:
            system.train(training)
        return right / len(labels)

    def _sample(self) -> tuple[Tensor, Tensor]:
        empty = torch.empty(0), torch.empty(0, dtype=torch.int64)
        for split in ("test", "val"):
            try:
                source = split_of(self._built.recipe, split)
            except TacitError:
                continue
            read = self._built.views.plain(source.read(evenly(len(source), _TESTED)))
            data: Any = read.views["image"].data
            if "label" in read.facts:
                return (data if isinstance(data, Tensor) else torch.stack(data)), read.facts["label"].cpu()
        return empty

    def state_dict(self) -> dict[str, Any]:
        """The classifier, its momentum, and what was counted since the last logging step."""
        return {"tensors": dict(self._state), "right": self._right, "count": self._count, "last": self._last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as before."""
        self._state = dict(state["tensors"])
        self._right, self._count, self._last = state["right"], state["count"], state["last"]

    def close(self, status: str) -> None:  # noqa: ARG002
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()
