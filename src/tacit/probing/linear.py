"""Linear classification of frozen features: a grid of heads in one pass, the best chosen on held-out training samples.

Two solvers share the choice: `logistic` (penalised, converges, the default) and `sgd` (DINOv2's protocol: momentum 0.9,
cosine to zero, a grid of rates). Features are standardised by the mean and deviation of the training set.
Legend: n samples, d features, c classes, p heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.random import key, torch_seed
from tacit.ops.softmax import cross_entropy, head_gradients
from tacit.probing.arrays import as_features, as_labels, check_pair, check_unseen
from tacit.probing.subsets import folds

__all__ = ["Fitted", "Scale", "fit_logistic", "fit_sgd", "logistic_heads", "sgd_heads"]

PENALTIES = tuple(10.0 ** (e / 2) for e in range(-12, 3))  # 1e-6 .. 10, on standardised features and the mean loss
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0)
DECAYS = (0.0, 1e-5, 1e-4, 1e-3)
FEW = 0.1  # the penalty where a class has one sample, so that nothing can be held out
_CELLS = 1 << 24  # logits held at once
_SMALLEST = 1e-12  # of the largest eigenvalue: below, a direction is rounding


@dataclass(frozen=True)
class Scale:
    """Standardisation by training statistics; features that do not vary are only centred."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Scale:
        """The statistics of x [n d]."""
        std, mean = torch.std_mean(x.double(), dim=0, correction=0)
        std = torch.where(std > 1e-6 * (mean.abs() + std.max()), std, torch.ones_like(std))
        return cls(mean, std)

    def __call__(self, x: Tensor) -> Tensor:
        """(x - mean) / std in the type of x."""
        return ((x.double() - self.mean) / self.std).to(x.dtype)


@dataclass(frozen=True)
class Fitted:
    """A linear classifier and the settings that the held-out samples chose."""

    scale: Scale
    weight: Tensor
    bias: Tensor
    chosen: dict[str, float]
    held_out: float  # accuracy on held-out training samples; nan where nothing was held out

    def logits(self, x: Any) -> Tensor:
        """[q c] for features [q d]."""
        x = as_features(x, "test").to(self.weight)
        return torch.addmm(self.bias, self.scale(x), self.weight.T)

    def predict(self, x: Any) -> Tensor:
        """Class of each row [q]; ties go to the lower class."""
        return self.logits(x).max(dim=1).indices


class Turned(NamedTuple):
    """Features x [n d] in the eigenvectors of x^T x / n that they reach: r = d of them, or at most n where n < d."""

    spectrum: Tensor  # [r], ascending
    basis: Tensor  # [d r], orthonormal
    z: Tensor  # [n r] = x basis, in the type of x

    @classmethod
    def of(cls, x: Tensor) -> Turned:
        """By the smaller of x^T x and x x^T, in float64."""
        wide = x.double()
        n, d = wide.shape
        if n >= d:
            spectrum, basis = torch.linalg.eigh(wide.T @ wide / n)
        else:
            spectrum, left = torch.linalg.eigh(wide @ wide.T / n)
            keep = spectrum > spectrum[-1] * _SMALLEST
            keep[-1] = True  # features that are all zero keep one direction, in which nothing moves
            spectrum, left = spectrum[keep], left[:, keep]
            basis = wide.T @ (left / (n * spectrum).clamp(min=torch.finfo(wide.dtype).tiny).sqrt())
        return cls(spectrum.clamp(min=0), basis, (wide @ basis).to(x.dtype))


