"""The supervised yardstick: the same encoder with a linear head, trained from its first weights on the labels alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core.random import order
from tacit.probing.linear import Scale

__all__ = ["fit_supervised"]

_WARM = 0.05  # share of the steps in which the rate rises


def fit_supervised(
    encoder: nn.Module,
    head: nn.Linear,
    pictures: Callable[[NDArray[np.int64], int], Tensor],
    targets: Tensor,
    *,
    steps: int,
    batch: int,
    rate: float = 1e-3,
    decay: float = 1e-4,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Callable[[Tensor], Tensor]:
    """Train encoder and head by squared error on standardised targets [n k]; a function from pictures [m c h w] to [m k].

    pictures: (rows, epoch) -> [b c h w], so that every epoch may crop anew. AdamW, a twentieth of warm-up, then half a cosine.
    The modules are trained in place, on `device`, where they stay; predictions are on the CPU.
    """
    n, batch = len(targets), min(batch, len(targets))
    scale = Scale.of(targets)
    y = scale(targets.float()).to(device)
    net = nn.ModuleList([encoder, head]).to(device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
    each = n // batch

    def factor(step: int) -> float:
        rising = (step + 1) / max(1, _WARM * steps)
        return min(rising, 0.5 + 0.5 * math.cos(math.pi * step / steps))

    for step in range(steps):
        epoch, at = divmod(step, each)
        rows = order(seed, epoch, n)[at * batch : (at + 1) * batch]
        for group in optimizer.param_groups:
            group["lr"] = rate * factor(step)
        found = head(encoder(pictures(rows, epoch).to(device)).pooled)
        loss = (found - y[torch.from_numpy(rows).to(device)]).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    net.eval()

    def predict(x: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [head(encoder(part.to(device)).pooled).cpu() for part in x.split(256)]
        return torch.cat(parts).double() * scale.std + scale.mean

    return predict
