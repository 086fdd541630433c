"""What planning in Two Rooms looks like: filmstrips, a film, and the energy around the actions that were taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.reports.episodes import filmstrip, landscape, movie, tiled
from tacit.runs.build import Built, split_of
from tacit.worlds.rooms import Outcome, Tasks, draw
from tacit.worlds.rooms.layouts import Layouts

__all__ = ["action_energies", "around", "frames_of", "write_pictures"]

_SHOWN, _ROWS, _COLUMNS = 16, 8, 9  # episodes in the film, in the strip, pictures a row
_GRID, _REACH, _CLIPS = 31, 2.45, 64  # the landscape: actions a side, pixels, clips in the mean


def write_pictures(built: Built, played: Outcome, tasks: Tasks, settings: Any, folder: Path) -> list[Path]:
    """filmstrip.png (failures first), episodes.gif, landscape.png."""
    good = played.success("eb-jepa").tolist()
    rows = sorted(range(len(good)), key=lambda i: (good[i], i))
    failed = [i for i in rows if not good[i]][: _ROWS // 2]
    rows = [*failed, *[i for i in rows if good[i]][: _ROWS - len(failed)]]
    steps = np.unique(np.linspace(0, settings.steps, _COLUMNS).round().astype(int)).tolist()
    strips = [np.concatenate([frames_of(played, tasks, i)[steps], _goal(tasks, i)]) for i in rows]
    labels = [f"episode {i}\n{float(played.distance[i]):.1f} px away" for i in rows]
    films = [frames_of(played, tasks, i)[::2] for i in range(min(_SHOWN, len(tasks)))]
    written = [
        filmstrip(strips, labels, [*steps, -1], [good[i] for i in rows], folder / "filmstrip.png"),
        movie(tiled(films, 4), folder / "episodes.gif", fps=20, scale=2),
    ]
    energies, actions = action_energies(built)
    mean = around(energies, actions)
    maps = [*energies[:4].numpy(), mean]
    marks = [*((float(x), float(y)) for x, y in actions[:4]), (0.0, 0.0)]
    titles = [*(f"clip {i}" for i in range(len(maps) - 1)), f"mean over {len(energies)} clips,\nabout the true action"]
    written.append(landscape(maps, marks, titles, _REACH, folder / "landscape.png", ("x, pixels", "y, pixels")))
    return written


def frames_of(played: Outcome, tasks: Tasks, i: int) -> NDArray[np.uint8]:
    """Episode i as colours [t 65 65 3]: dot red, goal green, walls white, the way so far dim."""
    path = played.path[i]
    layouts = Layouts(tasks.layouts.wall[i].expand(len(path)), tasks.layouts.door[i].expand(len(path)))
    dot, walls = draw(path, layouts).unbind(1)
    goal = draw(tasks.goal[i : i + 1], layouts[:1])[:, 0]
    trail = torch.zeros_like(dot)
    at = path.round().long()
    for step in range(len(path)):
        trail[step:, at[step, 1], at[step, 0]] = 110
    colours = torch.stack([torch.maximum(torch.maximum(dot, walls), trail), torch.maximum(goal.expand_as(walls), walls),
                           torch.maximum(walls, trail)], -1)  # fmt: skip
    return colours.numpy()


def _goal(tasks: Tasks, i: int) -> NDArray[np.uint8]:
    goal, walls = draw(tasks.goal[i : i + 1], tasks.layouts[i : i + 1]).unbind(1)
    return torch.stack([walls, torch.maximum(goal, walls), walls], -1).numpy()


@torch.no_grad()
def action_energies(
    built: Built, clips: int = _CLIPS, grid: int = _GRID, *, reach: float = _REACH, split: str = "valid"
) -> tuple[Tensor, Tensor]:
    """Energies [n k k] of the second frame of clips over a grid of the first two action coordinates (rows: the second), and the true
    actions [n a]; further coordinates keep their true values.

    Of worlds that record `position` only clips whose dot moved as the action says: where a wall held it, every action into the wall is as
    true as the recorded one.
    """
    source = split_of(built.recipe, split)
    read = source.read(range(min(len(source), 2 * clips)))
    taken: Any = read.action
    where = read.facts.get("position")
    if where is not None and where.shape[2:] == taken.shape[2:]:
        moved = (where[:, 1] - where[:, 0] - taken[:, 0]).abs().amax(1) < 1e-3
    else:
        moved = torch.ones(len(taken), dtype=torch.bool)
    moved = moved if bool(moved.any()) else ~moved
    x = built.views.plain(read).views["image"].data
    system = built.system
    device = next(iter(system.parameters())).device
    z = system.encode(x[moved][:clips, :, :2].to(device))
    true = taken[moved][:clips, 0].to(device)
    line = torch.linspace(-reach, reach, grid)
    around_ = torch.stack([line.repeat(grid), line.repeat_interleave(grid)], -1).to(device)  # x runs fastest
    energies = []
    for before, seen, own in zip(z[:, 0], z[:, 1], true, strict=True):
        actions = own.expand(len(around_), -1).clone()
        actions[:, :2] = around_
        y = system.imagine(before.expand(len(actions), *before.shape), actions.unsqueeze(1))[:, 0]
        energies.append((y - seen).square().flatten(1).mean(1))
    return torch.stack(energies).view(-1, grid, grid).cpu(), true.cpu()


def around(energies: Tensor, actions: Tensor, reach: float = _REACH) -> NDArray[np.floating]:
    """The mean landscape [k k] with every true action moved to the middle (edges repeat)."""
    k = energies.shape[-1]
    shift = (actions[:, :2] / (2 * reach) * (k - 1)).round().long()
    at = torch.arange(k)
    moved = [
        e[(at + sy).clamp(0, k - 1)][:, (at + sx).clamp(0, k - 1)] for e, (sx, sy) in zip(energies, shift, strict=True)
    ]
    return torch.stack(moved).mean(0).numpy()
