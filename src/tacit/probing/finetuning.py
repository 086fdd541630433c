"""Fine-tuning: the whole encoder learns from labels, its early layers at lower rates (layer-wise decay).

Legend: L layers of the encoder; embeddings are layer 0, the classifier is L + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.random import order
from tacit.core.spec import Spec
from tacit.training.optimizers import SGD, AdamW, rate_at, set_rate

__all__ = ["FineTune", "finetune", "layer_groups"]


@dataclass(frozen=True)
class FineTune:
    """How a network is fine-tuned. Defaults: MAE's ViT-B recipe (arXiv 2111.06377) without its mixing of images.

    layer_decay: rate of layer l is rate * layer_decay^(L + 1 - l). head: the classifier's rate over the encoder's. smoothing: of labels.
    rate is for `batch` samples a step. warmup: share of the steps.
    """

    optimizer: str = "adamw"
    rate: float = 1e-3
    head: float = 1.0
    weight_decay: float = 0.05
    layer_decay: float = 0.65
    epochs: int = 100
    batch: int = 256
    warmup: float = 0.05
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "sgd"):
            raise DataError(f"fine-tuning moves by 'adamw' or 'sgd', found {self.optimizer!r}")
        if not 0 < self.layer_decay <= 1 or self.epochs < 1 or self.batch < 1:
            raise DataError(
                "fine-tuning needs layer_decay above 0 and at most 1, and at least one epoch and sample a batch, found "
                f"layer_decay={self.layer_decay:g}, epochs={self.epochs}, batch={self.batch}"
            )

    @property
    def name(self) -> str:
        """Settings for a protocol's name."""
        return f"{self.optimizer},rate={self.rate:g},layer-decay={self.layer_decay:g},epochs={self.epochs}"


def layer_groups(encoder: nn.Module, layer_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of an encoder for training.optimizers: one for each layer, with and without weight decay.

    A layer is what `layer_names` names (also inside a wrapped `model`). What no layer holds is layer 0 if it is registered before the
    first of them (patch embedding, tokens, stem), else the last (final norms). Biases, norms and tokens have no weight decay.
    """
    names: Any = getattr(encoder, "layer_names", list)
    named = list(names())
    modules = dict(encoder.named_modules())
    layers = [at for name in named for at in (name, f"model.{name}") if at in modules]
    count = len(layers)
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    begun = False
    for name, p in encoder.named_parameters():
        at = next((i + 1 for i, layer in enumerate(layers) if name == layer or name.startswith(f"{layer}.")), None)
        begun |= at is not None
        layer = at if at is not None else count if begun and count else 0
        decays = p.ndim > 1 and not name.rpartition(".")[2].endswith(("token", "tokens", "pos_embed", "gamma"))
        found.setdefault((layer, decays), []).append(p)
    return [
        {"params": params, "decay": decays, "scale": layer_decay ** (count + 1 - layer)}
        for (layer, decays), params in sorted(found.items(), key=lambda one: one[0])
    ]


def finetune(
    encoder: nn.Module,
    classes: int,
    images: Callable[[NDArray[np.int64], int], Tensor],
    labels: Tensor,
    how: FineTune,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Callable[[Tensor], Tensor]:
    """Train `encoder` in place with a linear classifier; returns the function from images [m c h w] to logits [m classes].

    images: (rows, epoch) -> augmented images [b c h w]. The classifier starts at zero, so nothing is drawn; the order of samples is a
    function of (seed, epoch). Batch norms learn in training mode; a last batch of one sample is left out.
    """
    n, batch = len(labels), min(how.batch, len(labels))
    head = nn.Linear(_width(encoder), classes).to(device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    net = nn.ModuleList([encoder.to(device), head]).train().requires_grad_(True)
    groups = [
        *layer_groups(encoder, how.layer_decay),
        {"params": [head.weight], "decay": True, "scale": how.head},
        {"params": [head.bias], "decay": False, "scale": how.head},
    ]
    schedule = Spec("schedule", "cosine", warmup=how.warmup, start=0.0, final=0.0).resolve("schedule")
    part = AdamW if how.optimizer == "adamw" else SGD
    optim: Any = part(lr=how.rate, weight_decay=how.weight_decay, schedule=schedule)
    optimizer = optim.build(groups)
    y = labels.to(device)
    plan: Sequence[tuple[int, NDArray[np.int64]]] = [
        (epoch, rows)
        for epoch in range(how.epochs)
        for rows in np.split(order(seed, epoch, n), range(batch, n, batch))
        if len(rows) > 1
    ]
    for step, (epoch, rows) in enumerate(plan):
        set_rate(optimizer, rate_at(optim, (step + 0.5) / len(plan)))
        logits = head(encoder(images(rows, epoch).to(device)).pooled)
        loss = F.cross_entropy(logits, y[torch.from_numpy(rows)], label_smoothing=how.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    net.eval()

    @torch.no_grad()
    def logits_of(x: Tensor) -> Tensor:
        return torch.cat([head(encoder(part.to(device)).pooled).float().cpu() for part in x.split(256)])

    return logits_of


def _width(encoder: nn.Module) -> int:
    return int(encoder.dim)  # type: ignore[arg-type]
