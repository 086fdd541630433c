"""The sections that show solutions of differential equations: pictures, films, curves of spectra and conserved quantities."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from tacit.reports import charts
from tacit.reports.drawing import DASHES, SERIES, drawing, key
from tacit.reports.pictures import Pictures, as_array
from tacit.reports.rendering import render

__all__ = ["FieldPictures", "Films", "Lines", "line_frames"]

Array = NDArray[np.float64]
_LONG = 144  # pixels of the longer side
_FRAMES = 30  # of a film
_BEAT = 80  # milliseconds a frame


def _ends(rows: Mapping[str, Array], name: str) -> tuple[float, float]:
    """The least and greatest value of the rows that share colours: those whose names begin alike up to a comma."""
    stem = name.partition(",")[0]
    alike = [u[np.isfinite(u)] for other, u in rows.items() if other.partition(",")[0] == stem]
    alike = [u for u in alike if u.size]
    if not alike:
        raise ValueError(f"{name!r} has no finite value and cannot be drawn: leave it out.")
    return min(float(u.min()) for u in alike), max(float(u.max()) for u in alike)


def _levels(u: Array, low: float, high: float) -> tuple[Array, str]:
    """Values in [0, 1] and the colour map: symmetric about zero where both signs occur, else from the least to the greatest."""
    if low < 0 < high:
        size = max(-low, high)
        return np.nan_to_num(u / (2 * size) + 0.5, nan=0.5), "RdBu_r"
    return np.nan_to_num((u - low) / ((high - low) or 1.0)), "viridis"


def _coloured(u: Array, name: str) -> Image.Image:
    """One picture [h w] of values in [0, 1]."""
    pixels = (matplotlib.colormaps[name](np.clip(u, 0, 1))[..., :3] * 255).round().astype(np.uint8)
    h, w = pixels.shape[:2]
    factor = _LONG / max(h, w)
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    image = Image.fromarray(pixels)
    return image.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX)


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _said(name: str, low: float, high: float, map_: str) -> str:
    colours = "blue below zero, red above" if map_ == "RdBu_r" else "dark is low"
    return f"{name.partition(',')[0]}: from {low:.3g} to {high:.3g}, {colours}."


def _arrays(rows: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(as_array(values), dtype=np.float64) for name, values in rows.items()}


def _rows(section: Any, drawn: Mapping[str, tuple[list[str], str]], captions: Sequence[str], per_row: int) -> Markup:
    """A table of pictures, a row a name."""
    rows = {name: Pictures(tuple(uris)) for name, (uris, _) in drawn.items()}
    n = len(next(iter(rows.values()))) if rows else 0
    for name, shown in rows.items():
        if len(shown) != n:
            raise ValueError(f"row {name!r} has {len(shown)} pictures, the first has {n}: give one of each sample.")
    words = list(captions) or [""] * n
    if len(words) != n:
        raise ValueError(f"{len(words)} captions for {n} pictures: give one a picture, or none.")
    blocks = [range(i, min(i + per_row, n)) for i in range(0, n, per_row)]
    remarks = list(dict.fromkeys(remark for _, remark in drawn.values() if remark))
    table = render("pairs", section=section, rows=rows, blocks=blocks, captions=words, remarks=remarks)
    return Markup('<div class="fields">{}</div>').format(table)


@dataclass(frozen=True, eq=False)
class FieldPictures:
    """Fields as pictures: rows maps a name to n pictures [n h w] of one quantity.

    Rows whose names begin alike up to a comma ('u, plain', 'u, moved') share their colours.
    """

    rows: Mapping[str, Any]
    title: str = "Fields"
    lead: str = ""
    captions: Sequence[str] = ()
    absent: str = "No field was drawn."
    per_row: int = 6

    def html(self) -> Markup:
        """Small tables of `per_row` samples."""
        drawn, rows = {}, _arrays(self.rows)
        for name, u in rows.items():
            low, high = _ends(rows, name)
            levels, colours = _levels(u, low, high)
            uris = []
            for one in levels:
                buffer = io.BytesIO()
                _coloured(one, colours).save(buffer, "PNG", optimize=True)
                uris.append(_uri("png", buffer.getvalue()))
            drawn[name] = (uris, _said(name, low, high, colours))
        return _rows(self, drawn, self.captions, self.per_row)


@dataclass(frozen=True, eq=False)
class Films:
    """Fields as small animated pictures: rows maps a name to n films [n t h w] of one quantity. Colours as in `FieldPictures`.

    graphs: the films are those of `line_frames`, drawn dark on light.
    """

    rows: Mapping[str, Any]
    title: str = "Films"
    lead: str = ""
    captions: Sequence[str] = ()
    absent: str = "No film was drawn."
    per_row: int = 6
    graphs: bool = False

    def html(self) -> Markup:
        """Small tables of `per_row` samples; long films are thinned to 30 frames."""
        drawn, rows = {}, _arrays(self.rows)
        for name, u in rows.items():
            low, high = _ends(rows, name)
            keep = np.unique(np.linspace(0, u.shape[1] - 1, min(u.shape[1], _FRAMES)).astype(np.int64))
            levels, colours = (u[:, keep], "Greys") if self.graphs else _levels(u[:, keep], low, high)
            uris = []
            for film in levels:
                frames = [_coloured(frame, colours).quantize(32) for frame in film]
                buffer = io.BytesIO()
                frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=_BEAT, loop=0)
                uris.append(_uri("gif", buffer.getvalue()))
            drawn[name] = (uris, "" if self.graphs else _said(name, low, high, colours))
        return _rows(self, drawn, self.captions, self.per_row)


def line_frames(u: Any, height: int = 64) -> Array:
    """The graph of u(x) in every frame as a picture: u [n t x] -> [n t height 2x], 1 on the curve and 0 elsewhere.

    All frames of all samples share one scale. Neighbouring values are joined by an upright stroke.
    """
    values = np.repeat(np.asarray(as_array(u), dtype=np.float64), 2, axis=2)
    low, high = float(values.min()), float(values.max())
    place = (height - 1) * (1 - (values - low) / ((high - low) or 1.0))
    after = np.concatenate([place[..., 1:], place[..., -1:]], axis=-1)
    first, last = np.floor(np.minimum(place, after)), np.ceil(np.maximum(place, after))
    rows = np.arange(height).reshape(-1, 1)
    inside = (rows >= first[:, :, None, :]) & (rows <= last[:, :, None, :])
    return inside.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Lines:
    """Panels of curves: panels maps a title to named curves (x, y); `log` draws both axes in powers of ten."""

    panels: Mapping[str, Mapping[str, tuple[Any, Any]]]
    title: str = "Curves"
    lead: str = ""
    xlabel: str = "x"
    log: bool = False
    absent: str = "There is no curve to draw."

    def html(self) -> Markup:
        """One small chart a panel."""
        drawn = [(title, "", key(curves, "line") if len(curves) > 1 else [], self._chart(title, curves)) for title, curves in
                 self.panels.items()]  # fmt: skip
        return render("curves", section=self, panels=drawn, remarks=[])

    def _chart(self, title: str, curves: Mapping[str, tuple[Any, Any]]) -> Markup:
        with drawing(320, 190) as d:
            ax = d.axes(left=52, bottom=36, right=8)
            for i, (x, y) in enumerate(curves.values()):
                x, y = (np.asarray(as_array(v), dtype=np.float64) for v in (x, y))
                y = np.where(np.isfinite(y) & ((y > 0) | (not self.log)), y, np.nan)
                if np.isfinite(y).any():
                    ax.plot(x, y, color=SERIES[i % len(SERIES)], linestyle=DASHES[i % len(DASHES)])
            if self.log:
                charts.logarithmic(ax, "x")
                charts.logarithmic(ax, "y")
            else:
                ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.set_xlabel(d.word(self.xlabel))
            return d.svg(f"{title} over {self.xlabel}: {', '.join(curves)}")
