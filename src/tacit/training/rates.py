"""Rules that scale a published learning rate to another batch. Recipes call them; optimisers take the result as `lr`."""

from __future__ import annotations

import math

__all__ = ["linear_rate", "simclr_rate", "square_root_rate"]


def linear_rate(base: float, batch: int, reference: int = 256) -> float:
    """base * batch / reference: gradient descent and LARS (arXiv 1706.02677). VICReg 0.2, BYOL 0.2, MoCo v3 0.6, DINO 5e-4 per 256."""
    return base * batch / reference


def square_root_rate(base: float, batch: int, reference: int = 1024) -> float:
    """base * sqrt(batch / reference): Adam-like optimisers, whose step is divided by the gradient's size. DINOv2: 4e-3 per 1024."""
    return base * math.sqrt(batch / reference)


def simclr_rate(batch: int) -> float:
    """0.075 * sqrt(batch): what SimCLR's authors found better than 0.3 * batch / 256 at small batches (arXiv 2002.05709, B.1)."""
    return 0.075 * math.sqrt(batch)
