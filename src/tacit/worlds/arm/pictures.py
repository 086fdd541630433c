"""Pictures of boxes, spheres, capsules and a table by rays: no display, no graphics library, the same bits everywhere.

One compiled loop over pixels and shapes; `fine` rays a side of a pixel are averaged, so that a motion of a tenth of a pixel shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["BOX", "CAPSULE", "PLANE", "SPHERE", "Camera", "Scene", "draw"]

PLANE, SPHERE, CAPSULE, BOX = 0, 2, 3, 6  # the numbers that MuJoCo gives them
_FAR = 1e9
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Where a picture is taken from: place and target in metres, vertical field of view in degrees; z is up."""

    place: tuple[float, float, float] = (1.1, -0.62, 0.72)
    target: tuple[float, float, float] = (0.36, 0.0, 0.25)
    fov: float = 37.0

    def axes(self) -> Array:
        """Rows right, down, forward [3 3]."""
        forward = np.subtract(self.target, self.place)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def pose(self) -> Array:
        """[x y z] and the extrinsic Euler angles about x, y, z of (right, down, forward): as DROID writes a camera's pose."""
        r = self.axes().T
        across = math.hypot(r[0, 0], r[1, 0])
        angles = math.atan2(r[2, 1], r[2, 2]), math.atan2(-r[2, 0], across), math.atan2(r[1, 0], r[0, 0])
        return np.array([*self.place, *angles])


@dataclass(frozen=True)
class Scene:
    """Shapes: kind [m], place [m 3], axes [m 3 3] (columns), size [m 3] as MuJoCo has them, colour [m 3] from 0 to 1."""

    kind: NDArray[np.int64]
    place: Array
    axes: Array
    size: Array
    colour: Array


def draw(scene: Scene, camera: Camera, side: int, fine: int = 2) -> NDArray[np.uint8]:
    """uint8 [side side 3]."""
    axes, place = camera.axes(), np.asarray(camera.place, dtype=np.float64)
    reach = math.tan(math.radians(camera.fov) / 2)
    out = np.empty((side, side, 3), np.uint8)
    _trace(scene.kind, scene.place, scene.axes, scene.size, scene.colour, place, axes, reach, fine, out)
    return out


def _jit(function: Any) -> Any:
    return njit(cache=True)(function)


@_jit
def _sphere(o: Array, d: Array, radius: float) -> float:
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - radius * radius
    inside = b * b - c
    if inside < 0:
        return _FAR
    t = -b - math.sqrt(inside)
    return t if t > 1e-6 else _FAR


@_jit
def _capsule(o: Array, d: Array, radius: float, half: float) -> float:
    """A cylinder about z with half a sphere at each end."""
    best = _FAR
    a = d[0] * d[0] + d[1] * d[1]
    if a > 1e-12:
        b = o[0] * d[0] + o[1] * d[1]
        inside = b * b - a * (o[0] * o[0] + o[1] * o[1] - radius * radius)
        if inside >= 0:
            t = (-b - math.sqrt(inside)) / a
            if t > 1e-6 and abs(o[2] + t * d[2]) <= half:
                best = t
    end = np.empty(3)
    end[0], end[1] = o[0], o[1]
    for sign in (-1.0, 1.0):
        end[2] = o[2] - sign * half
        best = min(best, _sphere(end, d, radius))
    return best


@_jit
def _box(o: Array, d: Array, size: Array) -> float:
    near, far = -_FAR, _FAR
    for i in range(3):
        if abs(d[i]) < 1e-12:
            if abs(o[i]) > size[i]:
                return _FAR
        else:
            t1, t2 = (-size[i] - o[i]) / d[i], (size[i] - o[i]) / d[i]
            near, far = max(near, min(t1, t2)), min(far, max(t1, t2))
    return near if far >= near and near > 1e-6 else _FAR


