"""Embeddings in, batch by batch; spectrum and moments out. What every judge keeps, in O(d^2) memory."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.core.errors import DataError, RunError
from tacit.core.ranks import Ranks
from tacit.judging.split import Split
from tacit.ops.spectrum import singular_values
from tacit.ops.statistics import require_finite

__all__ = ["Rows", "Stream"]

_SMALL = 256  # up to this width a plain float64 SVD of the rows held costs nothing


class Rows:
    """Checks what is handed to a judge: the same width in every update, finite, and no update after a merge."""

    def __init__(self, judge: str) -> None:
        self.judge = judge
        self.n = 0
        self.d = 0
        self.merged = False

    def take(self, z: Tensor) -> Tensor:
        """The rows of z [m d], detached; half precision becomes float32."""
        if self.merged:
            raise RunError(
                f"{self.judge}: rows came after merge(), they would be counted on one rank only: use a new judge"
            )
        if z.ndim != 2 or (self.d and z.shape[1] != self.d) or not z.shape[1]:
            wanted = f"[rows {self.d}]" if self.d else "[rows features]"
            raise DataError(
                f"{self.judge}: embeddings must be {wanted}, found {list(z.shape)}: flatten or pool them first"
            )
        z = z.detach()
        z = z if z.dtype in (torch.float32, torch.float64) else z.float()
        if len(z):
            require_finite(z, f"{self.judge}: embeddings")
        self.n += len(z)
        self.d = z.shape[1]
        return z

    def merge(self, ranks: Ranks, device: torch.device | str) -> None:
        """Agree on the width over all ranks and count all rows; a rank without rows learns the width."""
        if self.merged:
            raise RunError(f"{self.judge}: merge() was called twice, rows would be counted twice: use a new judge")
        widths = ranks.gather(torch.tensor([self.d], device=device)).tolist()
        found = sorted({int(w) for w in widths if w})
        if len(found) > 1:
            raise DataError(
                f"{self.judge}: the ranks hold embeddings of different widths {found}: judge one layer at a time"
            )
        self.d = found[0] if found else 0
        self.n = int(ranks.total(torch.tensor([self.n], device=device, dtype=torch.float64)))
        self.merged = True

    def require(self, n: int) -> None:
        """Raise unless at least n rows were seen."""
        if self.n < n:
            raise DataError(
                f"{self.judge} needs at least {n} embeddings, found {self.n}: update it with a larger sample"
            )


class Stream:
    """The singular values of all rows seen. Rows wait in a buffer until max(2 d, 2048) of them make one product."""

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []
        self._count = 0
        self._split: Split | None = None

    @property
    def device(self) -> torch.device:
        """Where the rows live; the CPU before the first."""
        if self._split is not None:
            return self._split.cc.device
        return self._waiting[0].device if self._waiting else torch.device("cpu")

    def update(self, z: Tensor) -> None:
        """Take rows [m d] in."""
        if not len(z):
            return
        chunk = max(2 * z.shape[1], 2048)
        while len(z):
            part, z = z[: chunk - self._count], z[chunk - self._count :]
            whole = len(part) == chunk
            self._waiting.append(part if whole else part.clone())  # the caller may write over its batch
            self._count += len(part)
            if self._count == chunk:
                self._absorb()

    def _into(self) -> Split:
        if self._split is None:
            raise RunError("no rows were held: update before asking")
        return self._split

    def _absorb(self) -> None:
        if self._waiting:
            rows = torch.cat(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
            self._waiting, self._count = [], 0
            if self._split is None:
                self._split = Split.empty(rows.shape[1], rows.device)
            self._split.add(rows)

    def merge(self, ranks: Ranks, d: int) -> None:
        """Add the rows of all ranks; a rank without rows takes part with none."""
        self._absorb()
        if self._split is None:
            self._split = Split.empty(d, self.device)
        self._split.merge(ranks)

    def singular_values(self, *, centred: bool = False) -> Tensor:
        """Singular values [min(n, d)] in float64, largest first; `centred`: of the rows minus their mean."""
        if self._split is None and self._waiting:
            z = torch.cat(self._waiting).double()
            if centred:
                z = z - z.mean(dim=0)
            z = z.T if z.shape[0] < z.shape[1] else z
            if z.shape[1] <= _SMALL:
                return singular_values(z)
            split = Split.empty(z.shape[1], z.device)
            split.add(z)
            return split.singular_values()
        self._absorb()
        return self._into().singular_values(centred=centred)
