"""Error against horizon: one line a model with its band, on a log scale, as a PNG or SVG file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["Curve", "save_horizons"]

Array = NDArray[np.float64]
Curve = tuple[Array, Array, Array]
"""(mean, low, high), each [frames]."""

_COLOURS = ("#888888", "#1f5fa8", "#d1611c", "#2f8f4e", "#8a4fb0", "#b8293d")
_DASHES = ("-", "--", "-.", ":")


def save_horizons(path: str | Path, curves: Mapping[str, Curve], *, title: str, ylabel: str, xlabel: str) -> Path:
    """Draw the curves; values not positive or not finite are gaps. The axis follows the curves, not the bands."""
    path = Path(path)
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    ax = figure.add_subplot()
    seen: list[float] = []
    for i, (name, (mean, low, high)) in enumerate(curves.items()):
        x = np.arange(1, len(mean) + 1)
        colour = _COLOURS[i % len(_COLOURS)]
        shown = np.where(np.isfinite(mean) & (mean > 0), mean, np.nan)
        seen += shown[np.isfinite(shown)].tolist()
        ax.plot(x, shown, label=name, color=colour, linestyle=_DASHES[i % len(_DASHES)], linewidth=1.6)
        ax.fill_between(x, np.clip(low, 1e-12, None), high, color=colour, alpha=0.15, linewidth=0)
    ax.set(yscale="log", xlabel=xlabel, ylabel=ylabel, title=title)
    if seen:
        ax.set_ylim(min(seen) / 3, max(seen) * 3)
    ax.grid(axis="y", linewidth=0.4)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