@_jit
def _normal(kind: int, p: Array, size: Array, n: Array) -> None:
    """The outward normal at a point of a shape, in the shape's own axes."""
    n[0], n[1], n[2] = 0.0, 0.0, 1.0
    if kind == SPHERE:
        for i in range(3):
            n[i] = p[i] / size[0]
    elif kind == CAPSULE:
        middle = min(max(p[2], -size[1]), size[1])
        n[0], n[1], n[2] = p[0] / size[0], p[1] / size[0], (p[2] - middle) / size[0]
    elif kind == BOX:
        widest, axis = -1.0, 0
        for i in range(3):
            if abs(p[i]) / size[i] > widest:
                widest, axis = abs(p[i]) / size[i], i
        n[2] = 0.0
        n[axis] = 1.0 if p[axis] > 0 else -1.0


@_jit
def _trace(
    kind: Array,
    place: Array,
    axes: Array,
    size: Array,
    colour: Array,
    eye: Array,
    view: Array,
    reach: float,
    fine: int,
    out: Array,
) -> None:
    side, shapes = out.shape[0], len(kind)
    local, o, d, p, n = np.empty((shapes, 3)), np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    around = np.empty(shapes)  # the squared radius of a ball about each shape; what misses it misses the shape
    for m in range(shapes):  # the eye as each shape sees it
        if kind[m] == BOX:
            around[m] = size[m, 0] ** 2 + size[m, 1] ** 2 + size[m, 2] ** 2
        else:
            around[m] = (size[m, 0] + (size[m, 1] if kind[m] == CAPSULE else 0.0)) ** 2
        for i in range(3):
            local[m, i] = 0.0
            for j in range(3):
                local[m, i] += axes[m, j, i] * (eye[j] - place[m, j])
    light = np.array([0.35, -0.5, 0.79])
    ray, total = np.empty(3), np.empty(3)
    for row in range(side):
        for column in range(side):
            total[:] = 0.0
            for part in range(fine * fine):
                v = reach * (2 * (row + (part // fine + 0.5) / fine) / side - 1)
                u = reach * (2 * (column + (part % fine + 0.5) / fine) / side - 1)
                length = math.sqrt(1 + u * u + v * v)
                for i in range(3):
                    ray[i] = (view[2, i] + u * view[0, i] + v * view[1, i]) / length
                best, found = _FAR, -1
                for m in range(shapes):
                    if kind[m] != PLANE:
                        x, y, z = place[m, 0] - eye[0], place[m, 1] - eye[1], place[m, 2] - eye[2]
                        along = x * ray[0] + y * ray[1] + z * ray[2]
                        if x * x + y * y + z * z - along * along > around[m]:
                            continue
                    for i in range(3):
                        o[i] = local[m, i]
                        d[i] = axes[m, 0, i] * ray[0] + axes[m, 1, i] * ray[1] + axes[m, 2, i] * ray[2]
                    t = _FAR
                    if kind[m] == PLANE:
                        if d[2] < -1e-9 and o[2] > 0:
                            t = -o[2] / d[2]
                    elif kind[m] == SPHERE:
                        t = _sphere(o, d, size[m, 0])
                    elif kind[m] == CAPSULE:
                        t = _capsule(o, d, size[m, 0], size[m, 1])
                    else:
                        t = _box(o, d, size[m])
                    if t < best:
                        best, found = t, m
                if found < 0:
                    total += np.array([0.55, 0.62, 0.7])
                    continue
                for i in range(3):
                    p[i] = local[found, i]
                    for j in range(3):
                        p[i] += best * axes[found, j, i] * ray[j]
                _normal(kind[found], p, size[found], n)
                shade = 0.0
                for i in range(3):
                    for j in range(3):
                        shade += axes[found, i, j] * n[j] * light[i]
                shade = 0.45 + 0.55 * max(shade, 0.0)
                if kind[found] == PLANE and (math.floor(p[0] / 0.1) + math.floor(p[1] / 0.1)) % 2:
                    shade *= 0.92
                total += shade * colour[found]
            for i in range(3):
                out[row, column, i] = np.uint8(min(255.0, 255 * total[i] / (fine * fine) + 0.5))
