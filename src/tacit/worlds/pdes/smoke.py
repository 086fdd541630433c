"""Buoyant smoke in a closed box: the scheme of the PDEArena data (arXiv 2209.15616), batched and without an iterative solver.

Staggered grid, semi-Lagrangian advection, explicit diffusion, projection by a cosine transform. Axes are [n x y], y up.
Legend: s smoke at cell centres [n N N]; vx on inner x-faces [n N-1 N]; vy on inner y-faces [n N N-1].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import pad

from tacit.core.parts import part
from tacit.ops.fields import Field
from tacit.worlds.pdes import draws
from tacit.worlds.pdes.kdv import Precision
from tacit.worlds.pdes.line import refuse_blow_up

__all__ = ["Smoke", "divergence", "noise", "project", "step"]


def _sample(u: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values of `u` [n a b] at fractional indices x, y [n p q], clamped to the array: [n p q]."""
    n, a, b = u.shape
    x, y = x.clamp(0, a - 1), y.clamp(0, b - 1)
    i, j = x.floor().clamp_max(a - 2), y.floor().clamp_max(b - 2)
    fx, fy = x - i, y - j
    corner = (i * b + j).long().flatten(1)
    flat = u.reshape(n, a * b)
    shape = x.shape
    low = torch.lerp(flat.gather(1, corner).view(shape), flat.gather(1, corner + 1).view(shape), fy)
    high = torch.lerp(flat.gather(1, corner + b).view(shape), flat.gather(1, corner + b + 1).view(shape), fy)
    return torch.lerp(low, high, fx)


def _positions(a: int, b: int, like: Tensor) -> tuple[Tensor, Tensor]:
    i = torch.arange(a, dtype=like.dtype, device=like.device)
    j = torch.arange(b, dtype=like.dtype, device=like.device)
    return i.unsqueeze(1), j.unsqueeze(0)


def _laplace(ring: Tensor) -> Tensor:
    """Five-point Laplacian of the inside of an array that has one ring around it."""
    inner = ring[:, 1:-1, 1:-1]
    return ring[:, 2:, 1:-1] + ring[:, :-2, 1:-1] + ring[:, 1:-1, 2:] + ring[:, 1:-1, :-2] - 4 * inner


def divergence(vx: Tensor, vy: Tensor) -> Tensor:
    """Net outflow of each cell over a face, no division by dx: [n N N]."""
    return pad(vx, (0, 0, 1, 1)).diff(dim=1) + pad(vy, (1, 1)).diff(dim=2)


