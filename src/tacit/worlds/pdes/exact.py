"""Exact solutions, for tests, benchmarks and anyone who wants to know how far a solver is off. All in float64.

Legend: x [x], t a number or [t 1] against [x]; the result broadcasts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "burgers_sine",
    "kdv_cnoidal",
    "kdv_soliton",
    "kdv_two_solitons",
    "ks_front",
    "taylor_green",
]


def kdv_soliton(x: Tensor, t: Tensor | float, speed: float = 1.0, start: float = 0.0) -> Tensor:
    """u = 3 c sech^2(sqrt(c) / 2 (x - start - c t)) on the line."""
    return 3 * speed / torch.cosh(math.sqrt(speed) / 2 * (x - start - speed * t)).square()


def kdv_two_solitons(x: Tensor, t: Tensor | float, k: tuple[float, float], start: tuple[float, float]) -> Tensor:
    """u = 12 d_xx log F, F = 1 + e^a + e^b + ((k1 - k2) / (k1 + k2))^2 e^(a + b), a = k (x - start) - k^3 t.

    Heights 3 k^2, speeds k^2; after the meeting the faster one is ahead by (2 / k1) log((k1 + k2) / (k1 - k2)).
    """
    k1, k2 = k
    a = k1 * (x - start[0]) - k1**3 * t
    b = k2 * (x - start[1]) - k2**3 * t
    coupling = 2 * math.log(abs(k1 - k2) / (k1 + k2))
    exponents = torch.stack([torch.zeros_like(a), a, b, a + b + coupling])
    rates = torch.tensor([0.0, k1, k2, k1 + k2], dtype=a.dtype).reshape(-1, *(1,) * a.ndim)
    weights = torch.softmax(exponents, 0)  # F_x / F and F_xx / F without overflow
    first = (weights * rates).sum(0)
    return 12 * ((weights * rates.square()).sum(0) - first.square())


def kdv_cnoidal(x: Tensor, t: Tensor | float, k: float, m: float, level: float = 0.0) -> tuple[Tensor, float]:
    """(u, period): u = level + 12 k^2 m cn^2(k (x - c t) | m), c = level + 4 k^2 (2 m - 1), period 2 K(m) / k."""
    from tacit.core.errors import need

    special = need("scipy.special", "worlds", "the cnoidal wave")
    c = level + 4 * k**2 * (2 * m - 1)
    _, cn, _, _ = special.ellipj((k * (x - c * t)).numpy(), m)
    return level + 12 * k**2 * m * torch.from_numpy(cn) ** 2, float(2 * special.ellipk(m) / k)


def ks_front(x: Tensor, t: Tensor | float, speed: float = 0.0) -> Tensor:
    """u = c + 15/19 sqrt(11/19) (11 tanh^3 z - 9 tanh z), z = sqrt(11/19) (x - c t) / 2, on the line."""
    q = math.sqrt(11 / 19)
    wave = torch.tanh(q / 2 * (x - speed * t))
    return speed + 15 / 19 * q * (11 * wave**3 - 9 * wave)


def burgers_sine(x: Tensor, t: Tensor | float, viscosity: float, terms: int | None = None) -> Tensor:
    """Burgers from u0 = -sin(pi x) on [-1, 1], the series of Bessel functions; its own cancellation limits it to

    viscosities above about 0.01: below, use `tacit.worlds.pdes.hopf`.
    """
    from tacit.core.errors import need

    special = need("scipy.special", "worlds", "the Bessel series of Burgers' equation")
    z = 1 / (2 * math.pi * viscosity)
    n = torch.arange(1, (terms or int(8 * math.sqrt(z) + 40)) + 1, dtype=x.dtype)
    a = torch.from_numpy(special.ive(n.numpy(), z)) * (-1) ** n
    angle = math.pi * n * x.unsqueeze(-1)
    decay = a * torch.exp(-(n**2) * math.pi**2 * viscosity * torch.as_tensor(t, dtype=x.dtype).unsqueeze(-1))
    top = (n * decay * angle.sin()).sum(-1)
    return 4 * math.pi * viscosity * top / (special.ive(0, z) + 2 * (decay * angle.cos()).sum(-1))


def taylor_green(
    x: Tensor, y: Tensor, t: Tensor, viscosity: float, boost: tuple[float, float] = (0.0, 0.0)
) -> dict[str, Tensor]:
    """Taylor-Green vortices on [0, 2 pi]^2 carried by a uniform flow: vx, vy, p, vorticity = 2 cos x cos y e^(-2 nu t).

    Here psi = -vorticity's inverse Laplacian, vx = psi_y, vy = -psi_x; p = (cos 2x + cos 2y) e^(-4 nu t) / 4 + 0.
    """
    fade = torch.exp(-2 * viscosity * t)
    a, b = x - boost[0] * t, y - boost[1] * t
    return {
        "vx": boost[0] - a.cos() * b.sin() * fade,
        "vy": boost[1] + a.sin() * b.cos() * fade,
        "p": -(torch.cos(2 * a) + torch.cos(2 * b)) * fade.square() / 4,
        "vorticity": 2 * a.cos() * b.cos() * fade,
    }
