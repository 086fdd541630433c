"""Fine-tuning: the whole encoder learns from labels, its early layers at lower rates (layer-wise decay).

Legend: L layers of the encoder; embeddings are layer 0, the classifier is L + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.random import order, torch_seed
from tacit.core.spec import Spec
from tacit.training.optimizers import SGD, AdamW, rate_at, set_rate

__all__ = [
    "FINETUNES",
    "FineTune",
    "NamedFineTune",
    "drop_paths",
    "finetune",
    "layer_groups",
    "mixed",
    "named_finetune",
]


@dataclass(frozen=True)
class FineTune:
    """How a network is fine-tuned. Defaults: MAE's ViT-B recipe (arXiv 2111.06377) without its mixing of images and dropped paths.

    layer_decay: rate of layer l is rate * layer_decay^(L + 1 - l). head: the classifier's rate over the encoder's. smoothing: of labels.
    rate is for `batch` samples a step, and falls in proportion where train has fewer. warmup: share of the steps. mixup, cutmix: the law
    of the mixing share is Beta(a, a) of these; 0 is off, and of both one is drawn a step (arXiv 1710.09412, 1905.04899). drop_path: of the
    last block, rising linearly from 0.
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
    mixup: float = 0.0
    cutmix: float = 0.0
    drop_path: float = 0.0

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
        more = ("mixup", "cutmix", "drop_path")
        added = "".join(f",{name.replace('_', '-')}={getattr(self, name):g}" for name in more if getattr(self, name))
        return f"{self.optimizer},rate={self.rate:g},layer-decay={self.layer_decay:g},epochs={self.epochs}{added}"


@dataclass(frozen=True)
class NamedFineTune:
    """The fine-tuning of a paper's code: which labels it learns from, and how; `text` says what is left out here.

    view: what training images are made by, given the size of the encoder's pictures; None: the views at hand.
    """

    how: FineTune
    labels: str
    text: str
    view: Spec | None = None


_VICREG = "VICReg's semi-supervised evaluation (arXiv 2105.04906): SGD, 20 epochs, no weight decay, rates of encoder and classifier {0}"
_MAE = FineTune(rate=2e-3, batch=1024, mixup=0.8, cutmix=1.0, drop_path=0.1)
_MAE_TEXT = (
    "MAE's ViT-B (arXiv 2111.06377): AdamW, base rate 5e-4 for 256, batch 1024, layer decay 0.65, 100 epochs, decay 0.05, labels "
    "smoothed by 0.1, mixup 0.8, cutmix 1, dropped paths 0.1; "
)
FINETUNES = {
    "mae/finetune@1": NamedFineTune(
        _MAE,
        "all",
        _MAE_TEXT
        + "bicubic crops of 0.08 to 1, mirrored, RandAugment (two operations, 9 +- 0.5, increasing), erasing 0.25",
        Spec("view", "rand-augment"),
    ),
    "mae/finetune,no-randaugment@1": NamedFineTune(
        _MAE, "all", _MAE_TEXT + "without its RandAugment and random erasing, on the views at hand"
    ),
    "vicreg/finetune,10%@1": NamedFineTune(
        FineTune("sgd", 0.01, 10.0, 0.0, 1.0, 20, 256, 0.0, 0.0), "10%", _VICREG.format("0.01 and 0.1")
    ),
    "vicreg/finetune,1%@1": NamedFineTune(
        FineTune("sgd", 0.03, 0.08 / 0.03, 0.0, 1.0, 20, 256, 0.0, 0.0), "1%", _VICREG.format("0.03 and 0.08")
    ),
}


def named_finetune(name: str) -> NamedFineTune:
    """The fine-tuning of a paper by name; the version may be left out."""
    full = name if "@" in name else f"{name}@1"
    if full not in FINETUNES:
        raise UnknownNameError(
            unknown("fine-tuning", name, FINETUNES, f"Settings: {', '.join(f.name for f in fields(FineTune))}.")
        )
    return FINETUNES[full]


