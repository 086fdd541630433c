"""Softmax regression with many heads at once: the loss and its closed-form gradient. Pure.

Legend: n samples, d features, p heads, c classes. Heads share the features, so their logits are one matrix product.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["cross_entropy", "head_gradients"]


def head_gradients(
    x: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    weight: Float[Tensor, "p c d"],
    bias: Float[Tensor, "p c"],
    share: Float[Tensor, "n p"] | None = None,
) -> tuple[Float[Tensor, "p c d"], Float[Tensor, "p c"]]:
    """Gradients of sum_i share_ip * cross entropy of head p on sample i; `share` None is 1/n for all.

    dL/dlogits = share (softmax - onehot): one product forward, one backward, no graph.
    """
    n, (p, c, d) = len(x), weight.shape
    residual = torch.addmm(bias.reshape(-1), x, weight.reshape(p * c, d).T).view(n, p, c)
    torch.softmax(residual, dim=2, out=residual)
    residual.scatter_add_(2, y.view(n, 1, 1).expand(n, p, 1), residual.new_full((n, p, 1), -1.0))
    residual *= share[:, :, None] if share is not None else 1.0 / n
    flat = residual.view(n, p * c)
    return (flat.T @ x).view(p, c, d), flat.sum(dim=0).view(p, c)


def cross_entropy(logits: Float[Tensor, "n p c"], y: Int[Tensor, " n"]) -> Float[Tensor, "n p"]:
    """Cross entropy of every sample under every head."""
    right = logits.gather(2, y.view(-1, 1, 1).expand(-1, logits.shape[1], 1))[:, :, 0]
    return logits.logsumexp(dim=2) - right
