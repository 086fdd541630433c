"""Several augmented views of a few samples, embedded: what LiDAR and alignment look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.protocols import Source, Views
from tacit.core.random import torch_seed

__all__ = ["view_embeddings"]


def view_embeddings(
    call: Callable[[Tensor], Tensor],
    source: Source,
    views: Views,
    chosen: NDArray[np.int64],
    q: int,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    batch: int = 64,
) -> Iterator[Tensor]:
    """Embeddings [m q d] of q views of each chosen sample, on the CPU, m samples at a time.

    The views are those of training, the global ones alone, epoch after epoch under a seed of their own, until there are q; so they are
    a function of (seed, sample) and no generator moves. `call` maps images to embeddings; the caller sets modes and gradients.
    """
    own = torch_seed(seed, "judged views") % (1 << 31)
    for start in range(0, len(chosen), batch):
        read = source.read(chosen[start : start + batch])
        found: list[Tensor] = []
        epoch = 0
        while len(found) < q:
            made = views(read, own, epoch).views
            for name, view in made.items():
                if not name.startswith("local") and len(found) < q:
                    data: Any = view.data
                    data = data if isinstance(data, Tensor) else torch.stack(data)
                    found.append(call(data.to(device)).float().cpu())
            epoch += 1
        yield torch.stack(found, dim=1)
