"""What every probe checks of its arrays, with one sentence for each fault."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.statistics import require_finite

__all__ = ["as_features", "as_labels", "check_pair", "check_unseen"]


def as_features(z: Any, name: str) -> Tensor:
    """Features [n d] as a detached float tensor; refuses other shapes, empty ones, NaN and infinity."""
    z = torch.as_tensor(z).detach()
    if z.ndim != 2 or 0 in z.shape:
        raise DataError(
            f"{name} features must be [samples features], found {list(z.shape)}: flatten or pool them first"
        )
    z = z if z.is_floating_point() else z.float()
    z = z if z.dtype in (torch.float32, torch.float64) else z.float()
    require_finite(z, f"{name} features")
    return z


def as_labels(y: Any, name: str) -> Tensor:
    """Class labels [n] as int64, not negative."""
    if y is None:
        raise DataError(f"{name} labels are missing: a probe needs one class label per sample; judge needs none")
    y = torch.as_tensor(y).detach()
    if y.ndim != 1 or y.is_floating_point():
        raise DataError(f"{name} labels must be whole numbers [samples], found {y.dtype} {list(y.shape)}")
    y = y.to(torch.int64)
    if len(y) and int(y.min()) < 0:
        missing = int((y < 0).sum())
        raise DataError(
            f"{name} labels are missing (negative) for {missing} of {len(y)} samples: leave those samples out"
        )
    return y


def check_pair(z: Tensor, y: Tensor, name: str) -> None:
    """As many labels as features."""
    if len(z) != len(y):
        raise DataError(f"{name} has {len(z)} features but {len(y)} labels: they must describe the same samples")


def check_unseen(train: Tensor, test: Tensor) -> None:
    """At least two classes to tell apart, and no test class that training has never shown."""
    known = torch.unique(train)
    if len(known) < 2:
        raise DataError(f"train labels hold the one class {int(known[0])}: a probe needs at least two to tell apart")
    unseen = sorted(set(torch.unique(test).tolist()) - set(known.tolist()))
    if unseen:
        shown = ", ".join(map(str, unseen[:5])) + (", ..." if len(unseen) > 5 else "")
        raise DataError(
            f"test labels hold {len(unseen)} classes that train lacks ({shown}): no probe can name them; use splits of one label set"
        )
