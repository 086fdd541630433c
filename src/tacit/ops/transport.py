"""Balanced assignment of samples to prototypes. Legend: n samples of this rank, m of all ranks, k prototypes. Pure."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tacit.core.ranks import ALONE, Ranks

__all__ = ["sinkhorn"]


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "n k"], temperature: float, iterations: int = 3, ranks: Ranks = ALONE
) -> Float[Tensor, "n k"]:
    """Rows of probabilities that use the k prototypes about equally: Sinkhorn-Knopp on exp(scores / temperature), no gradient.

    Each iteration divides every prototype's mass over the m samples to 1/k and then every sample's to 1/m; the result times m.
    Each row sums to one exactly, a prototype's mass to m/k only in the limit. The alternation is kept as one factor a
    sample and one a prototype, so the matrix is written once and an iteration costs two products with it and one exchange of k
    numbers. Adding a constant to all scores changes nothing: the largest of each row is subtracted before the exponential, so
    that no row can vanish, and put back in the factor of its sample.

    Values: 1/k everywhere for equal scores. Source: SwAV (arXiv 2006.09882), temperature 0.05, 3 iterations.
    """
    n, k = scores.shape
    m = n if ranks.size == 1 else ranks.total(scores.new_tensor(float(n)))  # ranks may differ in n: masked patches do
    peak = scores.amax(dim=1)
    highest = ranks.gather(peak.amax()[None] if n else scores.new_full((1,), -torch.inf)).amax()
    mass = torch.exp((scores - peak[:, None]) / temperature)
    of_sample = torch.exp((peak - highest) / temperature)
    of_prototype = scores.new_ones(k)
    tiny = torch.finfo(scores.dtype).tiny
    for _ in range(iterations):
        of_prototype = 1 / (k * ranks.total(of_sample @ mass).clamp(min=tiny))
        of_sample = 1 / (m * (mass @ of_prototype).clamp(min=tiny))
    return mass.mul_(of_prototype).mul_(of_sample[:, None] * m)
