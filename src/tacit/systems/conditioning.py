"""What a time-stepper is told beside the frames: nothing, the true coefficients, or a frozen encoder's representation."""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.ranks import ALONE, Ranks
from tacit.core.values import Batch
from tacit.models import store

__all__ = ["Condition", "Kind", "Standardise"]

_REMEMBERED = 1 << 16  # features, 128 MiB at 512 numbers
Kind = Literal["none", "coefficient", "representation", "untrained"]


class Standardise(nn.Module):
    """(z - mean) / deviation by the statistics of all samples seen in training so far; the scale of features is arbitrary.

    The same statistics in training and after it, so that a prediction never depends on its neighbours in the batch
    (unlike a batch norm). A number that never varies becomes 0.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("square", torch.zeros(dim))  # sum of squared deviations
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor

    def forward(self, z: Tensor, ranks: Ranks = ALONE) -> Tensor:
        """[n d] -> [n d]."""
        z = z.float()
        if self.training:
            self._see(z.detach(), ranks)
        variance = self.square / self.count.clamp_min(1)
        return torch.where(variance > 0, (z - self.mean) * (variance + 1e-12).rsqrt(), torch.zeros_like(z))

    @torch.no_grad()
    def _see(self, z: Tensor, ranks: Ranks) -> None:
        """Merge a batch's moments into the running ones (Chan, Golub & LeVeque 1979)."""
        n = len(z) * ranks.size
        mean = ranks.total(z.sum(0)) / n
        square = ranks.total((z - mean).square().sum(0))
        gap, seen = mean - self.mean, self.count + n
        self.square += square + gap.square() * (self.count * n / seen)
        self.mean += gap * (n / seen)
        self.count += n


class Condition(nn.Module):
    """The numbers [n dim] of each sample that a stepper is conditioned on, or None.

    "coefficient": the named facts of the trajectory. "representation": the pooled features of the exported encoder in
    `path` on the view "context", frozen and in eval mode; "untrained": the same encoder with fresh weights, the baseline
    that tells what was learned from what a random network shows. bottleneck > 0: a linear map to so many numbers and a GELU
    come after it. standardise: see `Standardise`.
    """

    def __init__(
        self, kind: Kind, coefficients: tuple[str, ...], path: str, bottleneck: int, standardise: bool
    ) -> None:
        super().__init__()
        self.kind, self.coefficients, self.path = kind, coefficients, path
        self.encoder: nn.Module | None = None
        width = len(coefficients) if kind == "coefficient" else 0
        if kind in ("representation", "untrained"):
            card = store.card(path)
            if card.spec.role != "encoder":
                raise DataError(
                    f"{path} holds the {card.spec.role} {card.spec.kind!r}: a representation comes from an encoder"
                )
            self.encoder = store.load(path) if kind == "representation" else card.spec.build(card.runtime).eval()
            self.encoder.requires_grad_(False)
            width = int(self.encoder.dim)  # type: ignore[arg-type]
            self.channels = getattr(card.runtime, "channels", None)
        self._known: dict[bytes, Tensor] = {}
        self.scale = Standardise(width) if width and standardise else None
        self.narrow = nn.Sequential(nn.Linear(width, bottleneck), nn.GELU()) if width and bottleneck else None
        self.dim = bottleneck or width if width else 0

    def train(self, mode: bool = True) -> Condition:
        """The encoder stays in eval mode: it is frozen, its norms too."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    def forward(self, batch: Batch, ranks: Ranks = ALONE) -> Tensor | None:
        """[n dim], or None for kind 'none'."""
        if self.kind == "none":
            return None
        z = self._facts(batch) if self.kind == "coefficient" else self._features(batch)
        z = z if self.scale is None else self.scale(z, ranks)
        return z if self.narrow is None else self.narrow(z)

    def _facts(self, batch: Batch) -> Tensor:
        missing = [name for name in self.coefficients if name not in batch.facts]
        if missing:
            raise DataError(
                f"coefficients: the data know no {missing[0]!r}; they know {', '.join(sorted(batch.facts))}"
            )
        return torch.stack([batch.facts[name].float() for name in self.coefficients], 1)

    def _features(self, batch: Batch) -> Tensor:
        if "context" not in batch.views:
            raise DataError(
                "a representation is made from the view 'context', and there is none: name the views that the encoder was"
                " trained on as views.context"
            )
        x = batch.views["context"].data
        if not isinstance(x, Tensor) or (self.channels is not None and x.shape[1] != self.channels):
            found = list(x.shape) if isinstance(x, Tensor) else "a list"
            raise DataError(f"the encoder in {self.path} reads {self.channels} channels, views.context gives {found}")
        with torch.no_grad():
            return self._remembered(x) if x.device.type == "cpu" else self._encoded(x)

    def _encoded(self, x: Tensor) -> Tensor:
        assert self.encoder is not None  # noqa: S101
        return self.encoder(x).pooled  # type: ignore[no-any-return]

    def _remembered(self, x: Tensor) -> Tensor:
        """Features of samples seen before are kept, known by their bits: the context of a trajectory never changes.

        One sample at a time, so that a feature does not depend on who was in the batch, and a resumed run has the same bits.
        """
        rows = []
        for i in range(len(x)):
            name = hashlib.blake2b(x[i].contiguous().numpy().data, digest_size=16).digest()
            if name not in self._known:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[name] = self._encoded(x[i : i + 1])[0]
            rows.append(self._known[name])
        return torch.stack(rows)