@functools.lru_cache(8)  # of every step the same, and a copy to another device stops it
def _cosines(points: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The orthonormal type-II cosine transform as a matrix [k x], which diagonalises the Laplacian with closed walls; its eigenvalues
    [k k], infinite where the mean of the pressure is free."""
    i = torch.arange(points, dtype=torch.float64)
    c = torch.cos(math.pi * i.unsqueeze(1) * (i + 0.5) / points) * math.sqrt(2 / points)
    c[0] /= math.sqrt(2)
    wave = 2 * torch.cos(math.pi * i / points) - 2
    eigen = wave.unsqueeze(1) + wave
    eigen[0, 0] = torch.inf
    return c.to(device, dtype), eigen.to(device, dtype)


def project(vx: Tensor, vy: Tensor, passes: int = 1) -> tuple[Tensor, Tensor]:
    """The nearest velocity without divergence. A second pass brings float32 from 1e-3 to rounding."""
    c, eigen = _cosines(vx.shape[-1], vx.device, vx.dtype)
    for _ in range(passes):
        pressure = c.T @ ((c @ divergence(vx, vy) @ c.T) / eigen) @ c
        vx, vy = vx - pressure.diff(dim=1), vy - pressure.diff(dim=2)
    return vx, vy


def step(
    s: Tensor, vx: Tensor, vy: Tensor, buoyancy: Tensor, viscosity: float, dt: float, dx: float, passes: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """One step: s <- advect(s, v); v <- advect(v, v) + dt b s; v <- v + nu dt Lap v; project.

    Everything is carried by the velocity before the step; the force uses the smoke after it. Outside the walls the
    velocity is zero half a cell away along the wall; smoke repeats the edge cell.
    """
    points, r = s.shape[-1], dt / dx
    ring_x, ring_y = pad(vx, (1, 1, 1, 1)), pad(vy, (1, 1, 1, 1))
    faces_x, faces_y = ring_x[:, :, 1:-1], ring_y[:, 1:-1, :]  # with the walls, [n N+1 N] and [n N N+1]
    i, j = _positions(points, points, s)
    moved = _sample(
        s,
        i - r / 2 * (faces_x[:, :-1] + faces_x[:, 1:]),
        j - r / 2 * (faces_y[:, :, :-1] + faces_y[:, :, 1:]),
    )
    i, j = _positions(points - 1, points, s)
    across = (faces_y[:, :-1, :-1] + faces_y[:, :-1, 1:] + faces_y[:, 1:, :-1] + faces_y[:, 1:, 1:]) / 4
    new_x = _sample(ring_x, i + 1 - r * vx, j + 1 - r * across)
    i, j = _positions(points, points - 1, s)
    across = (faces_x[:, :-1, :-1] + faces_x[:, 1:, :-1] + faces_x[:, :-1, 1:] + faces_x[:, 1:, 1:]) / 4
    new_y = _sample(ring_y, i + 1 - r * across, j + 1 - r * vy)
    new_y = new_y + dt / 2 * buoyancy.reshape(-1, 1, 1) * (moved[:, :, :-1] + moved[:, :, 1:])
    spread = viscosity * dt / dx**2
    new_x = new_x + spread * _laplace(pad(new_x, (1, 1, 1, 1)))
    new_y = new_y + spread * _laplace(pad(new_y, (1, 1, 1, 1)))
    new_x, new_y = project(new_x, new_y, passes)
    return moved, new_x, new_y


def noise(seed: int, indices: Sequence[int], points: int, scale: float = 11.0, length: float = 32.0) -> Tensor:
    """|a| with a = Re ifft2((n1 + i n2) w) / its deviation - its mean, w = (|scale n / length|^2)^-6 above 0.1, else 0: [n x y].

    The amplitude falls like |n|^-12, so that in effect only the four lowest modes are there.
    """
    normal = draws.draw(seed, indices, "smoke", lambda r: r.standard_normal((2, points, points)))
    n = torch.fft.fftfreq(points, 1 / points, dtype=torch.float64)
    square = (n.unsqueeze(1) ** 2 + n**2) * (scale / length) ** 2
    weight = torch.where(square > 0.1, square.clamp_min(0.1) ** -6, torch.zeros_like(square))
    a = torch.fft.ifft2(torch.complex(normal[:, 0], normal[:, 1]) * weight).real
    a = a / a.std((-2, -1), correction=0, keepdim=True)
    return (a - a.mean((-2, -1), keepdim=True)).abs()


@part("world", "smoke")
class Smoke:
    """Rising smoke in a closed box, the data of PDEArena and of arXiv 2307.05432: 128 x 128 cells, 8 warm-up + 56 stored steps.

    buoyancy: drawn for each trajectory from (0.2, 0.5); in the published files all trajectories of a file share one.
    compat="official" labels the rows as the published files do (x = linspace(0, L), t from 18 to 102 whatever the step);
    "correct" gives cell centres and the time that was simulated (13.5, 15, ...). The scheme is the same. vx sits on left
    faces and vy on bottom faces: row i of vx is the face x = i dx, the first being the wall.
    """

    equation = "smoke"
    family: ClassVar = {"scale": 8.0}  # settings of another family of starts, for probes

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = 32.0,
        points: Annotated[int, Ge(8)] = 128,
        dt: Annotated[float, Gt(0)] = 1.5,
        warmup: Annotated[int, Ge(0)] = 8,
        frames: Annotated[int, Ge(1)] = 56,
        sample_rate: Annotated[int, Ge(1)] = 1,
        viscosity: Annotated[float, Ge(0)] = 0.01,
        buoyancy: tuple[float, float] = (0.2, 0.5),
        scale: Annotated[float, Gt(0)] = 11.0,
        passes: Annotated[int, Ge(1)] = 1,
        compat: Literal["correct", "official"] = "correct",
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        number = settings["viscosity"] * settings["dt"] * (settings["points"] / settings["length"]) ** 2
        if number > 0.25:
            yield (
                f"dt: the explicit diffusion number nu dt / dx^2 is {number:.3g} and blows up above 0.25:"
                f" lower dt to {0.25 / number * settings['dt']:.3g} or points"
            )
        low, high = settings["buoyancy"]
        if low > high:
            yield f"buoyancy: the range must rise, found {low:g} to {high:g}"
        if settings["sample_rate"] > settings["frames"]:
            yield f"sample_rate: {settings['frames']} frames cannot be thinned by {settings['sample_rate']}"

    def generate(
        self,
        seed: int,
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        buoyancy: float | None = None,
    ) -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for.

        buoyancy: one for all of them, as in a published file, in place of a draw for each.
        """
        o = self.settings
        n, points, dx = len(indices), o["points"], o["length"] / o["points"]
        dtype = getattr(torch, o["precision"])
        drawn = draws.uniform(seed, indices, "buoyancy", *o["buoyancy"])
        lift = drawn if buoyancy is None else torch.full_like(drawn, buoyancy)
        s = noise(seed, indices, points, o["scale"], o["length"]).to(device, dtype)
        vx, vy = s.new_zeros(n, points - 1, points), s.new_zeros(n, points, points - 1)
        force = lift.to(device, dtype)
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for k in range(o["warmup"] + o["frames"]):
            s, vx, vy = step(s, vx, vy, force, o["viscosity"], o["dt"], dx, o["passes"])
            if k >= o["warmup"] and (k - o["warmup"]) % o["sample_rate"] == 0:
                rows.append((s, pad(vx, (0, 0, 1, 0)), pad(vy, (1, 0))))
        values = {name: torch.stack(r, 1) for name, r in zip(("s", "vx", "vy"), zip(*rows, strict=True), strict=True)}
        time, axis = self._labels(len(rows), device)
        time, axis = time.expand(n, -1).contiguous(), axis.expand(n, -1).contiguous()
        refuse_blow_up(values["s"] + values["vx"] + values["vy"], time, self.equation, int(indices[0]))
        constants = {"viscosity": o["viscosity"], "step": o["dt"] * o["sample_rate"]}
        facts = {name: torch.full_like(lift, value).to(device) for name, value in constants.items()}
        facts["buoyancy"] = lift.to(device)
        stagger = {"vx": (-0.5, 0.0), "vy": (0.0, -0.5)}
        return Field(self.equation, values, time, (axis, axis), (False, False), facts, stagger)

    def _labels(self, rows: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        o = self.settings
        first, last = o["warmup"] + 1, o["warmup"] + 1 + (rows - 1) * o["sample_rate"]
        if o["compat"] == "official":
            time = torch.linspace(18, 102, rows, dtype=torch.float64)
            return time.to(device), torch.linspace(0, o["length"], o["points"], dtype=torch.float64).to(device)
        time = torch.linspace(first * o["dt"], last * o["dt"], rows, dtype=torch.float64)
        centres = (torch.arange(o["points"], dtype=torch.float64) + 0.5) * o["length"] / o["points"]
        return time.to(device), centres.to(device)