def logistic_heads(
    x: Tensor,
    y: Tensor,
    penalties: Tensor,
    classes: int,
    *,
    share: Tensor | None = None,
    iterations: int = 300,
    tolerance: float = 1e-5,
    turned: Turned | None = None,
) -> tuple[Tensor, Tensor]:
    """Weights [p c d] and biases [p c] that minimise mean cross entropy + penalty/2 |w|^2, all p penalties together.

    Boehning's bound (1992) says the Hessian lies below x^T x / 2 + penalty; in the eigenbasis of x^T x that bound is a
    diagonal, shared by all heads. So each step is one gradient over a diagonal, with Nesterov's acceleration, restarted
    for each head where its gradient turns against its step. No rates to tune, no line search. The bias is not penalised.
    With fewer samples than features the weights lie in the span of the samples, and only those n directions are moved: the same steps.
    `share` [n p]: weights of the samples for each head, each column summing to at most 1. `turned`: `Turned.of(x)`, where it is known.
    """
    spectrum, basis, z = turned or Turned.of(x)
    n, d = z.shape
    p = len(penalties)
    most = (
        float(share.max()) * n if share is not None else 1.0
    )  # a weighted x^T x lies below this multiple of the plain one
    spectrum = spectrum * most
    step = (1 / (spectrum / 2 + penalties.double()[:, None] + 1e-12)).to(x.dtype)[:, None, :]
    penalty = penalties.to(x.dtype)[:, None, None]
    weight, bias = x.new_zeros(p, classes, d), x.new_zeros(p, classes)
    ahead_w, ahead_b = weight, bias
    time = x.new_ones(p)
    chunk = max(1, _CELLS // (p * classes))
    first: Tensor | None = None
    for _ in range(iterations):
        grad_w, grad_b = penalty * ahead_w, torch.zeros_like(bias)
        for start in range(0, n, chunk):
            part = slice(start, start + chunk)
            weights = share[part] if share is not None else x.new_full((len(z[part]), p), 1 / n)
            more_w, more_b = head_gradients(z[part], y[part], ahead_w, ahead_b, weights)
            grad_w += more_w
            grad_b += more_b
        move_w, move_b = ahead_w - grad_w * step, ahead_b - grad_b * (2 / most)
        delta_w, delta_b = move_w - weight, move_b - bias
        against = (grad_w * delta_w).sum(dim=(1, 2)) + (grad_b * delta_b).sum(dim=1) > 0
        time = torch.where(against, torch.ones_like(time), time)
        later = (1 + (1 + 4 * time.square()).sqrt()) / 2
        momentum = ((time - 1) / later) * ~against
        ahead_w = move_w + momentum[:, None, None] * delta_w
        ahead_b = move_b + momentum[:, None] * delta_b
        weight, bias, time = move_w, move_b, later
        size = (grad_w.square() * step).sum(dim=(1, 2)) + grad_b.square().sum(
            dim=1
        )  # squared, in the metric of the bound
        first = size if first is None else first
        if bool((size <= tolerance**2 * first).all()):
            break
    return (weight.double() @ basis.T).to(x.dtype), bias


def sgd_heads(
    x: Tensor,
    y: Tensor,
    rates: Tensor,
    decays: Tensor,
    classes: int,
    *,
    share: Tensor | None = None,
    epochs: int = 30,
    batch: int = 256,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Weights [p c d] and biases [p c] of p heads by stochastic gradient: head j has rates[j], decays[j] (as in torch's SGD).

    Momentum 0.9, cosine to zero; the order of the samples is a function of (seed, epoch), the same for every head. A head
    whose rate is too high diverges alone: its weights stop at the last finite ones.
    """
    n, d = x.shape
    p = len(rates)
    weight, bias = x.new_zeros(p, classes, d), x.new_zeros(p, classes)
    speed_w, speed_b = torch.zeros_like(weight), torch.zeros_like(bias)
    steps, done = epochs * -(-n // batch), 0
    decay = decays.to(x)[:, None, None]
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(torch_seed(seed, "sgd", epoch))
        order = torch.randperm(n, generator=generator).to(x.device)
        for rows in order.split(batch):
            weights = share[rows] * (n / len(rows)) if share is not None else None
            grad_w, grad_b = head_gradients(x[rows], y[rows], weight, bias, weights)
            rate = rates.to(x) * (0.5 * (1 + np.cos(np.pi * done / steps)))
            speed_w.mul_(0.9).add_(grad_w.add_(decay * weight))
            speed_b.mul_(0.9).add_(grad_b)
            weight -= rate[:, None, None] * speed_w
            bias -= rate[:, None] * speed_b
            done += 1
    broken = ~(torch.isfinite(weight).all(dim=2).all(dim=1) & torch.isfinite(bias).all(dim=1))
    weight[broken], bias[broken] = 0, 0
    return weight, bias


def _ready(train: Any, labels: Any, classes: int | None) -> tuple[Tensor, Tensor, int, Scale]:
    x, y = as_features(train, "train"), as_labels(labels, "train")
    check_pair(x, y, "train")
    check_unseen(y, y)
    scale = Scale.of(x)
    return scale(x), y.to(x.device), classes or int(y.max()) + 1, scale


def _shares(part: NDArray[np.int64], heads: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """For each fold, `heads` columns that weigh the samples outside it; and which samples are inside [n folds]."""
    inside = torch.as_tensor(part[:, None] == np.arange(part.max() + 1), device=device)
    outside = (~inside).to(dtype)
    return (outside / outside.sum(dim=0)).repeat_interleave(heads, dim=1), inside


def _choose(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Accuracy [h] and loss [h] of each of h settings on the held-out samples of all folds; heads are [fold, setting]."""
    k = inside.shape[1]
    h = len(weight) // k
    right, loss = torch.zeros(h, dtype=torch.float64), torch.zeros(h, dtype=torch.float64)
    for fold in range(k):
        rows = inside[:, fold].nonzero()[:, 0]
        heads = slice(fold * h, (fold + 1) * h)
        for some in rows.split(max(1, _CELLS // (h * weight.shape[1]))):
            logits = torch.einsum("nd,hcd->nhc", x[some], weight[heads]) + bias[heads]
            right += (logits.max(dim=2).indices == y[some, None]).sum(dim=0).double().cpu()
            loss += cross_entropy(logits, y[some]).double().sum(dim=0).cpu()
    held = float(inside.sum())
    return right / held, loss / held


def fit_logistic(
    train: Any,
    labels: Any,
    *,
    ids: Any = None,
    classes: int | None = None,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> Fitted:
    """Logistic regression on standardised features, its L2 penalty chosen on held-out training samples, then refitted on all.

    Held out: 5 stratified folds up to 5000 samples, one fold of a fifth beyond; folds are a function of (seed, ids). The
    penalty of highest accuracy is taken, of equals the one of least cross entropy. Where some class has a single sample
    nothing can be held out, and the penalty is FEW = 0.1.
    """
    x, y, c, scale = _ready(train, labels, classes)
    grid = torch.tensor(sorted(penalties), dtype=torch.float64, device=x.device)
    part = folds(y.cpu().numpy(), ids, seed=seed, rounds=5 if len(x) <= 5000 else 1) if len(grid) > 1 else None
    best, held_out = (float(grid[0]) if len(grid) == 1 else FEW), float("nan")
    turned = Turned.of(x)
    if part is not None:
        share, inside = _shares(part, len(grid), x.device, x.dtype)
        heads = logistic_heads(
            x, y, grid.repeat(inside.shape[1]), c, share=share, iterations=100, tolerance=1e-3, turned=turned
        )
        accuracy, loss = _choose(x, y, *heads, inside)
        at = min(range(len(grid)), key=lambda i: (-float(accuracy[i]), float(loss[i])))
        best, held_out = float(grid[at]), float(accuracy[at])
    weight, bias = logistic_heads(x, y, torch.tensor([best], device=x.device), c, turned=turned)
    return Fitted(scale, weight[0], bias[0], {"penalty": best}, held_out)


def fit_sgd(
    train: Any,
    labels: Any,
    *,
    ids: Any = None,
    classes: int | None = None,
    rates: Sequence[float] = RATES,
    decays: Sequence[float] = DECAYS,
    epochs: int = 30,
    batch: int = 256,
    seed: int = 0,
) -> Fitted:
    """The grid of rates x decays trained together in one pass on four fifths of train, the best refitted on all of it.

    As in DINOv2 all heads read the same batches; unlike there the choice is made on held-out training samples, never on the
    test set. Rates are scaled by batch / 256. Where some class has a single sample: rate 0.1, no decay.
    """
    x, y, c, scale = _ready(train, labels, classes)
    grid = [(rate * batch / 256, decay) for rate in rates for decay in decays]
    part = folds(y.cpu().numpy(), ids, seed=seed, rounds=1) if len(grid) > 1 else None
    (rate, decay), held_out = (grid[0] if len(grid) == 1 else (0.1 * batch / 256, 0.0)), float("nan")
    fit_seed = key(seed, "linear") >> 1
    if part is not None:
        share, inside = _shares(part, len(grid), x.device, x.dtype)
        table = torch.tensor(grid, dtype=torch.float64, device=x.device)
        heads = sgd_heads(x, y, table[:, 0], table[:, 1], c, share=share, epochs=epochs, batch=batch, seed=fit_seed)
        accuracy, loss = _choose(x, y, *heads, inside)
        at = min(range(len(grid)), key=lambda i: (-float(accuracy[i]), float(loss[i])))
        (rate, decay), held_out = grid[at], float(accuracy[at])
    one = torch.tensor([[rate], [decay]], dtype=torch.float64, device=x.device)
    weight, bias = sgd_heads(x, y, one[0], one[1], c, epochs=epochs, batch=batch, seed=fit_seed)
    return Fitted(scale, weight[0], bias[0], {"rate": rate, "decay": decay}, held_out)
