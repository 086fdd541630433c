"""How well a world model without actions imagines video: error by horizon, and whether digits are where it imagines them.

A small head learns on encoded train frames to say which cells of an 8 x 8 grid hold the middle of a digit (`locations`), and is then
read from imagined frames: average precision by horizon, and its mean (mAP). Frame t of roll-out i from every frame is an i-step
prediction. Source: EB-JEPA's video example (arXiv 2602.03604), which averages the precision over batches as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.random import torch_seed
from tacit.runs.build import Built, split_of
from tacit.training.runtime import choose_device
from tacit.worlds.moving_digits import locations

__all__ = ["Detector", "video_imagined"]

CELLS = 8
_BATCH, _FIT, _PASSES = 16, 512, 4
Array = NDArray[np.float64]
_MODEL, _STILL, _SEEN = "learned model", "persistence", "encoded frames"


class Detector(nn.Sequential):
    """Maps [m c h w] to scores [m 8 8]: mean over cells, two 3 x 3 convolutions (the published 1 x 3 x 3 over time are these)."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1))

    def forward(self, maps: Tensor) -> Tensor:
        """Logits."""
        return super().forward(F.adaptive_avg_pool2d(maps, (CELLS, CELLS))).squeeze(1)  # type: ignore[no-any-return]


def video_imagined(built: Built, count: int = 256) -> dict[str, dict[str, Array]]:
    """protocol -> model -> numbers, one row a batch of 16 clips (the rest is left out); those by step are [batches steps]."""
    device = choose_device(built.recipe.machine.device)
    system = built.system.to(device).eval()
    lead = system.predictor.lead + 1
    source = split_of(built.recipe, "test")
    if source.facts.channels != built.source.facts.channels:
        raise DataError(
            f"the model was trained on {built.source.facts.channels} channels, these data have {source.facts.channels}"
        )
    detector = _fitted(system, built, device)
    rows: dict[str, dict[str, list[list[float]]]] = {
        "open loop, error by step": {},
        "digits found, average precision by step": {},
    }
    with torch.no_grad():
        n = min(count, len(source))
        if n < 2:
            raise DataError(f"intervals over batches need at least 2 clips, found {n}")
        size = min(_BATCH, n // 2)
        for at in range(0, n - n % size, size):
            raw, z = _encoded(system, built, source, range(at, at + size), device)
            target, total = locations(raw[:, 0].cpu()), z.flatten(2).var((0, 1)).mean().clamp_min(1e-12)
            found: dict[str, list[list[float]]] = {_MODEL: [], _STILL: [], _SEEN: []}
            steps = z.shape[1] - lead
            for s, y in enumerate(system.unroll_every(z, z.new_zeros(len(z), z.shape[1], 0), steps)):
                seen = {_MODEL: y[:, lead + s :], _STILL: z[:, lead - 1 : z.shape[1] - 1 - s], _SEEN: z[:, lead + s :]}
                for name, states in seen.items():
                    error = float((states - z[:, lead + s :]).square().mean() / total)
                    found[name].append([error, _precision(detector, states, target[:, lead + s :])])
            for i, protocol in enumerate(rows):
                for name, pairs in found.items():
                    if (i, name) != (0, _SEEN):
                        rows[protocol].setdefault(name, []).append([pair[i] for pair in pairs])
    done = {protocol: {name: np.array(values) for name, values in models.items()} for protocol, models in rows.items()}
    precise = done["digits found, average precision by step"]
    return {**done, "digits found, mAP": {name: values.mean(1) for name, values in precise.items()}}


def _maps(states: Tensor) -> Tensor:
    """[n t k d] as maps [n*t d h w] of a square grid."""
    side = round(states.shape[2] ** 0.5)
    return states.flatten(0, 1).transpose(1, 2).unflatten(2, (side, side))


def _encoded(system: Any, built: Built, source: Any, rows: Any, device: Any) -> tuple[Tensor, Tensor]:
    raw: Any = source.read(rows)
    data: Any = built.views.plain(raw).views["image"].data
    z = system.encode(data.to(device))
    if z.ndim != 4 or round(z.shape[2] ** 0.5) ** 2 != z.shape[2]:
        raise DataError("digits are looked for on square maps: this model's states have none (set state=tokens)")
    return raw.views["image"].data, z


def _fitted(system: Any, built: Built, device: Any) -> Detector:
    """The head, learned on encoded train frames by binary cross-entropy (Adam, 1e-3)."""
    train = split_of(built.recipe, "train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(built.recipe.seed, "detector"))
        detector: Detector | None = None
        for _ in range(_PASSES):
            for at in range(0, min(_FIT, len(train)), _BATCH):
                with torch.no_grad():
                    raw, z = _encoded(system, built, train, range(at, min(at + _BATCH, len(train))), device)
                if detector is None:
                    detector = Detector(z.shape[3]).to(device)
                    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
                target = locations(raw[:, 0].cpu()).flatten(0, 1).float().to(device)
                loss = F.binary_cross_entropy_with_logits(detector(_maps(z)), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert detector is not None  # noqa: S101  (a source is never empty)
    return detector.eval()


def _precision(detector: Detector, states: Tensor, target: Tensor) -> float:
    return float(average_precision_score(target.flatten().numpy(), detector(_maps(states)).flatten().cpu().numpy()))
