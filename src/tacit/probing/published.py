"""The linear evaluations of published codes, with their optimisers, rates, batch sizes and starts.

Legend: n samples, d features, c classes, p heads trained together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.core.random import order, torch_seed
from tacit.ops.softmax import head_gradients
from tacit.probing.arrays import as_features, as_labels, check_pair, check_unseen
from tacit.probing.linear import Fitted, Scale
from tacit.probing.protocols import Published
from tacit.probing.subsets import folds
from tacit.training.lars import Lars

__all__ = ["fit_published"]

_MOMENTUM, _START = 0.9, 0.01
_NORM_EPS, _NORM_MOMENTUM = 1e-6, 0.1  # of MAE's batch norm


def fit_published(
    train: Any,
    labels: Any,
    how: Published,
    *,
    ids: Any = None,
    classes: int | None = None,
    seed: int = 0,
    epoch: Callable[[int], Tensor] | None = None,
    parts: int = 1,
) -> Fitted:
    """Fit the linear map of a published protocol to features [n d] and labels [n].

    epoch: the features [n d] of a training epoch, augmented anew, in the order of `train`; without it `train` serves every epoch (the
    protocol is then named 'cached'). Weights start as N(0, 0.01), drawn from `seed`, biases at zero. Of several rates the one of
    highest accuracy on a held-out fifth of each class is refitted on all. parts: how many features of one width stand side by side in a
    row, class tokens of blocks and then the mean patch: what 'grid' chooses from.
    """
    x, y = as_features(train, "train"), as_labels(labels, "train")
    check_pair(x, y, "train")
    check_unseen(y, y)
    y, c = y.to(x.device), classes or int(y.max()) + 1
    rates, columns, held_out = (
        list(how.rates),
        _columns(x.shape[1], parts if how.features == "grid" else 1),
        float("nan"),
    )
    part = folds(y.cpu().numpy(), ids, seed=seed, rounds=1) if len(rates) * len(columns) > 1 else None
    if part is None:
        rates, columns = rates[-1:], dict(list(columns.items())[:1])
    else:
        inside = torch.as_tensor(part == 0, device=x.device)
        rows = (~inside).nonzero()[:, 0]
        tried = []
        for name, at in columns.items():
            weight, bias, _ = _descend(x, y, how, rates, c, seed, epoch, rows, at)
            logits = torch.einsum("nd,pcd->npc", x[inside][:, at], weight) + bias
            right = (logits.argmax(dim=2) == y[inside, None]).double().mean(dim=0)
            best = int(right.argmax())
            tried.append((float(right[best]), name, rates[best]))
        held_out, name, rate = max(tried, key=lambda one: one[0])
        rates, columns = [rate], {name: columns[name]}
    ((blocks, average), at), *_ = columns.items()
    weight, bias, scale = _descend(x, y, how, rates, c, seed, epoch, torch.arange(len(x), device=x.device), at)
    chosen = {"rate": rates[0], **({"blocks": float(blocks), "average": float(average)} if blocks else {})}
    whole = x.new_zeros(c, x.shape[1])
    whole[:, at] = weight[0]
    mean, std = torch.zeros_like(whole[0]).double(), torch.ones_like(whole[0]).double()
    mean[at], std[at] = scale.mean, scale.std
    return Fitted(Scale(mean, std), whole, bias[0], chosen, held_out)


def _columns(width: int, parts: int) -> dict[tuple[int, int], slice]:
    """Columns by (blocks, with the mean patch): all of them under (0, 0), or what DINOv2 tries of class tokens and a mean patch."""
    if parts == 1:
        return {(0, 0): slice(0, width)}
    each, count = width // parts, parts - 1
    found = {}
    for blocks in sorted({1, count}):
        for average in (0, 1):
            found[blocks, average] = slice((count - blocks) * each, (count + average) * each)
    return found


def _descend(
    x: Tensor, y: Tensor, how: Published, rates: list[float], classes: int, seed: int,
    epoch_of: Callable[[int], Tensor] | None, rows: Tensor, columns: slice,
) -> tuple[Tensor, Tensor, Scale]:  # fmt: skip
    """Weights [p c d], biases [p c] and the normalisation that they stand on, learned from the samples at `rows` and `columns`."""
    n, d = len(rows), len(range(*columns.indices(x.shape[1])))
    batch = min(how.batch, n)
    each = max(1, n // batch) if how.steps else -(-n // batch)
    steps = how.steps or how.epochs * each
    generator = torch.Generator().manual_seed(torch_seed(seed, "published"))
    start = torch.randn(classes, d, generator=generator).to(x) * _START
    weight, bias = start.repeat(len(rates), 1, 1), x.new_zeros(len(rates), classes)
    peak = torch.tensor(rates, device=x.device, dtype=x.dtype) * (batch / 256)
    speed_w, speed_b = torch.zeros_like(weight), torch.zeros_like(bias)
    lars = _Lars(weight, bias, how) if how.optimizer == "lars" else None
    mean, var = x.new_zeros(d), x.new_ones(d)
    current = x
    for step in range(steps):
        epoch, at = divmod(step, each)
        if at == 0 and epoch_of is not None:
            current = epoch_of(epoch).to(x)
        chosen = torch.from_numpy(order(seed, epoch, n)[at * batch : (at + 1) * batch]).to(x.device)
        z, t = current[rows[chosen]][:, columns], y[rows[chosen]]
        if how.norm and len(z) > 1:
            v, m = torch.var_mean(z, dim=0, correction=0)
            mean.lerp_(m, _NORM_MOMENTUM)
            var.lerp_(v * (len(z) / (len(z) - 1)), _NORM_MOMENTUM)
            z = (z - m) / (v + _NORM_EPS).sqrt()
        rate = peak * _factor(step, steps, each, how)
        grad_w, grad_b = head_gradients(z, t, weight, bias, None)
        if lars is not None:
            lars.step(grad_w, grad_b, float(rate[0]))
            continue
        speed_w.mul_(_MOMENTUM).add_(grad_w.add_(how.decay * weight))
        speed_b.mul_(_MOMENTUM).add_(grad_b.add_(how.decay * bias))
        ahead = (grad_w.add_(speed_w, alpha=_MOMENTUM), grad_b.add_(speed_b, alpha=_MOMENTUM)) if how.nesterov else None
        weight -= rate[:, None, None] * (ahead[0] if ahead else speed_w)
        bias -= rate[:, None] * (ahead[1] if ahead else speed_b)
    broken = ~(torch.isfinite(weight).all(dim=2).all(dim=1) & torch.isfinite(bias).all(dim=1))
    weight[broken], bias[broken] = 0, 0
    scale = (
        Scale(mean.double(), (var.double() + _NORM_EPS).sqrt())
        if how.norm
        else Scale(mean.double(), torch.ones_like(var).double())
    )
    return weight, bias, scale


def _factor(step: int, steps: int, each: int, how: Published) -> float:
    """The rate over its peak: linear warm-up by epochs, then half a cosine; once an epoch where the code steps once an epoch."""
    warm = how.warmup * each
    if step < warm:
        return step / warm
    if how.per_epoch:
        step = step // each * each
    return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


class _Lars:
    """LARS over one head: the optimiser of training, fed with gradients that are known in closed form."""

    def __init__(self, weight: Tensor, bias: Tensor, how: Published) -> None:
        self._weight, self._bias = weight[0], bias[0]
        parameters = [torch.nn.Parameter(self._weight), torch.nn.Parameter(self._bias)]
        self._optimizer = Lars(parameters, lr=1.0, momentum=_MOMENTUM, weight_decay=how.decay)
        self._parameters = parameters

    def step(self, grad_w: Tensor, grad_b: Tensor, rate: float) -> None:
        """One update; the parameters share memory with the weights handed in."""
        for p, g in zip(self._parameters, (grad_w[0], grad_b[0]), strict=True):
            p.grad = g
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
