"""Encoded pictures: bytes in, [c h w] uint8 out. Pillow decodes; every way a file can be broken becomes one sentence.

Channels of a stored picture: 1 grey (also black-and-white, 16-bit), 3 colour (also CMYK, palettes), 4 with transparency.
16-bit grey is scaled to 8 bits by v / 257; alpha is dropped, not blended, when 3 or 1 channels are asked for.
EXIF orientation is applied; of an animation the first frame is read.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["EXTENSIONS", "decode", "header"]

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})

_BROKEN = (  # what Pillow raises on damaged files of these formats
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_MODES: dict[int, Literal["L", "RGB", "RGBA"]] = {1: "L", 3: "RGB", 4: "RGBA"}
_GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 0x0112  # EXIF tag; 5..8 swap height and width
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def header(file: BinaryIO) -> tuple[int, int, int]:
    """(channels, height, width) that `decode` would give, from the first bytes of the file. Raises DataError with the reason."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = _orientation(image) in (5, 6, 7, 8)
            return _channels(image), *((width, height) if turned else (height, width))
    except _BROKEN as error:
        raise DataError(_reason(file, error)) from error


def decode(file: BinaryIO, channels: int | None = None, lossless: bool = False) -> Tensor:
    """uint8 [c h w]. channels 1, 3 or 4 converts, None keeps. Raises DataError with the reason, without the file's name.

    lossless: refuse to turn a coloured picture grey (the caller guessed `channels` from other files).
    """
    try:
        with Image.open(file) as image:
            own = _channels(image)
            image.load()
            if lossless and channels == 1 and own != 1:
                raise DataError(
                    f"it has {own} channels where the files looked at before have 1; "
                    "set channels: 3 to read all in colour or channels: 1 to read all in grey"
                )
            turn = _TURNS.get(_orientation(image))
            turned = image if turn is None else image.transpose(turn)
            # plane by plane: 0.26 ms a 500x375 picture, against 0.52 for interleaved pixels and a transposed copy of them
            planes = _convert(turned, own, channels or own).split()
            return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))
    except _BROKEN as error:
        if isinstance(error, DataError):
            raise
        raise DataError(_reason(file, error)) from error


def _orientation(image: Image.Image) -> int:
    """1 upright. Pillow decodes a whole PNG to look for EXIF behind its pixels; before that only what stands before counts."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1)) if "exif" in image.info else 1
    except _BROKEN:
        return 1  # spoiled EXIF says nothing against the pixels


def _channels(image: Image.Image) -> int:
    if image.mode in _GREY:
        return 1
    return 4 if image.mode in _ALPHA or (image.mode in ("P", "RGB") and "transparency" in image.info) else 3


def _convert(image: Image.Image, own: int, channels: int) -> Image.Image:
    """The picture in mode L, RGB or RGBA."""
    if image.mode in _GREY and image.mode not in ("1", "L"):
        image = Image.fromarray(_to_bytes(np.asarray(image)))
    if own == 4 and image.mode != "RGBA":
        image = image.convert("RGBA")
    elif own == 3 and image.mode != "RGB":
        image = image.convert("RGB")
    mode = _MODES[channels]
    return image if image.mode == mode else image.convert(mode)


def _to_bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey of more than 8 bits: integers up to 65535 by v / 257, floats in [0, 1] by 255 v, rounded."""
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    if not (low >= 0 and high <= top):  # written so that NaN is refused too
        raise DataError(
            f"its grey values run from {low:g} to {high:g} where 0 to {top:g} can be read; "
            "store such pictures as .npy and read them with the source 'arrays' and its setting range"
        )
    return np.rint(numbers * (255.0 / top)).astype(np.uint8)


def _reason(file: BinaryIO, error: BaseException) -> str:
    file.seek(0, 2)
    size = file.tell()
    if size == 0:
        return "it is empty (0 bytes)"
    if isinstance(error, Image.DecompressionBombError):
        return f"it claims to be larger than Pillow opens, which protects memory ({error})"
    if isinstance(error, UnidentifiedImageError):
        return f"its {size} bytes are no picture that Pillow knows"
    return f"it is damaged or cut short ({error})"
