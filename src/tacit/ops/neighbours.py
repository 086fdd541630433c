"""Nearest neighbours by cosine and their votes. Pure and deterministic: ties go to the lower bank index, then the lower class.

Legend: q queries, n bank rows, d features, c classes, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["nearest", "unit_rows", "votes"]

_GROUP = 16
_CELLS = 1 << 24  # similarities held at once by default: 64 MiB of float32


def unit_rows(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of z at length one in float32 (float64 stays); a row of zeros stays zero, at cosine 0 from everything."""
    z = z if z.dtype == torch.float64 else z.float()
    length = z.norm(dim=1, keepdim=True)
    limit = torch.finfo(z.dtype).tiny ** 0.5
    unsafe = ((length < limit) | (length > 1 / limit))[:, 0].nonzero()[:, 0]  # where squares under- or overflow
    if len(unsafe):
        some = z[unsafe]
        some = some / some.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
        z = z / length.clamp(min=limit)
        z[unsafe] = some / some.norm(dim=1, keepdim=True).clamp(min=limit)
        return z
    return z / length


def nearest(
    bank: Float[Tensor, "n d"],
    queries: Float[Tensor, "q d"],
    k: int,
    *,
    chunk: int | None = None,
    skip_self: bool = False,
) -> Iterator[tuple[slice, Float[Tensor, "m k"], Int[Tensor, "m k"]]]:
    """For block after block of queries: where it lies, the k largest inner products, largest first, and their bank indices.

    One matrix product and one selection per block of `chunk` queries. Equal products are ordered by bank index, also where
    the k-th is one of many equals. `skip_self`: query i is bank row i and is not its own neighbour.
    """
    n = len(bank)
    chunk = chunk or max(1, min(len(queries), _CELLS // max(n, 1)))
    room = queries.new_empty(min(chunk, len(queries)), n)  # fresh memory for every block would cost half of the product
    for start in range(0, len(queries), chunk):
        block = slice(start, min(start + chunk, len(queries)))
        similarity = torch.mm(queries[block], bank.T, out=room[: block.stop - start])
        if skip_self:
            own = torch.arange(block.start, block.stop, device=bank.device)
            similarity[own - block.start, own] = -torch.inf
        # one more than k shows whether the k-th has equals that were left out
        value, index = _ordered(*_largest(similarity, min(k + 1, n)))
        if value.shape[1] > k:
            unsure = (value[:, k] == value[:, k - 1]).nonzero()[:, 0]
            value, index = value[:, :k].contiguous(), index[:, :k].contiguous()
            if len(unsure):
                some = similarity[unsure]
                first = _first_equals(some, value[unsure])
                value[unsure], index[unsure] = _ordered(some.gather(1, first), first)
        yield block, value, index


def _ordered(value: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Each row by falling value, equal values by rising index."""
    index, by_index = index.sort(dim=1)
    value, by_value = value.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    return value, index.gather(1, by_value)


def _largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, in any order, and their columns. Where there are many columns it goes by way of the largest of
    every 16: the k largest lie in the k groups of largest maximum. One vectorised pass and two small selections instead of a
    selection over everything."""
    n = similarity.shape[1]
    groups = n // _GROUP
    if groups < 4 * k or similarity.is_cuda:
        return similarity.topk(k, dim=1, sorted=False)
    main = groups * _GROUP
    grouped = similarity[:, :main].unflatten(1, (_GROUP, groups))
    best = grouped.amax(dim=1).topk(k, dim=1, sorted=False).indices
    near = grouped.gather(2, best[:, None].expand(-1, _GROUP, -1)).flatten(1)
    value, at = torch.cat([near, similarity[:, main:]], dim=1).topk(k, dim=1, sorted=False)
    column = best.gather(1, at % k) + at // k * groups
    return value, torch.where(at < _GROUP * k, column, at - _GROUP * k + main)


def _first_equals(similarity: Tensor, value: Tensor) -> Tensor:
    """Indices [m k] of all products above the k-th and of the first equals of it."""
    k = value.shape[1]
    last = value[:, -1:]
    above = similarity > last
    equal = similarity == last
    take = above | (equal & (equal.cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True)))
    return take.nonzero()[:, 1].view(len(value), k)


def votes(
    similarity: Float[Tensor, "m k"], labels: Int[Tensor, "m k"], classes: int, ks: Sequence[int], temperature: float
) -> Iterator[tuple[int, Int[Tensor, "m c"]]]:
    """The votes for each class after the first k neighbours, for each k of `ks` (ascending), from one pass.

    A neighbour votes exp((similarity - largest) / temperature). Votes are integers, so sums do not depend on their order and
    equal sums are equal; the class is written into the low bits, so all entries of a row differ and of equal votes the
    lower class is larger. The yielded tensor is new for each k.
    """
    bits = max(1, (classes - 1).bit_length())
    room = 62 - bits - max(1, int(ks[-1]).bit_length())
    weight = ((similarity.double() - similarity[:, :1]) / temperature).exp()
    weight = (weight * 2.0 ** min(room, 52)).round().to(torch.int64)
    total = torch.zeros(len(similarity), classes, dtype=torch.int64, device=similarity.device)
    order = torch.arange(classes - 1, -1, -1, device=similarity.device)
    start = 0
    for k in ks:
        total.scatter_add_(1, labels[:, start:k], weight[:, start:k])
        start = k
        yield k, (total << bits) | order
