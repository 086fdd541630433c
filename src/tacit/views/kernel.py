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

from tacit.ops.compiled import fast_jit, jit
from tacit.views.draws import GOLDEN, mix

__all__ = ["BYTES", "FLOATS", "render"]

f4 = np.float32
BYTES, FLOATS = (f4(1 / 256), f4(1 / 255)), (f4(1), f4(0))  # what `_unit` takes for pixels of each type
_SOLARISE_FROM = f4(128) / f4(255)
_RED, _GREEN, _BLUE = f4(0.2989), f4(0.587), f4(0.114)
_ZERO, _ONE = f4(0), f4(1)
_STRIP, _PITCH = (
    64,
    72,
)  # rows of a crop that are resized together, and what they take up: powers of two would share cache lines
_LANES = 256  # pixels whose sums do not wait for each other
_TAIL = 1e-6  # the share of the blur's weights that is left out and laid on the others
_8, _40, _24 = np.uint64(8), np.uint64(40), np.uint64((1 << 24) - 1)


@fast_jit
def _filter(x: float, cubic: bool) -> float:
    """The triangle, or the Catmull-Rom cubic (a = -1/2, as PIL and antialiased torch), at distance x."""
    x = abs(x)
    if not cubic:
        return max(0.0, 1.0 - x)
    near = (1.5 * x - 2.5) * x * x + 1.0  # both, so that a loop over many distances has no branch
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return near if x < 1.0 else (far if x < 2.0 else 0.0)


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
    first, step = (offset + size - 1, -1) if mirror else (offset, 1)
    if length == grid:
        for i in range(size):
            start[i] = first + step * i
            weight[0, i] = 1.0
        return taps
    reach = (2.0 if cubic else 1.0) * max(length, grid) / grid
    pixel, unit = 0.5 / grid, 0.5 / max(length, grid)
    total = np.zeros(size)
    for i in range(size):
        centre = length * (2 * (first + step * i) + 1)  # in units of 1 / (2 grid) source pixels: exact integers
        start[i] = min(max(0, math.floor(centre * pixel - reach + 0.5)), length - taps)
    for k in range(taps):
        for i in range(size):
            centre, tap = length * (2 * (first + step * i) + 1), int(start[i]) + k
            value = _filter((centre - grid * (2 * tap + 1)) * unit, cubic)
            weight[k, i] = value
            total[i] += value
    for k in range(taps):
        for i in range(size):
            weight[k, i] *= f4(1.0 / total[i])
    return taps


@jit
def _unit(value: Any, unit: Any) -> Any:
    """Scale to [0, 1]: for bytes exactly value / 255, without the division (x / 255 = x / 256 + x / 256 / 255)."""
    whole = f4(value) * unit[0]
    return whole + whole * unit[1]


@fast_jit
def _turn(source: Any, height: int, width: int, out: Any) -> None:
    """out[x, y] = source[y, x]; eight rows at once fill half a cache line."""
    whole = height - height % 8
    for y in range(0, whole, 8):
        a, b, c, d = source[y], source[y + 1], source[y + 2], source[y + 3]
        e, f, g, h = source[y + 4], source[y + 5], source[y + 6], source[y + 7]
        to = out[:, y:]
        for x in range(width):
            to[x, 0], to[x, 1], to[x, 2], to[x, 3] = a[x], b[x], c[x], d[x]
            to[x, 4], to[x, 5], to[x, 6], to[x, 7] = e[x], f[x], g[x], h[x]
    for y in range(whole, height):
        a = source[y]
        for x in range(width):
            out[x, y] = a[x]


@fast_jit
def _tap(source: Any, begin: int, weight: Any, i: int, k: int, taps: int) -> Any:
    """Row and weight of tap k of output i; a weight of zero beyond the last."""
    return source[begin + min(k, taps - 1)], weight[k, i] if k < taps else _ZERO