def drop_paths(encoder: nn.Module, rate: float) -> None:
    """Let samples skip branches of the blocks of a ViT in training, with a chance that rises linearly to `rate` at the last."""
    blocks: Any = getattr(getattr(encoder, "model", encoder), "blocks", None)
    blocks = list(blocks) if isinstance(blocks, nn.Sequential | nn.ModuleList) else []
    for number, block in enumerate(blocks):
        chance = rate * number / max(1, len(blocks) - 1)
        if isinstance(getattr(block, "drop_path", None), float):
            block.drop_path = chance
        elif isinstance(getattr(block, "drop_path1", None), nn.Module):  # timm's, which has no such module at chance 0
            block.drop_path1, block.drop_path2 = (StochasticDepth(chance, "row") for _ in range(2))
        else:
            blocks = []
            break
    if not blocks:
        raise DataError(
            f"fine-tuning with drop_path={rate:g} needs an encoder of transformer blocks, and {type(encoder).__name__} has none: set "
            "drop_path=0"
        )


def mixed(x: Tensor, mixup: float, cutmix: float, seed: int) -> tuple[Tensor, float]:
    """Each image mixed with that of the opposite place in the batch, and the share of its own label: a function of the seed.

    mixup blends by a share from Beta(mixup, mixup); cutmix pastes a rectangle of area 1 - share about a uniform centre, cut off at the
    border, and counts the pixels that stay. Of both one is taken by the toss of a coin.
    """
    rng = np.random.default_rng(seed)
    paste = bool(cutmix) and (not mixup or rng.random() < 0.5)
    law = cutmix if paste else mixup
    share = float(rng.beta(law, law))
    if not paste:
        return share * x + (1 - share) * x.flip(0), share
    height, width = x.shape[-2:]
    tall, wide = (round(side * (1 - share) ** 0.5) for side in (height, width))
    top, left = int(rng.integers(height)) - tall // 2, int(rng.integers(width)) - wide // 2
    rows, columns = slice(max(0, top), max(0, top + tall)), slice(max(0, left), max(0, left + wide))
    out = x.clone()
    out[..., rows, columns] = x.flip(0)[..., rows, columns]
    return out, 1 - out[0, 0, rows, columns].numel() / (height * width)


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
    watch: Callable[[int, float], None] | None = None,
) -> Callable[[Tensor], Tensor]:
    """Train `encoder` in place with a linear classifier; returns the function from images [m c h w] to logits [m classes].

    images: (rows, epoch) -> augmented images [b c h w]. The classifier starts at zero, so nothing is drawn; the order of samples is a
    function of (seed, epoch). Batch norms learn in training mode; a last batch of one sample is left out. watch: called after each epoch
    with how many are done and the loss of the last batch.
    """
    n, batch = len(labels), min(how.batch, len(labels))
    head = nn.Linear(_width(encoder), classes).to(device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    if how.drop_path:
        drop_paths(encoder, how.drop_path)
    net = nn.ModuleList([encoder.to(device), head]).train().requires_grad_(True)
    groups = [
        *layer_groups(encoder, how.layer_decay),
        {"params": [head.weight], "decay": True, "scale": how.head},
        {"params": [head.bias], "decay": False, "scale": how.head},
    ]
    schedule = Spec("schedule", "cosine", warmup=how.warmup, start=0.0, final=0.0).resolve("schedule")
    part = AdamW if how.optimizer == "adamw" else SGD
    optim: Any = part(lr=how.rate * batch / how.batch, weight_decay=how.weight_decay, schedule=schedule)
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
        x, t = images(rows, epoch).to(device), y[torch.from_numpy(rows)]
        share = 1.0
        if how.mixup or how.cutmix:
            x, share = mixed(x, how.mixup, how.cutmix, torch_seed(seed, "mixing", step))
        logits = head(encoder(x).pooled)
        loss = share * F.cross_entropy(logits, t, label_smoothing=how.smoothing)
        if share < 1:
            loss = loss + (1 - share) * F.cross_entropy(logits, t.flip(0), label_smoothing=how.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if watch and (step + 1 == len(plan) or plan[step + 1][0] > epoch):
            watch(epoch + 1, loss.item())
    net.eval()

    @torch.no_grad()
    def logits_of(x: Tensor) -> Tensor:
        return torch.cat([head(encoder(part.to(device)).pooled).float().cpu() for part in x.split(256)])

    return logits_of


def _width(encoder: nn.Module) -> int:
    return int(encoder.dim)  # type: ignore[arg-type]
