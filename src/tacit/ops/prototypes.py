"""What prototype methods compute of scores. Legend: n samples, k prototypes, d features. Every function is pure."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.ops.gradients import known, wanted
from tacit.ops.similarity import unit

__all__ = ["koleo", "prototype_cross_entropy"]

_TILE = 1 << 26  # entries of one buffer of scores: 256 MiB in float32


def prototype_cross_entropy(
    scores: Float[Tensor, "n k"],
    targets: Float[Tensor, "n k"],
    temperature: float,
    weights: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """mean_n -sum_k t_k log softmax(scores / temperature)_k for rows of targets that sum to one; no gradient to the targets.

    With `weights` the sum over rows under these weights, in the place of the mean.

    As they sum to one, this is mean_n [ lse(s) - t . s ], s = scores / temperature: neither the softmax nor its logarithm is kept.
    The gradient (softmax - t) / (n temperature) is made beside the value, by blocks of rows. First derivatives only.
    """
    n, k = scores.shape
    keep = wanted(scores)
    with torch.no_grad():
        value, slopes = scores.new_zeros(()), []
        step = max(1, _TILE // k)
        for at in range(0, n, step):
            s, t = scores[at : at + step] / temperature, targets[at : at + step]
            w = None if weights is None else weights[at : at + step, None]
            s.sub_(s.amax(dim=1, keepdim=True))  # the same in both terms, because targets sum to one
            pull = torch.dot(s.flatten(), t.flatten()) if w is None else ((s * t).sum(dim=1, keepdim=True) * w).sum()
            mass = s.exp_().sum(dim=1, keepdim=True)
            value = value + (mass.log() if w is None else mass.log() * w).sum() - pull
            if keep:
                size = n if w is None else 1
                slope = s.div_(mass * (size * temperature)).sub_(t, alpha=1 / (size * temperature))
                slopes.append(slope if w is None else slope.mul_(w))
    value = value / n if weights is None else value
    return known("prototype_cross_entropy", value, *([(scores, torch.cat(slopes))] if keep and n else []))


def koleo(z: Float[Tensor, "n d"], eps: float = 1e-8) -> Float[Tensor, ""]:
    """Minus the mean log distance of each unit row to its nearest other: low when a batch is spread evenly over the sphere.

    The nearest is the one of largest inner product among the n rows given, as in DINOv2 (arXiv 2304.07193): one rank's batch and
    one crop. Equal rows cost -log(eps) and get no gradient of infinite length. Call it on float32, outside autocast.
    """
    u = unit(z)
    with torch.no_grad():
        near = (u @ u.T).fill_diagonal_(-torch.inf).argmax(dim=1)
    apart = (u - u[near]).square().sum(dim=1)
    distance = torch.sqrt(torch.where(apart > 0, apart, 1.0)) * (apart > 0)  # the slope of a root has no bound at zero
    return -torch.log(distance + eps).mean()