@fast_jit
def _mix(source: Any, n: int, start: Any, weight: Any, taps: int, out: Any) -> None:
    """out[i, :n] = sum over the taps of weight[k, i] * source[start[i] + k, :n].

    Each loop stands alone and leads nowhere else: with an if and else about them, or a bound in them, the compiler gives up its vectors.
    """
    for i in range(out.shape[0]):
        begin, line = int(start[i]), out[i]
        one, p = _tap(source, begin, weight, i, 0, taps)
        two, q = _tap(source, begin, weight, i, 1, taps)
        if taps <= 2:
            for x in range(n):
                line[x] = p * one[x] + q * two[x]
            continue
        three, r = _tap(source, begin, weight, i, 2, taps)
        four, t = _tap(source, begin, weight, i, 3, taps)
        for x in range(n):
            line[x] = p * one[x] + q * two[x] + (r * three[x] + t * four[x])
        for k in range(4, taps, 2):
            one, p = _tap(source, begin, weight, i, k, taps)
            two, q = _tap(source, begin, weight, i, k + 1, taps)
            for x in range(n):
                line[x] += p * one[x] + q * two[x]


@fast_jit
def _resize(
    picture: Any, width: int, box: Any, unit: Any, cubic: bool, count: Any, start: Any, weights: Any,
    raw: Any, turned: Any, across: Any, rows: Any, out: Any,
) -> None:  # fmt: skip
    """Crop `box` of one plane (flat, rows of `width`) and resize it into out [s s]: across, then down; the others are scratch.

    Both are sums of whole rows, so the picture is turned before the first and back after it: pixels that are read one by one, each from
    a place of its own, cost more than turning. The cubic overshoots, and pictures of bytes saturate there.
    """
    top, left, w = box[0], box[1], box[3]
    side = out.shape[0]
    low, high = int(start[0, 0]), int(start[0, side - 1]) + count[0]
    for y in range(low, high, _STRIP):
        n = min(_STRIP, high - y)
        for i in range(n):
            base = (top + y + i) * width + left
            source, line = picture[base : base + w], raw[i]
            for x in range(w):
                line[x] = _unit(source[x], unit)
        _turn(raw, n, w, turned)
        _mix(turned, n, start[1], weights[1], count[1], across)
        _turn(across, side, n, rows[y:])
    _mix(rows, side, start[0], weights[0], count[0], out)
    if cubic:
        for y in range(side):
            line = out[y]
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
def _mean(view: Any) -> float:
    """Mean grey of a view [3 p]; the plain mean of any other number of channels."""
    channels, n = view.shape
    sums, grey = np.empty(_LANES), 0.0
    for c in range(channels):
        for x in range(_LANES):
            sums[x] = 0.0
        for begin in range(0, n, _LANES):
            some = view[c, begin : begin + _LANES]
            for x in range(some.size):
                sums[x] += some[x]
        total = 0.0
        for x in range(_LANES):
            total += sums[x]
        grey += total / n * ((_RED, _GREEN, _BLUE)[c] if channels == 3 else 1 / channels)
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
def _hue(r: Any, g: Any, b: Any, turn: Any) -> None:
    """Turn the hue h in [0, 6) by `turn` of a full circle in HSV: red is v - v s clamp(2 - |h - 3|), green and blue v - v s
    clamp(|h - 2| - 1) and v - v s clamp(|h - 4| - 1).
    """
    for i in range(r.size):
        x, y, z = r[i], g[i], b[i]
        high = max(max(x, y), z)
        chroma = high - min(min(x, y), z)
        divisor = chroma if chroma > _ZERO else _ONE
        numerator = (y - z) if high == x else ((z - x) if high == y else (x - y))
        sector = _ZERO if high == x else (f4(2) if high == y else f4(4))
        hue = numerator / divisor + sector + f4(6) * turn
        hue -= f4(6) * np.floor(hue * f4(1 / 6))
        r[i] = high - chroma * max(_ZERO, min(_ONE, f4(2) - abs(hue - f4(3))))
        g[i] = high - chroma * max(_ZERO, min(_ONE, abs(hue - f4(2)) - _ONE))
        b[i] = high - chroma * max(_ZERO, min(_ONE, abs(hue - f4(4)) - _ONE))


