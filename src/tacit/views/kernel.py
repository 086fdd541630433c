"""The applier for processors: one fused pass a picture, planar float32, in cache; deterministic given the parameters.

Order: crop and resize, mirror, rotate, jitter (its four operations in the recorded order), grey, blur, solarise, noise,
normalise. Operations that were not drawn cost nothing. Values live in [0, 1] until they are normalised.

Legend: c channels, s side of the view, p = s * s its pixels; a plane is one channel of the view, [p].
All compiled code that changes together stays in this file: numba's cache on disk only watches the caller's file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tacit.views.compiled import fast_jit, jit
from tacit.views.draws import GOLDEN, mix

__all__ = ["BYTES", "FLOATS", "render"]

f4 = np.float32
BYTES, FLOATS = (f4(1 / 256), f4(1 / 255)), (f4(1), f4(0))  # what `_unit` takes for pixels of each type
_SOLARISE_FROM = f4(128) / f4(255)
_RED, _GREEN, _BLUE = f4(0.2989), f4(0.587), f4(0.114)
_ZERO, _ONE = f4(0), f4(1)
_NONE = (_ZERO,) * 8
_TAIL = 1e-6  # the share of the blur's weights that is left out and laid on the others
_8, _40, _24 = np.uint64(8), np.uint64(40), np.uint64((1 << 24) - 1)


@fast_jit
def _filter(x: float, cubic: bool) -> float:
    """The triangle, or the Catmull-Rom cubic (a = -1/2, as PIL and antialiased torch), at distance x."""
    x = abs(x)
    if not cubic:
        return max(0.0, 1.0 - x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0


@fast_jit
def taps_of(length: int, grid: int, cubic: bool) -> int:
    """How many source pixels one output pixel reads when `length` pixels become `grid`: the support grows with the ratio."""
    if length == grid:
        return 1
    return min(length, math.ceil((4.0 if cubic else 2.0) * max(length / grid, 1.0)))


@fast_jit
def _table(length: int, grid: int, offset: int, mirror: bool, cubic: bool, start: Any, weight: Any) -> int:
    """Resize weights along one axis: output i reads taps pixels from start[i] with weight[k, i]. Returns taps.

    Output i is pixel `offset + i` of the whole axis resized to `grid`; mirrored, the outputs are written from the end.
    """
    size = len(start)
    taps = taps_of(length, grid, cubic)
    reach = (2.0 if cubic else 1.0) * max(length, grid) / grid
    pixel, unit = 0.5 / grid, 0.5 / max(length, grid)
    for i in range(size):
        at = size - 1 - i if mirror else i
        if length == grid:
            start[at] = offset + i
            weight[0, at] = 1.0
            continue
        centre = length * (2 * (offset + i) + 1)  # in units of 1 / (2 grid) source pixels: exact integers
        begin = min(max(0, math.floor(centre * pixel - reach + 0.5)), length - taps)
        start[at] = begin
        total = 0.0
        for k in range(taps):
            value = _filter((centre - grid * (2 * (begin + k) + 1)) * unit, cubic)
            weight[k, at] = value
            total += value
        whole = f4(1.0 / total)
        for k in range(taps):
            weight[k, at] *= whole
    return taps


@jit
def _unit(value: Any, unit: Any) -> Any:
    """Scale to [0, 1]: for bytes exactly value / 255, without the division (x / 255 = x / 256 + x / 256 / 255)."""
    whole = f4(value) * unit[0]
    return whole + whole * unit[1]


@fast_jit
def _resize(
    picture: Any, width: int, box: Any, unit: Any, cubic: bool, count: Any, start: Any, weights: Any, row: Any, rows: Any, out: Any
) -> None:  # fmt: skip
    """Crop `box` of one plane (flat, rows of `width`) and resize it into out [s s]; rows [h s] and row [w] are scratch."""
    top, left, w = box[0], box[1], box[3]
    side = out.shape[0]
    taps_y, start_y, weight_y = count[0], start[0], weights[0]
    taps_x, start_x, weight_x = count[1], start[1], weights[1]
    a, b = weight_x[0], weight_x[min(1, taps_x - 1)]
    low, high = int(start_y[0]), int(start_y[side - 1]) + taps_y
    for y in range(low, high):
        base = (top + y) * width + left
        source = picture[base : base + w]
        for x in range(w):
            row[x] = _unit(source[x], unit)
        line = rows[y]
        if taps_x % 2:
            for x in range(side):
                line[x] = a[x] * row[start_x[x]]
        else:
            for x in range(side):
                line[x] = a[x] * row[start_x[x]] + b[x] * row[start_x[x] + np.uint32(1)]
        for k in range(2 - taps_x % 2, taps_x, 2):
            c, d = weight_x[k], weight_x[k + 1]
            near, far = row[k:], row[k + 1 :]
            for x in range(side):
                line[x] += c[x] * near[start_x[x]] + d[x] * far[start_x[x]]
    for y in range(side):
        line = out[y]
        begin = int(start_y[y])
        one, two = rows[begin], rows[begin + min(1, taps_y - 1)]
        p, q = weight_y[0, y], weight_y[1, y] if taps_y > 1 else _ZERO
        if cubic and taps_y == 4:  # enlarged: in one go; the cubic overshoots, and pictures of bytes saturate there
            three, four, r, t = rows[begin + 2], rows[begin + 3], weight_y[2, y], weight_y[3, y]
            for x in range(side):
                line[x] = min(max(p * one[x] + q * two[x] + (r * three[x] + t * four[x]), _ZERO), _ONE)
            continue
        for x in range(side):
            line[x] = p * one[x] + q * two[x]
        for k in range(2, taps_y):
            one, p = rows[begin + k], weight_y[k, y]
            for x in range(side):
                line[x] += p * one[x]
        if cubic:
            for x in range(side):
                line[x] = min(max(line[x], _ZERO), _ONE)


@fast_jit
def _rotate(plane: Any, angle: float, frame: Any) -> None:
    """Rotate plane [s s] by `angle` degrees about its centre, bilinear, zeros outside; frame [s+3 s+3] has a zero border."""
    side = plane.shape[0]
    middle = (side - 1) / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for y in range(side):  # written out: numba takes seconds to compile an assignment to a slice
        for x in range(side):
            frame[y + 1, x + 1] = plane[y, x]
    for y in range(side):
        for x in range(side):
            u = min(max(cos * (x - middle) - sin * (y - middle) + middle, -1.0), float(side)) + 1
            v = min(max(sin * (x - middle) + cos * (y - middle) + middle, -1.0), float(side)) + 1
            left, top = np.uint32(u), np.uint32(v)
            dx, dy = f4(u - left), f4(v - top)
            above = frame[top, left] * (_ONE - dx) + frame[top, left + np.uint32(1)] * dx
            below = frame[top + np.uint32(1), left] * (_ONE - dx) + frame[top + np.uint32(1), left + np.uint32(1)] * dx
            plane[y, x] = above * (_ONE - dy) + below * dy


@fast_jit
def _blend(plane: Any, factor: Any, shift: Any) -> None:
    for i in range(plane.size):
        plane[i] = min(max(factor * plane[i] + shift, _ZERO), _ONE)


@fast_jit
def _add(s: Any, plane: Any, i: int) -> Any:
    """Eight float32 sums s, with plane[i : i + 8] added."""
    return (
        s[0] + plane[i], s[1] + plane[i + 1], s[2] + plane[i + 2], s[3] + plane[i + 3],
        s[4] + plane[i + 4], s[5] + plane[i + 5], s[6] + plane[i + 6], s[7] + plane[i + 7],
    )  # fmt: skip


@fast_jit
def _folded(s: Any) -> float:
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


@fast_jit
def _mean(view: Any) -> float:
    """Mean grey of a view [3 p]; the plain mean of any other number of channels."""
    channels, n = view.shape
    whole = n - n % 8
    grey = 0.0
    for c in range(0, channels, 3):  # three planes side by side: their sums do not wait for each other
        one, two, three = view[c], view[min(c + 1, channels - 1)], view[min(c + 2, channels - 1)]
        x, y, z = 0.0, 0.0, 0.0
        for begin in range(0, whole, 1024):  # short float32 sums in eight lanes, added in float64
            r, g, b = _NONE, _NONE, _NONE
            for i in range(begin, min(begin + 1024, whole), 8):
                r, g, b = _add(r, one, i), _add(g, two, i), _add(b, three, i)
            x, y, z = x + _folded(r), y + _folded(g), z + _folded(b)
        for i in range(whole, n):
            x, y, z = x + one[i], y + two[i], z + three[i]
        for k in range(min(3, channels - c)):
            grey += (x, y, z)[k] / n * ((_RED, _GREEN, _BLUE)[k] if channels == 3 else 1 / channels)
    return grey


@fast_jit
def _saturate(r: Any, g: Any, b: Any, factor: Any) -> None:
    """Blend with the grey of each pixel; factor 0 is grey itself."""
    rest = _ONE - factor
    for i in range(r.size):
        grey = rest * (_RED * r[i] + _GREEN * g[i] + _BLUE * b[i])
        r[i] = min(max(factor * r[i] + grey, _ZERO), _ONE)
        g[i] = min(max(factor * g[i] + grey, _ZERO), _ONE)
        b[i] = min(max(factor * b[i] + grey, _ZERO), _ONE)


@fast_jit
def _spoke(k: Any, high: Any, chroma: Any) -> Any:
    k = k - f4(6) * np.floor(k * f4(1 / 6))
    return high - chroma * max(_ZERO, min(_ONE, min(k, f4(4) - k)))


@fast_jit
def _hue(r: Any, g: Any, b: Any, turn: Any) -> None:
    """Turn the hue by `turn` of a full circle in HSV: v - (v s) max(0, min(1, k, 4 - k)), k = (n + 6 hue) mod 6, n = 5, 3, 1."""
    for i in range(r.size):
        x, y, z = r[i], g[i], b[i]
        high = max(max(x, y), z)
        chroma = high - min(min(x, y), z)
        divisor = chroma if chroma > _ZERO else _ONE
        numerator = (y - z) if high == x else ((z - x) if high == y else (x - y))
        sector = _ZERO if high == x else (f4(2) if high == y else f4(4))
        hue = numerator / divisor + sector + f4(6) * turn
        r[i] = _spoke(hue + f4(5), high, chroma)
        g[i] = _spoke(hue + f4(3), high, chroma)
        b[i] = _spoke(hue + f4(1), high, chroma)


@fast_jit
def _blur(plane: Any, sigma: float, radius: int, copy: Any, padded: Any, weight: Any) -> None:
    """Gaussian blur of plane [s s], kernel of 2 radius + 1 pixels, reflected at the border; copy [s s], padded [s s+2 radius]."""
    side = plane.shape[0]
    total = 0.0
    for k in range(radius + 1):
        value = math.exp(-0.5 * (k / sigma) ** 2)
        total += value if k == 0 else 2 * value
    reach, left = 0, 1.0
    while reach <= radius:
        weight[reach] = math.exp(-0.5 * (reach / sigma) ** 2) / total
        left -= weight[reach] * (2 if reach else 1)
        if left < _TAIL:
            break
        reach += 1
    reach = min(reach, radius)
    whole = f4(1 / (1 - max(left, 0.0)))
    for k in range(reach + 1):
        weight[k] *= whole
    w, v = weight[0], weight[min(1, reach)]
    if reach == 0:
        return
    for y in range(side):  # all rows first: reading back what was stored just before, but shifted, would stall
        source, line = plane[y], padded[y]
        for x in range(side):
            line[reach + x] = source[x]
        for x in range(reach):
            line[reach - 1 - x] = source[x + 1]
            line[reach + side + x] = source[side - 2 - x]
    for y in range(side):
        line, target = padded[y], copy[y]
        before, middle, after = line[reach - 1 :], line[reach:], line[reach + 1 :]
        for x in range(side):
            target[x] = w * middle[x] + v * (before[x] + after[x])
        for k in range(2, reach + 1):
            u, before, after = weight[k], line[reach - k :], line[reach + k :]
            for x in range(side):
                target[x] += u * (before[x] + after[x])
    for y in range(side):
        source, target = copy[y], plane[y]
        for k in range(1, reach + 1):
            u = weight[k]
            above, below = copy[abs(y - k)], copy[y + k if y + k < side else 2 * side - 2 - y - k]
            if k == 1:
                for x in range(side):
                    target[x] = w * source[x] + u * (above[x] + below[x])
            else:
                for x in range(side):
                    target[x] += u * (above[x] + below[x])


@fast_jit
def _noise(view: Any, deviation: Any, state: Any) -> None:
    """Add normal noise (Box and Muller; 24 bits for each uniform), number i of `state` at place i of the view, and clamp."""
    flat = view.reshape(view.size)
    for i in range(flat.size):
        bits = mix(state + np.uint64(i) * GOLDEN)
        radius = math.sqrt(f4(-2) * math.log((f4(bits >> _40) + f4(0.5)) * f4(2.0**-24)))
        turn = math.cos(f4(2 * math.pi) * (f4((bits >> _8) & _24) * f4(2.0**-24)))
        flat[i] = min(max(flat[i] + deviation * radius * turn, _ZERO), _ONE)


@fast_jit
def render(
    begin: int, end: int, pixels: Any, offset: Any, unit: Any, cubic: bool, radius: int, mean: Any, scale: Any, out: Any,
    grid: Any, source: Any, box: Any, flip: Any, angle: Any, order: Any, jitter: Any, grey: Any, sigma: Any,
    solarise: Any, noise: Any, noise_key: Any,
) -> None:  # fmt: skip
    """Write views begin..end into out [n c s s], under the parameters of `draws.draw`.

    pixels: uint8, or float32 in [0, 1], all pictures one after another, picture i planar from offset[i]; unit brings
    them to [0, 1]. mean, scale: [c], or [0] to leave the views in [0, 1]. grid [n 4]: rows and columns of the whole
    resized box, and the first row and column of it that the view shows. No index is checked here.
    """
    channels, side = out.shape[1], out.shape[2]
    taps, tall, wide = 1, 1, 1
    for i in range(begin, end):
        taps = max(taps, taps_of(box[i, 2], grid[i, 0], cubic), taps_of(box[i, 3], grid[i, 1], cubic))
        tall, wide = max(tall, box[i, 2]), max(wide, box[i, 3])
    count, start, weights = np.empty(2, np.int64), np.empty((2, side), np.uint32), np.empty((2, taps, side), np.float32)
    row, rows = np.empty(wide, np.float32), np.empty((tall, side), np.float32)
    copy, padded = np.empty((side, side), np.float32), np.empty((side, side + 2 * radius), np.float32)
    weight, frame = np.empty(radius + 1, np.float32), np.zeros((side + 3, side + 3), np.float32)
    for i in range(begin, end):
        area = source[i, 0] * source[i, 1]
        view = out[i].reshape(channels, side * side)
        for axis in range(2):
            mirror = flip[i] and axis == 1
            length, whole, first = box[i, 2 + axis], grid[i, axis], grid[i, 2 + axis]
            count[axis] = _table(length, whole, first, mirror, cubic, start[axis], weights[axis])
        for c in range(channels):
            picture = pixels[offset[i] + c * area : offset[i] + (c + 1) * area]
            _resize(picture, source[i, 1], box[i], unit, cubic, count, start, weights, row, rows, out[i, c])
            if angle[i] != 0:
                _rotate(out[i, c], angle[i], frame)
        for k in range(5):  # the four of the jitter, then grey, which is saturation 0
            operation = order[i, k] if k < 4 else 2
            factor = jitter[i, operation] if k < 4 else (_ZERO if grey[i] else _ONE)
            if operation == 3 and factor != 0:
                _hue(view[0], view[1], view[2], factor)
            elif operation == 2 and factor != 1:
                _saturate(view[0], view[1], view[2], factor)
            elif operation < 2 and factor != 1:
                shift = (_ONE - factor) * f4(_mean(view)) if operation == 1 else _ZERO
                for c in range(channels):
                    _blend(view[c], factor, shift)
        if sigma[i] > 0:
            for c in range(channels):
                _blur(out[i, c], sigma[i], radius, copy, padded, weight)
        for c in range(channels):
            plane = view[c]
            if solarise[i]:
                for x in range(plane.size):
                    plane[x] = _ONE - plane[x] if plane[x] >= _SOLARISE_FROM else plane[x]
        if noise[i] > 0:
            _noise(view, noise[i], np.uint64(noise_key[i]))
        for c in range(len(mean)):
            plane, centre, factor = view[c], mean[c], scale[c]
            for x in range(plane.size):
                plane[x] = (plane[x] - centre) * factor
