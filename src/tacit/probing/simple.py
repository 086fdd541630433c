"""Simple statistics of a field: what a probe of a learned representation has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["picture_statistics"]

_MODES = 8
_SMALL = 1e-12


def picture_statistics(x: Tensor) -> Tensor:
    """Moments, extremes, gradient energies and low spectra of every channel of pictures [n c h w], and their logarithms: [n f].

    Of each channel: mean, mean |u|, mean u^2, mean u^3, least and greatest value, mean squared differences along both axes;
    the power of the first eight modes along the last axis, averaged over the other. The logarithms turn powers and products of
    these into sums, which a linear map can take.
    """
    u = x.double()
    plane = (2, 3)
    spectrum = torch.fft.rfft(u, dim=3).abs().square().mean(2)[..., :_MODES] / u.shape[3] ** 2
    plain = torch.stack(
        [
            u.mean(plane),
            u.abs().mean(plane),
            u.square().mean(plane),
            u.pow(3).mean(plane),
            u.amin(plane),
            u.amax(plane),
            u.diff(dim=2).square().mean(plane) if u.shape[2] > 1 else torch.zeros_like(u[:, :, 0, 0]),
            u.diff(dim=3).square().mean(plane) if u.shape[3] > 1 else torch.zeros_like(u[:, :, 0, 0]),
        ],
        dim=2,
    )
    found = torch.cat([plain, spectrum], dim=2).flatten(1)
    return torch.cat([found, (found.abs() + _SMALL).log()], dim=1)
