"""The arithmetic of published losses written out plainly: what their authors' code computes, tensor by tensor, with no side chosen.

Equal to our objectives in value (`objectives.py` says so before it times them); SIGReg draws its directions the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, normalize

__all__ = ["PLAIN"]


def _logits(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """[2n 2n] cosines over the temperature, with the diagonal at minus infinity."""
    z = normalize(torch.cat([a, b]), dim=1)
    return (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))


def simclr(a: Tensor, b: Tensor) -> Tensor:
    n = len(a)
    return cross_entropy(_logits(a, b, 0.1), torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


def dcl(a: Tensor, b: Tensor) -> Tensor:
    n = len(a)
    logits, at = _logits(a, b, 0.1), torch.arange(2 * n)
    partner = torch.cat([at[n:], at[:n]])
    rest = torch.ones_like(logits, dtype=torch.bool)
    rest[at, partner] = rest[at, at] = False
    return (torch.logsumexp(logits[rest].view(2 * n, -1), dim=1) - logits[at, partner]).mean()


def supcon(a: Tensor, b: Tensor) -> Tensor:
    n = len(a)
    logits, labels = _logits(a, b, 0.1), (torch.arange(n) % 100).repeat(2)
    partners = (labels[:, None] == labels) & ~torch.eye(2 * n, dtype=torch.bool)
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    return -(log_p.masked_fill(~partners, 0).sum(dim=1) / partners.sum(dim=1)).mean()


def _off_diagonal(c: Tensor) -> Tensor:
    """The elements off the diagonal of a square matrix, as a copy."""
    return c.flatten()[:-1].view(len(c) - 1, len(c) + 1)[:, 1:].flatten()


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    n, d = a.shape
    loss = 25 * mse_loss(a, b)
    for z in (a, b):
        z = z - z.mean(dim=0)
        loss = loss + 25 * torch.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() / 2
        loss = loss + _off_diagonal(z.T @ z / (n - 1)).pow(2).sum() / d
    return loss


def barlow_twins(a: Tensor, b: Tensor) -> Tensor:
    x, y = ((z - z.mean(dim=0)) / torch.sqrt(z.var(dim=0, correction=0) + 1e-5) for z in (a, b))
    c = x.T @ y / len(a)
    return (torch.diagonal(c) - 1).pow(2).sum() + 0.0051 * _off_diagonal(c).pow(2).sum()


def lejepa(a: Tensor, b: Tensor) -> Tensor:
    """SIGReg with cosine and sine of every knot, sample and direction."""
    centre, t = (a + b) / 2, torch.linspace(0, 3, 17)
    weight = torch.full((17,), 2 * 3 / 16)
    weight[[0, -1]] = 3 / 16
    phi = torch.exp(-t.square() / 2)
    axes = normalize(torch.randn(a.shape[1], 1024), dim=0)
    found = 0.0
    for z in (a, b):
        turns = (z @ axes)[..., None] * t
        gap = (turns.cos().mean(dim=0) - phi).square() + turns.sin().mean(dim=0).square()
        found = found + 0.5 * (0.95 * (z - centre).square().mean() + 0.05 * len(z) * (gap @ (weight * phi)).mean())
    return found


def mmcr(a: Tensor, b: Tensor) -> Tensor:
    return -torch.linalg.svdvals((normalize(a, dim=1) + normalize(b, dim=1)) / 2).sum()


def spectral_contrastive(a: Tensor, b: Tensor) -> Tensor:
    n = len(a)
    products = a @ b.T
    off = ~torch.eye(n, dtype=torch.bool)
    return -2 * torch.diagonal(products).mean() + products[off].square().mean()


PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "simclr": simclr,
    "dcl": dcl,
    "supcon": supcon,
    "vicreg": vicreg,
    "barlow-twins": barlow_twins,
    "lejepa": lejepa,
    "mmcr": mmcr,
    "spectral-contrastive": spectral_contrastive,
}
