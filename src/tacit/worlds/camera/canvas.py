"""The scene and how it is seen: handwritten digits strewn over a shaded ground whose edges meet."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tacit.worlds.rooms.draws import keys, uniform

__all__ = ["SIZE", "canvases", "look"]

SIZE = 64  # pixels of a canvas, after which it begins again
_DIGIT, _COUNT, _WAVES = 16, 14, 4  # pixels of a digit, digits, and waves of the ground
_GROUND, _INK = 70.0, 175.0  # of 255


@functools.cache
def _scans() -> Tensor:
    """The 1,797 embedded 8 x 8 scans, enlarged to 16 x 16 by cubic splines, in [0, 1]."""
    from sklearn.datasets import load_digits

    small = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16
    large = F.interpolate(small, size=(_DIGIT, _DIGIT), mode="bicubic", align_corners=False)
    return large.clamp(0, 1)[:, 0]


def canvases(ids: Sequence[int], seed: int, split: str) -> Tensor:
    """float32 [n 64 64] in [0, 255]: scene i is a function of (seed, split, i). Every third scan is kept for valid and test."""
    pool = torch.arange(len(_scans()))
    pool = pool[(pool % 3 == 0) == (split != "train")]
    draw = keys(torch.as_tensor(ids, dtype=torch.int64), seed, "camera", split).unsqueeze(1)
    waves, digits = torch.arange(_WAVES), _WAVES * 3 + torch.arange(_COUNT)
    turn = 2 * math.pi * torch.arange(SIZE) / SIZE
    across, down = ((5 * uniform(draw, k * _WAVES + waves)).floor().float() - 2 for k in (0, 1))  # whole: edges meet
    phase = 2 * math.pi * uniform(draw, 2 * _WAVES + waves).float()
    x, y = across.unsqueeze(-1) * turn, down.unsqueeze(-1) * turn + phase.unsqueeze(-1)  # [n waves 64]
    ground = torch.einsum("nwy,nwx->nyx", y.sin(), x.cos()) + torch.einsum("nwy,nwx->nyx", y.cos(), x.sin())
    which, left, top, bright = (uniform(draw, k * _COUNT + digits) for k in range(4))
    scans = _scans()[pool[(len(pool) * which).long()]] * (0.5 + 0.5 * bright.float()).view(*bright.shape, 1, 1)
    at = torch.arange(_DIGIT)
    columns, rows = (((SIZE * u).long().unsqueeze(-1) + at) % SIZE for u in (left, top))
    place = rows.unsqueeze(-1) * SIZE + columns.unsqueeze(-2)
    ink = torch.zeros(len(ids), SIZE * SIZE).scatter_reduce_(1, place.flatten(1), scans.flatten(1), "amax")
    return _GROUND * (0.5 + 0.5 * ground / _WAVES) + _INK * ink.view_as(ground)


def look(canvas: Tensor, position: Tensor, side: int) -> Tensor:
    """What cameras see: uint8 [n t side side] of canvases [n 64 64] from corners [n t 2]; fractions of a pixel are bilinear."""
    n, t = position.shape[:2]
    whole = position.floor()
    along = torch.arange(side + 1, device=position.device)
    x, y = ((whole[..., i].long().unsqueeze(-1) + along) % SIZE for i in (0, 1))  # [n t side + 1]
    rows = canvas.gather(1, y.reshape(n, -1, 1).expand(-1, -1, SIZE)).view(n * t, side + 1, SIZE)
    seen = rows.gather(2, x.reshape(n * t, 1, side + 1).expand(-1, side + 1, -1))
    fx, fy = ((position - whole).reshape(n * t, 2)[:, i, None, None].to(seen) for i in (0, 1))
    seen = torch.lerp(seen[:, :, :-1], seen[:, :, 1:], fx)
    seen = torch.lerp(seen[:, :-1], seen[:, 1:], fy)
    return seen.round().clamp(0, 255).to(torch.uint8).view(n, t, side, side)
