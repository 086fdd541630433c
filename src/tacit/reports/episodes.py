"""Episodes as pictures: filmstrips, films, and energy landscapes over two action coordinates. PNG and GIF files, no pyplot.

Frames are uint8 [t h w 3]; every file is written beside and renamed into place by the caller's choice of path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

__all__ = ["filmstrip", "landscape", "movie"]

_GOOD, _BAD = "#1a7f37", "#b3261e"


def filmstrip(
    rows: Sequence[NDArray[np.uint8]], labels: Sequence[str], steps: Sequence[int], good: Sequence[bool], path: Path
) -> Path:
    """One row an episode: frames [t h w 3] at `steps`, the label beside them, green or red by success."""
    across, down = len(steps), len(rows)
    figure = Figure(figsize=(1.05 * across + 1.9, 1.12 * down + 0.4), dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.06})
    figure.subplots_adjust(
        left=1.75 / (1.05 * across + 1.9), right=0.995, top=1 - 0.32 / (1.12 * down + 0.4), bottom=0.01
    )
    for r, (frames, label, well) in enumerate(zip(rows, labels, good, strict=True)):
        for c, step in enumerate(steps):
            axis = grid[r][c]
            axis.imshow(frames[c], interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if r == 0:
                axis.set_title(f"step {step}" if step >= 0 else "goal", fontsize=8, pad=3)
            if c == 0:
                axis.set_ylabel(
                    label, fontsize=8, rotation=0, ha="right", va="center", labelpad=6, color=_GOOD if well else _BAD
                )
    figure.savefig(path)
    return path


def movie(frames: NDArray[np.uint8], path: Path, *, fps: int = 20, scale: int = 1) -> Path:
    """An endless GIF of frames [t h w 3], each pixel `scale` wide."""
    large = frames.repeat(scale, 1).repeat(scale, 2)
    first, *rest = [Image.fromarray(frame).quantize(64) for frame in large]
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, optimize=False)
    return path


def tiled(films: Sequence[NDArray[np.uint8]], columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Films [t h w 3] of one length side by side in rows of `columns`."""
    t, h, w, _ = films[0].shape
    rows = -(-len(films) // columns)
    sheet = np.full((t, rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 128, np.uint8)
    for i, film in enumerate(films):
        y, x = divmod(i, columns)
        sheet[:, y * (h + gap) : y * (h + gap) + h, x * (w + gap) : x * (w + gap) + w] = film
    return sheet


def landscape(
    maps: Sequence[NDArray[np.floating]], marks: Sequence[tuple[float, float]], titles: Sequence[str], reach: float, path: Path,
    words: tuple[str, str] = ("first action coordinate", "second"),
) -> Path:  # fmt: skip
    """Energies [k k] over actions from -reach to reach (rows: second coordinate), least energy and true action marked."""
    across = len(maps)
    figure = Figure(figsize=(2.45 * across + 0.4, 2.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axis, energy, mark, title in zip(
        figure.subplots(1, across, squeeze=False)[0], maps, marks, titles, strict=True
    ):
        image = axis.imshow(energy, origin="lower", extent=(-reach, reach, -reach, reach), cmap="viridis")
        y, x = np.unravel_index(np.argmin(energy), energy.shape)
        line = np.linspace(-reach, reach, len(energy))
        axis.plot(*mark, "+", color="white", markersize=11, markeredgewidth=2)
        axis.plot(
            line[x], line[y], "o", markerfacecolor="none", markeredgecolor="#ff4d4d", markersize=8, markeredgewidth=1.6
        )
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_xlabel(words[0], fontsize=7)
        axis.set_ylabel(words[1], fontsize=7)
        figure.colorbar(image, ax=axis, shrink=0.7).ax.tick_params(labelsize=6)
    figure.savefig(path)
    return path