@fast_jit
def _bell(sigma: float, radius: int, weight: Any) -> int:
    """Weights 0..reach of a Gaussian kernel of 2 radius + 1 pixels, zeros after them; returns the reach, where the tail is negligible."""
    total = 0.0
    for k in range(radius + 1):
        value = math.exp(-0.5 * (k / sigma) ** 2)
        total += value if k == 0 else 2 * value
    reach, left = 0, 1.0
    for k in range(weight.size):
        weight[k] = 0
        if left >= _TAIL and k <= radius:
            reach = k
            weight[k] = math.exp(-0.5 * (k / sigma) ** 2) / total
            left -= weight[k] * (2 if k else 1)
    whole = f4(1 / (1 - max(left, 0.0)))
    for k in range(reach + 1):
        weight[k] *= whole
    return reach


@fast_jit
def _around(rows: Any, y: int, k: int, reach: int) -> Any:
    """The rows k above and below y, reflected at the border; beyond the reach, where weights are zero, y itself."""
    side, k = rows.shape[0], k if k <= reach else 0
    return rows[abs(y - k)], rows[y + k if y + k < side else 2 * side - 2 - y - k]


@fast_jit
def _blur(plane: Any, reach: int, weight: Any, copy: Any, padded: Any) -> None:
    """Blur plane [s s] with the weights of `_bell`, reflected at the border; copy [s s] and padded [s s+2e], e > reach + 3, are scratch.

    The first pixel to either side comes with the centre, four more with each pass over a row.
    """
    side = plane.shape[0]
    edge = (padded.shape[1] - side) // 2
    w, v = weight[0], weight[1]
    for y in range(side):  # all rows first: reading back what was stored just before, but shifted, would stall
        source, line = plane[y], padded[y, edge:]
        for x in range(side):
            line[x] = source[x]
        before, after = padded[y, :edge], padded[y, edge + side :]
        for x in range(reach):
            before[edge - 1 - x], after[x] = source[x + 1], source[side - 2 - x]
    for y in range(side):
        line, target = padded[y], copy[y]
        near = line[edge - 1 :]
        for x in range(side):
            target[x] = w * near[x + 1] + v * (near[x] + near[x + 2])
        for k in range(2, reach + 1, 4):
            p, q, r, t = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
            near, far = line[edge - k - 3 :], line[edge + k :]
            for x in range(side):
                pair = p * (near[x + 3] + far[x]) + q * (near[x + 2] + far[x + 1])
                target[x] += pair + (r * (near[x + 1] + far[x + 2]) + t * (near[x] + far[x + 3]))
    for y in range(side):
        source, target = copy[y], plane[y]
        a, b = _around(copy, y, 1, reach)
        for x in range(side):
            target[x] = w * source[x] + v * (a[x] + b[x])
        for k in range(2, reach + 1, 4):
            p, q, r, t = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
            a, b = _around(copy, y, k, reach)
            c, d = _around(copy, y, k + 1, reach)
            e, f = _around(copy, y, k + 2, reach)
            g, h = _around(copy, y, k + 3, reach)
            for x in range(side):
                target[x] += p * (a[x] + b[x]) + q * (c[x] + d[x]) + (r * (e[x] + f[x]) + t * (g[x] + h[x]))


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
    raw, turned = np.empty((_STRIP, wide), np.float32), np.empty((wide, _PITCH), np.float32)
    across, rows = np.empty((side, _PITCH), np.float32), np.empty((tall, side), np.float32)
    edge = radius + 4
    copy, padded = np.empty((side, side), np.float32), np.zeros((side, side + 2 * edge), np.float32)
    weight, frame = np.empty(edge + 1, np.float32), np.zeros((side + 3, side + 3), np.float32)
    for i in range(begin, end):
        area = source[i, 0] * source[i, 1]
        view = out[i].reshape(channels, side * side)
        for axis in range(2):
            mirror = flip[i] and axis == 1
            length, whole, first = box[i, 2 + axis], grid[i, axis], grid[i, 2 + axis]
            count[axis] = _table(length, whole, first, mirror, cubic, start[axis], weights[axis])
        for c in range(channels):
            picture = pixels[offset[i] + c * area : offset[i] + (c + 1) * area]
            _resize(
                picture, source[i, 1], box[i], unit, cubic, count, start, weights, raw, turned, across, rows, out[i, c]
            )
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
            reach = _bell(sigma[i], radius, weight)
            for c in range(channels):
                if reach > 0:
                    _blur(out[i, c], reach, weight, copy, padded)
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
