"""The shapes: capital letters as strokes in a square from -1 to 1, x to the right and y down.

A stroke is a chain of straight lines, or an arc 'o cx cy rx ry from to' in degrees, clockwise from the right (y points down).
"""

from __future__ import annotations

import functools
import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["LETTERS", "segments"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ARC = 20.0  # degrees of an arc that one straight line replaces
_STROKES = {
    "A": "-.8 1 0 -1 .8 1; -.45 .25 .45 .25",
    "B": "-.6 -1 -.6 1; -.6 -1 .1 -1; -.6 -.05 .1 -.05; -.6 1 .1 1; o .1 -.525 .5 .475 -90 90; o .1 .475 .6 .525 -90 90",
    "C": "o .1 0 .85 1 50 310",
    "D": "-.6 -1 -.6 1; -.6 -1 -.1 -1; -.6 1 -.1 1; o -.1 0 .8 1 -90 90",
    "E": ".6 -1 -.6 -1 -.6 1 .6 1; -.6 0 .4 0",
    "F": ".6 -1 -.6 -1 -.6 1; -.6 -.05 .4 -.05",
    "G": "o .1 0 .85 1 50 310; .65 .75 .65 .1 .15 .1",
    "H": "-.65 -1 -.65 1; .65 -1 .65 1; -.65 0 .65 0",
    "I": "0 -1 0 1; -.35 -1 .35 -1; -.35 1 .35 1",
    "J": ".4 -1 .4 .45; o -.1 .45 .5 .55 0 170",
    "K": "-.6 -1 -.6 1; .65 -1 -.6 .2; -.2 -.15 .7 1",
    "L": "-.5 -1 -.5 1 .6 1",
    "M": "-.8 1 -.8 -1 0 .3 .8 -1 .8 1",
    "N": "-.65 1 -.65 -1 .65 1 .65 -1",
    "O": "o 0 0 .85 1 0 360",
    "P": "-.6 1 -.6 -1 .1 -1; -.6 .1 .1 .1; o .1 -.45 .55 .55 -90 90",
    "Q": "o 0 0 .85 1 0 360; .25 .4 .85 1.05",
    "R": "-.6 1 -.6 -1 .1 -1; -.6 .05 .1 .05; o .1 -.475 .55 .525 -90 90; 0 .05 .7 1",
    "S": "o 0 -.5 .6 .5 90 340; o 0 .5 .65 .5 -90 160",
    "T": "-.75 -1 .75 -1; 0 -1 0 1",
    "U": "-.65 -1 -.65 .35; .65 -1 .65 .35; o 0 .35 .65 .65 0 180",
    "V": "-.75 -1 0 1 .75 -1",
    "W": "-.95 -1 -.5 1 0 -.4 .5 1 .95 -1",
    "X": "-.7 -1 .7 1; .7 -1 -.7 1",
    "Y": "-.7 -1 0 0 .7 -1; 0 0 0 1",
    "Z": "-.65 -1 .65 -1 -.65 1 .65 1",
}


def _chain(stroke: str) -> list[tuple[float, float]]:
    first, *rest = stroke.split()
    if first != "o":
        numbers = [float(word) for word in stroke.split()]
        return list(zip(numbers[::2], numbers[1::2], strict=True))
    cx, cy, rx, ry, begin, end = (float(word) for word in rest)
    count = max(2, math.ceil(abs(end - begin) / _ARC) + 1)
    angles = [math.radians(begin + (end - begin) * i / (count - 1)) for i in range(count)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


@functools.cache
def segments() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All straight lines [s 4] (x, y of both ends), and where each letter's begin [27]: letter i has begin[i] to begin[i + 1]."""
    lines: list[tuple[float, float, float, float]] = []
    begin = [0]
    for letter in LETTERS:
        for stroke in _STROKES[letter].split(";"):
            chain = _chain(stroke)
            lines += [(*a, *b) for a, b in pairwise(chain)]
        begin.append(len(lines))
    return np.array(lines), np.array(begin, dtype=np.int64)
