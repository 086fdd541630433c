"""Ridge classification: every penalty from one eigendecomposition, chosen by exact leave-one-out on the training set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.probing.arrays import as_features, as_labels, check_pair, check_unseen
from tacit.probing.linear import Fitted, Scale

__all__ = ["fit_ridge", "ridge_path"]

PENALTIES = tuple(10.0**e for e in range(-6, 4))
_SMALLEST = 1e-12  # eigenvalues below this share of the largest carry rounding only


def ridge_path(x: Tensor, targets: Tensor, penalties: Tensor, group: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """For each penalty a: weights [p d c] that minimise |t - x w|^2 / n + a |w|^2 about the means, intercepts [p c], and
    the prediction [p n c] of every sample by the fit without it.

    x [n d], targets [n c], in float64. The eigenvectors of x^T x or x x^T, whichever is smaller, serve every penalty; left
    out predictions follow from the diagonal h of the hat matrix: t_i - (t_i - fit_i) / (1 - h_i).

    group: so many rows in a row are views of one sample and left out together, t_g - (I - H_gg)^-1 (t_g - fit_g), H_gg their
    block of the hat matrix.
    """
    n, d = x.shape
    mean_x, mean_t = x.mean(dim=0), targets.mean(dim=0)
    x, t = x - mean_x, targets - mean_t
    if n >= d:
        lam, basis = torch.linalg.eigh(x.T @ x)
        z = x @ basis
    else:
        lam, left = torch.linalg.eigh(x @ x.T)
        keep = lam > lam.max() * _SMALLEST
        lam, left = lam[keep], left[:, keep]
        z = left * lam.sqrt()
        basis = x.T @ (left / lam.sqrt())
    lam = lam.clamp(min=0)
    zt = z.T @ t
    inverse = 1 / (lam + n * penalties[:, None])  # [p r]
    turned = inverse[:, :, None] * zt  # [p r c]
    weight = basis @ turned
    fit = z @ turned
    if group > 1:
        left_out = torch.stack(
            [targets - _left_out_residual(z, t - f, i, group) for f, i in zip(fit, inverse, strict=True)]
        )
        return weight, mean_t - mean_x @ weight, left_out
    hat = inverse @ z.square().T + 1 / n  # [p n], the intercept included
    left_out = targets - (t - fit) / (1 - hat).clamp(min=1e-12)[:, :, None]
    return weight, mean_t - mean_x @ weight, left_out


def _left_out_residual(z: Tensor, residual: Tensor, inverse: Tensor, group: int) -> Tensor:
    """(I - H_gg)^-1 r_g for every block of `group` rows: z [n r], residual [n c], inverse [r] of one penalty; [n c]."""
    n, r = z.shape
    blocks = z.reshape(-1, group, r)
    hat = (blocks * inverse) @ blocks.transpose(1, 2) + 1 / n  # the intercept included
    eye = (1 + 1e-9) * torch.eye(group, dtype=z.dtype, device=z.device)
    return torch.linalg.solve(eye - hat, residual.reshape(-1, group, residual.shape[1])).reshape(residual.shape)


def fit_ridge(train: Any, labels: Any, *, classes: int | None = None, penalties: Sequence[float] = PENALTIES) -> Fitted:
    """Least squares on one-hot labels of standardised features; the penalty of highest leave-one-out accuracy, of equals the largest.

    With one sample of some class leaving it out takes its class away: then the largest penalty that is not above 1.
    """
    x, y = as_features(train, "train"), as_labels(labels, "train")
    check_pair(x, y, "train")
    check_unseen(y, y)
    scale = Scale.of(x)
    y = y.to(x.device)
    c = classes or int(y.max()) + 1
    grid = torch.tensor(sorted(penalties), dtype=torch.float64, device=x.device)
    weight, bias, left_out = ridge_path(scale(x.double()), torch.nn.functional.one_hot(y, c).double(), grid)
    accuracy = (left_out.max(dim=2).indices == y).double().mean(dim=1)
    counts = torch.bincount(y)
    if int(counts[counts > 0].min()) < 2:
        at, held_out = max(0, int((grid <= 1).sum()) - 1), float("nan")
    else:
        at = int((accuracy == accuracy.max()).nonzero().max())
        held_out = float(accuracy[at])
    return Fitted(scale, weight[at].T.to(x.dtype), bias[at].to(x.dtype), {"penalty": float(grid[at])}, held_out)
