"""Batch normalisation over all processes, on any device.

torch's own SyncBatchNorm needs an accelerator. `RanksBatchNorm` does the same with `Ranks.total`, so that two processes
on the CPU equal one process on the joined batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tacit.core.ranks import Ranks

__all__ = ["RanksBatchNorm", "share_batchnorm"]


class RanksBatchNorm(nn.Module):
    """Batch normalisation of [n c ...] whose mean and variance run over the joined batch of all ranks.

    Takes over the parameters and buffers of `norm` under the same names. Statistics in float32 or wider; normalised with
    the biased variance, while the running variance takes the unbiased one, as in torch.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, ranks: Ranks) -> None:
        super().__init__()
        self.eps, self.momentum, self.ranks = norm.eps, norm.momentum, ranks
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.train(norm.training)

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [n c ...]; in training, or without running statistics, by those of all ranks' samples."""
        if not self.training and self.running_mean is not None and self.running_var is not None:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes = [axis for axis in range(x.ndim) if axis != 1]
        column = [1, -1, *[1] * (x.ndim - 2)]
        count = x.numel() // x.shape[1] * self.ranks.size
        mean = self.ranks.total(wide.sum(axes)) / count
        centred = wide - mean.view(column)
        variance = self.ranks.total(centred.square().sum(axes)) / count
        if self.training:
            self._remember(mean.detach(), variance.detach(), count)
        y = centred * (variance + self.eps).rsqrt().view(column)
        if self.weight is not None:
            y = y * self.weight.view(column) + self.bias.view(column)
        return y.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.to(mean.dtype) if self.momentum is None else self.momentum
        self.running_mean += share * (mean.to(self.running_mean.dtype) - self.running_mean)
        unbiased = variance * count / max(count - 1, 1)
        self.running_var += share * (unbiased.to(self.running_var.dtype) - self.running_var)


def share_batchnorm(module: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """`module` with every BatchNorm1d, 2d and 3d inside replaced by one that counts all ranks' samples, parameters kept."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, RanksBatchNorm(child, ranks))
        else:
            share_batchnorm(child, ranks, device)
    return module
