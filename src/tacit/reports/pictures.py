"""Images as small PNG data URIs. Takes what runs have: uint8 or float, numpy or torch, channels first."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Pictures", "as_array", "given", "pictures", "unnormalise"]

SMALLEST, LARGEST = 64, 128  # pixels of the longer side; smaller ones are enlarged, larger ones reduced


@dataclass(frozen=True)
class Pictures:
    """n images as data URIs of PNG, and the remarks a reader needs (which channels are shown, whether values were stretched)."""

    uris: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.uris)


def as_array(values: Any) -> NDArray[Any]:
    """A numpy array of a tensor, array or nested list. Tensors may live on any device and have any dtype."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # numpy has no such type
            values = values.float()
        values = values.numpy()
    return np.asarray(values)


def given(values: Any) -> Any:
    """Nothing where None was handed in."""
    return () if values is None else values


def unnormalise(images: Any, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float64]:
    """Undo (x - mean) / std per channel on images [... c h w]: the float views of training in [0, 1] again, clipped."""
    x = as_array(images).astype(np.float64)
    m, s = (np.asarray(v, dtype=np.float64).reshape(-1, 1, 1) for v in (mean, std))
    return np.clip(x * s + m, 0, 1)


def pictures(images: Any) -> Pictures:
    """Images [n c h w], or a sequence of [c h w] of different sizes, as PNG data URIs.

    uint8 counts 0..255, floats 0..1; floats outside that range are stretched from their least to their greatest value over all
    images, and a remark says so. One channel is grey, three are colour; of four or more the first three are shown, two are averaged.
    """
    arrays = [as_array(image) for image in images]
    remarks: list[str] = []
    for array in arrays:
        if array.ndim != 3 or 0 in array.shape:
            raise ValueError(f"pictures are [n c h w], channels first; found one of shape {list(array.shape)}.")
        if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"pictures are uint8 (0..255) or float (0..1); found {array.dtype}. Convert them first.")
    floats = [array for array in arrays if array.dtype != np.uint8]
    low, high = 0.0, 1.0
    finite = [array[np.isfinite(array)] for array in floats]
    finite = [values for values in finite if values.size]
    if finite:
        least, greatest = (float(f([f(v) for v in finite])) for f in (np.min, np.max))
        if least < -1e-3 or greatest > 1 + 1e-3:
            low, high = least, greatest
            remarks.append(f"Values from {low:.3g} to {high:.3g} are stretched to black and white.")
    channels = {array.shape[0] for array in arrays}
    if 2 in channels:
        remarks.append("Pictures of two channels show their mean.")
    if any(c > 3 for c in channels):
        remarks.append(f"Of {max(channels)} channels the first three are shown.")
    return Pictures(tuple(_uri(_pixels(array, low, high)) for array in arrays), tuple(remarks))


def _pixels(array: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """[h w] or [h w 3] uint8."""
    if array.dtype == np.uint8:
        x = array.astype(np.float64) / 255
    else:
        span = high - low or 1.0
        x = (np.nan_to_num(array.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / span
    if x.shape[0] == 2:
        x = x.mean(axis=0, keepdims=True)
    levels = np.rint(np.clip(x[:3], 0, 1) * 255).astype(np.uint8)
    return levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)


def _uri(pixels: NDArray[np.uint8]) -> str:
    h, w = pixels.shape[:2]
    image = Image.fromarray(pixels)
    if max(h, w) < SMALLEST:
        factor = -(-SMALLEST // max(h, w))
        image = image.resize((w * factor, h * factor), Image.Resampling.NEAREST)
    elif max(h, w) > LARGEST:
        scale = LARGEST / max(h, w)
        image = image.resize((max(1, round(w * scale)), max(1, round(h * scale))), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
