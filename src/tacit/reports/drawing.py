"""A canvas for small charts: matplotlib's SVG, made deterministic, small, and coloured by the page's CSS variables.

Colours are drawn as stand-ins and replaced by variables, so that one chart serves the light page, the dark page and
print. Words that come from outside are drawn as stand-ins too: matplotlib never lays them out, so neither a dollar sign
nor a script that its font lacks can disturb it. No pyplot, no lasting change of rcParams.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

__all__ = ["DASHES", "INK", "MARKERS", "MUTED", "RULE", "SERIES", "Drawing", "drawing", "key"]

SERIES = tuple(f"#b0b0{i:02x}" for i in range(1, 11))
INK, MUTED, RULE = "#a0a001", "#a0a002", "#a0a003"
_NAMES = {INK: "ink", MUTED: "muted", RULE: "rule"}
_NAMES |= {colour: f"s{i}" for i, colour in enumerate(SERIES, start=1)}

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "",
    "font.size": 11,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "D", "^", "v", "P")
_STROKES, _GLYPHS = ("solid", "dashed", "dotted", "dash-dotted"), ("●", "■", "◆", "▲", "▼", "✚")


def key(names: Iterable[str], shape: str, order: Iterable[int] | None = None) -> list[tuple[str, str, str]]:
    """Entries of a legend: (name, CSS colour, mark). shape: 'line' for dashes, 'mark' for markers, 'dot' for one shape.

    Colours repeat after the tenth name; dashes and marks, which serve those who see no colours, repeat sooner.
    """
    numbered = enumerate(names) if order is None else zip(order, names, strict=True)
    marks = {"line": _STROKES, "mark": _GLYPHS, "dot": ("●",)}[shape]
    return [(name, f"var(--s{i % len(SERIES) + 1})", marks[i % len(marks)]) for i, name in numbered]


def step_label(value: float, _position: object = None) -> str:
    """Steps as people say them: 500, 2k, 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def power_label(value: float, _position: object = None) -> str:
    """Powers of ten with raised digits; plain between 0.01 and 1000."""
    if 0.009 < value < 1001:
        return f"{value:g}"
    exponent = round(float(np.log10(value)))
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


class Drawing:
    """One chart of `width` x `height` CSS pixels at its natural size; it scales with its column."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(self.figure)
        self._words: list[str] = []

    def axes(self, *, left: int = 42, right: int = 12, top: int = 10, bottom: int = 34) -> Axes:
        """Axes with margins in pixels."""
        w, h = self.width, self.height
        ax = self.figure.add_axes((left / w, bottom / h, 1 - (left + right) / w, 1 - (top + bottom) / h))
        ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        ax.tick_params(axis="y", pad=5)
        return ax

    def steps_axis(self, ax: Axes) -> None:
        """Number the x axis in steps."""
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(step_label))

    def word(self, text: str) -> str:
        """A stand-in for words from outside; give it to matplotlib in place of them."""
        self._words.append(text)
        return f"W{len(self._words) - 1}W"

    def dots(self, ax: Axes, points: NDArray[Any], colour: str, *, size: float, alpha: float = 1.0) -> None:
        """Round dots at points [n 2] as one path: a fifth of the bytes that markers take."""
        vertices = np.repeat(np.asarray(points, dtype=np.float64), 2, axis=0)
        codes = np.tile(np.array([Path.MOVETO, Path.LINETO], dtype=np.uint8), len(points))
        path = Path(vertices, codes)
        path.should_simplify = False
        ax.add_patch(
            PathPatch(path, fill=False, edgecolor=colour, linewidth=size, capstyle="round", alpha=alpha, clip_on=False)
        )

    def svg(self, description: str) -> Markup:
        """The chart as inline SVG with `description` for those who do not see it."""
        buffer = io.StringIO()
        matplotlib.rcParams["svg.hashsalt"] = (
            description  # ids differ between the charts of one page; drawing() restores
        )
        self.figure.savefig(buffer, format="svg")
        text = buffer.getvalue()
        text = text[text.index("<svg") :].strip()
        # The metadata hold the date, and addresses that look as if the page loaded something.
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<style .*?</style>", "", text, flags=re.DOTALL)  # its rules would reach the whole page
        text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
        text = re.sub(
            r'<g id="(halo[^"]*)"', r'<g class="\1"', text
        )  # gid="halo": words that stay legible over what lies below
        text = re.sub(r'<g id="[^"]*"', "<g", text)
        text = re.sub(r"<defs>\s*</defs>|<g\s*/>", "", text)
        text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
        text = text.replace("xlink:href", "href")
        # A hundredth of a pixel is enough; what stands between tags, the numbers at the axes, stays whole.
        text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text)
        text = re.sub(r"font-family: [^;\"]*;? ?", "", re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text))
        text = re.sub(r'\s+(?=[<"LMzCQ])', "", text)
        for colour, name in _NAMES.items():
            text = text.replace(colour, f"var(--{name})")
        head = f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(description)}">'
        text = head + text[text.index(">") + 1 :]
        return Markup(re.sub(r">W(\d+)W<", lambda m: f">{escape(self._words[int(m[1])])}<", text))


@contextlib.contextmanager
def drawing(width: int = 400, height: int = 220) -> Iterator[Drawing]:
    """A Drawing under the style of the page; the caller's rcParams are as they were afterwards."""
    with matplotlib.rc_context(_STYLE):
        yield Drawing(width, height)
