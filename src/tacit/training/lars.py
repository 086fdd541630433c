"""LARS: SGD whose rate adapts to each tensor, so that every layer moves by the same fraction of its norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Lars"]

Definition = Literal["vicreg", "bolts"]


class Lars(Optimizer):
    """Layer-wise adaptive rate scaling (arXiv 1708.03888) in the two definitions that published recipes rely on.

    p a tensor, g its gradient, wd the weight decay, eta the trust coefficient, mu the momentum buffer:

        'vicreg':  d = g + wd p;  d *= eta |p| / |d|                           (code of Barlow Twins and VICReg)
        'bolts':   d = q (g + wd p),  q = eta |p| / (|g| + wd |p| + 1e-8)      (lightly, solo-learn, timm)
        both:      mu = momentum mu + d (the first mu is d);  p -= lr mu

    In both, biases and norms (tensors of at most one axis, and groups with decay False) take g as it is: no decay, no
    adaptation. Where a norm is zero the factor is 1, and 'bolts' drops the decay there too. `clip` bounds q by lr, so that
    the step is never longer than SGD's: min(q / lr, 1) (solo-learn's `clip_lr`, known as LARC); for 'bolts' alone.
    'vicreg' adapts with weight decay 0 as well; so does 'bolts' here, where lightly and timm would not.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        definition: Definition = "vicreg",
        clip: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "decay": True}
        super().__init__(params, defaults)
        self.eta, self.definition, self.clip = eta, definition, clip

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update. `closure` recomputes the loss, as in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            adapted = [p for p in moved if p.ndim > 1] if group["decay"] else []
            chosen = {id(p) for p in adapted}
            plain = [p for p in moved if id(p) not in chosen]
            if adapted:
                self._move(adapted, self._adapt(adapted, group), group)
            if plain:
                self._move(plain, [_gradient(p) for p in plain], group)
        return loss

    def _adapt(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        gradients = [_gradient(p) for p in params]
        decay, lr = group["weight_decay"], group["lr"]
        decayed = torch._foreach_add(gradients, params, alpha=decay)
        size = torch._foreach_norm(params)
        if self.definition == "vicreg":
            length = torch._foreach_norm(decayed)
            factor = [torch.where((s > 0) & (n > 0), self.eta * s / n, 1.0) for s, n in zip(size, length, strict=True)]
            return list(torch._foreach_mul(decayed, factor))
        steps = []
        for s, n, d, g in zip(size, torch._foreach_norm(gradients), decayed, gradients, strict=True):
            q = self.eta * s / (n + decay * s + 1e-8)
            if self.clip:
                q = (q / lr).clamp(max=1.0) if lr > 0 else torch.ones_like(q)
            steps.append(torch.where((s > 0) & (n > 0), q * d, g))
        return steps

    def _move(self, params: list[Tensor], steps: list[Tensor], group: dict[str, Any]) -> None:
        if group["momentum"]:
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, steps)
            steps = buffers
        torch._foreach_add_(params, steps, alpha=-group["lr"])


def _gradient(p: Tensor) -> Tensor:
    return p.grad  # type: ignore[return-value]  # only called where it is not None
