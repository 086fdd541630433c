"""The attentive probe: one learned query reads all tokens of a frozen encoder, then a linear map (arXiv 2404.08471)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.random import order, torch_seed
from tacit.models.attentive import AttentiveProbe
from tacit.probing.arrays import as_labels, check_unseen
from tacit.probing.subsets import folds

__all__ = ["FittedAttentive", "fit_attentive"]

RATES = (3e-4, 1e-3, 3e-3)


@dataclass(frozen=True)
class FittedAttentive:
    """A trained probe; `chosen` by held-out training samples, `held_out` its accuracy there (nan where nothing was held out)."""

    probe: nn.Module
    mean: Tensor
    std: Tensor
    chosen: dict[str, float]
    held_out: float

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """[m c] for tokens [m t d]."""
        found = [self.probe((part.float() - self.mean) / self.std) for part in tokens.split(256)]
        return torch.cat(found)


def fit_attentive(
    tokens: Any,
    labels: Any,
    *,
    ids: Any = None,
    heads: int = 4,
    depth: int = 1,
    rates: Sequence[float] = RATES,
    epochs: int = 20,
    batch: int = 256,
    decay: float = 1e-2,
    seed: int = 0,
    classes: int | None = None,
) -> FittedAttentive:
    """Train an attentive pooler with a linear classifier on tokens [n t d] and labels [n]; a function of its arguments.

    AdamW, a tenth of warm-up, then half a cosine to zero. The rate of highest accuracy on a held-out fifth of each class is
    taken (of equals the one of least cross entropy) and the probe trained anew on all; with a single sample of some class 1e-3. Features
    are standardised by the statistics of all training tokens. heads falls to the largest number that divides d.
    """
    x, y = torch.as_tensor(tokens).detach().float(), as_labels(labels, "train")
    if x.ndim != 3 or len(x) != len(y) or 0 in x.shape:
        raise DataError(
            f"an attentive probe reads tokens [samples tokens features] with a label each, found {list(x.shape)} and {len(y)} labels: "
            "use an encoder that gives tokens"
        )
    check_unseen(y, y)
    c, d = classes or int(y.max()) + 1, x.shape[2]
    heads = max(h for h in range(1, min(heads, d) + 1) if d % h == 0)
    std, mean = torch.std_mean(x.double(), dim=(0, 1))
    mean, std = mean.float(), std.clamp(min=1e-6 * float(std.max()) + 1e-12).float()
    x, y = (x - mean) / std, y.to(x.device)
    part = folds(y.cpu().numpy(), ids, seed=seed, rounds=1) if len(rates) > 1 else None
    rate, held_out = (rates[0] if len(rates) == 1 else 1e-3), float("nan")
    if part is not None:
        inside = torch.as_tensor(part == 0, device=x.device)
        tried = []
        for one in rates:
            probe = _train(x[~inside], y[~inside], c, heads, depth, one, epochs, batch, decay, seed)
            with torch.no_grad():
                logits = torch.cat([probe(some) for some in x[inside].split(256)])
            right = float((logits.argmax(dim=1) == y[inside]).double().mean())
            tried.append((right, -float(F.cross_entropy(logits, y[inside])), one))
        held_out, _, rate = max(tried)
    probe = _train(x, y, c, heads, depth, rate, epochs, batch, decay, seed)
    return FittedAttentive(probe, mean, std, {"rate": rate, "heads": float(heads)}, held_out)


def _train(
    x: Tensor,
    y: Tensor,
    classes: int,
    heads: int,
    depth: int,
    rate: float,
    epochs: int,
    batch: int,
    decay: float,
    seed: int,
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(torch_seed(seed, "attentive"))
        probe = AttentiveProbe(x.shape[2], classes, heads=heads, depth=depth).to(x.device)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=rate, weight_decay=decay)
    each = -(-len(x) // batch)
    steps = epochs * each
    for step in range(steps):
        epoch, at = divmod(step, each)
        rows = torch.from_numpy(order(seed, epoch, len(x))[at * batch : (at + 1) * batch])
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / max(1, 0.1 * steps), 0.5 + 0.5 * float(np.cos(np.pi * progress)))
        found = probe(x[rows])
        loss = F.cross_entropy(found, y[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return copy.deepcopy(probe).eval().requires_grad_(False)
