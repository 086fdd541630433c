"""What imagination looks like on recorded clips, without a simulator: decoded roll-outs, and the energy around the action that was taken.

decoded: a ridge from states to small pictures, fitted on train frames; beside each clip what it gives of the encoded frames, which is the
best that a roll-out can look like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tacit.probing.ridge import ridge_path
from tacit.reports.episodes import filmstrip, landscape
from tacit.runs.build import Built, split_of
from tacit.runs.plan_pictures import action_energies, around

__all__ = ["write_imagined"]

_SIDE, _LARGEST = 32, 4096  # pixels of a picture; numbers of a state that a ridge still takes
_FIT, _CLIPS, _COLUMNS = 512, 3, 9  # clips fitted on, clips shown, pictures a row


def write_imagined(built: Built, folder: Path, prefix: str = "") -> list[Path]:
    """rollouts.png and landscape.png of the test split; the first not of state vectors, the second not of actions of one number."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    shown = _rollouts(built)
    if shown is not None:
        rows, labels, steps = shown
        found.append(filmstrip(rows, labels, steps, [True] * len(rows), folder / f"{prefix}rollouts.png"))
    source = split_of(built.recipe, "test")
    if source.facts.action_dim >= 2:
        actions: Any = source.read(range(min(64, len(source)))).action
        reach = float(actions[..., :2].abs().max().clamp_min(1e-6))
        energies, true = action_energies(built, reach=reach, split="test")
        maps = [*energies[:4].numpy(), around(energies, true, reach)]
        marks = [*((float(a[0]), float(a[1])) for a in true[:4]), (0.0, 0.0)]
        titles = [
            *(f"clip {i}" for i in range(len(maps) - 1)),
            f"mean over {len(energies)} clips,\nabout the true action",
        ]
        found.append(landscape(maps, marks, titles, reach, folder / f"{prefix}landscape.png"))
    return found


@torch.no_grad()
def _rollouts(built: Built) -> tuple[list[NDArray[np.uint8]], list[str], list[int]] | None:
    """Rows of pictures [t h w 3]: seen, decoded from what was seen, decoded from what was imagined, for each clip."""
    system = built.system.eval()
    train, test = (split_of(built.recipe, split) for split in ("train", "test"))
    states, pictures = _read(system, built, train, min(_FIT, len(train)))
    if min(pictures.shape[-2:]) == 1 or states.flatten(2).shape[2] > _LARGEST:
        return None
    x, t = states.flatten(0, 1).flatten(1).double(), pictures.flatten(0, 1).flatten(1).double()
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    penalties = torch.tensor([10.0**e for e in range(-4, 5)], dtype=torch.float64)
    weight, bias, out = ridge_path((x - mean) / std, t, penalties)
    best = int((out - t).square().mean((1, 2)).argmin())

    def paint(z: Tensor) -> Tensor:
        flat = (z.flatten(2).double() - mean) / std
        return (flat @ weight[best] + bias[best]).view(*z.shape[:2], *pictures.shape[2:])

    batch = test.read(range(min(_CLIPS, len(test))))
    z, seen = _read(system, built, test, len(batch))
    action: Any = batch.action
    steps = z.shape[1] - 1
    device = next(system.parameters()).device
    imagined = system.imagine(z[:, 0].to(device), action[:, :steps].to(device)).cpu()
    rolled = torch.cat([z[:, :1], imagined], 1)
    columns = np.unique(np.linspace(0, steps, _COLUMNS).round().astype(int)).tolist()
    rows, labels = [], []
    for i in range(len(batch)):
        for name, film in (
            (f"clip {i}, seen", seen[i]),
            ("decoded", paint(z[i : i + 1])[0]),
            ("imagined", paint(rolled[i : i + 1])[0]),
        ):
            rows.append(_colours(film[columns]))
            labels.append(name)
    return rows, labels, columns


def _read(system: Any, built: Built, source: Any, count: int) -> tuple[Tensor, Tensor]:
    """States [n t *s] and small pictures [n t c h w] in [0, 1] of the first clips, on the processor."""
    states, small = [], []
    device = next(system.parameters()).device
    for at in range(0, count, 32):
        raw = source.read(range(at, min(at + 32, count)))
        data: Any = built.views.plain(raw).views["image"].data
        states.append(system.encode(data.to(device)).cpu())
        x: Any = raw.views["image"].data
        frames = x.transpose(1, 2).flatten(0, 1).float() / (255 if x.dtype == torch.uint8 else 1)
        if max(frames.shape[-2:]) > _SIDE:
            frames = F.adaptive_avg_pool2d(frames, _SIDE)
        small.append(frames.unflatten(0, (len(x), -1)))
    return torch.cat(states), torch.cat(small)


def _colours(film: Tensor) -> NDArray[np.uint8]:
    """[t h w 3]: three channels as they are, two as red and white, others grey."""
    if film.shape[1] == 2:
        first, second = film.unbind(1)
        film = torch.stack([torch.maximum(first, second), second, second], 1)
    elif film.shape[1] != 3:
        film = film.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (255 * film.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
