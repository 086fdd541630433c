"""RandAugment and random erasing: what a ViT is fine-tuned on, in the form of timm to which published recipes refer.

Legend: n samples, l layers, c channels, s side of the view.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageEnhance, ImageOps
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.random import key, uniform
from tacit.core.values import Facts, View
from tacit.ops.spread import spread
from tacit.views.image import Chance, Fraction, Image, Positive
from tacit.views.pictures import Pictures, statistics

__all__ = ["OPERATIONS", "RandAugment", "operate"]

MOST = 10.0  # the strength at which an operation is at its most severe
OPERATIONS = (
    "auto-contrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize-add", "color", "contrast", "brightness",
    "sharpness", "shear-x", "shear-y", "translate-x", "translate-y",
)  # fmt: skip
_ENHANCE = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}
_TRIES = 10
# Draw numbers of a sample: four a layer (operation, whether, strength by two), a sign each, then the erased rectangle, four a try.
_LAYER, _SIGN, _ERASE, _FIRST_TRY, _NOISE = 0, 400, 500, 510, 600


def operate(picture: Picture.Image, name: str, strength: float, fill: tuple[int, ...]) -> Picture.Image:
    """One operation on a picture of bytes; strength in [-10, 10], whose sign is a direction where there are two.

    Severity rises with the strength (timm's 'increasing' form): rotation 30 degrees, shear 0.3, translation 0.45 of the side and colour,
    contrast, brightness and sharpness 1 + 0.9 at strength 10; posterize keeps 4 - 4 strength / 10 bits, solarize turns what is above
    256 - 25.6 strength, solarize-add lifts what is below 128 by 11 strength. `fill` is what comes in from outside, bicubic.
    """
    share, (width, height) = strength / MOST, picture.size
    inside: Any = fill if picture.mode == "RGB" else fill[0]
    if name == "auto-contrast":
        return ImageOps.autocontrast(picture)
    if name == "equalize":
        return ImageOps.equalize(picture)
    if name == "invert":
        return ImageOps.invert(picture)
    if name == "posterize":
        return ImageOps.posterize(picture, 4 - int(4 * share))
    if name == "solarize":
        return ImageOps.solarize(picture, 256 - min(256, int(256 * share)))
    if name == "solarize-add":
        more = min(128, int(110 * share))
        table = [min(255, value + more) if value < 128 else value for value in range(256)]
        return picture.point(table * len(picture.getbands()))
    if name in _ENHANCE:
        return _ENHANCE[name](picture).enhance(max(0.1, 1 + 0.9 * share))
    if name == "rotate":
        return picture.rotate(30 * share, Picture.Resampling.BICUBIC, fillcolor=inside)
    matrix = {
        "shear-x": (1, 0.3 * share, 0, 0, 1, 0),
        "shear-y": (1, 0, 0, 0.3 * share, 1, 0),
        "translate-x": (1, 0, 0.45 * share * width, 0, 1, 0),
        "translate-y": (1, 0, 0, 0, 1, 0.45 * share * height),
    }[name]
    size, affine = picture.size, Picture.Transform.AFFINE
    return picture.transform(size, affine, matrix, resample=Picture.Resampling.BICUBIC, fillcolor=inside)


@part("view", "rand-augment")
class RandAugment:
    """A random crop with mirror, operations drawn from fifteen, normalisation, and one erased rectangle.

    `layers` operations are drawn alike and with replacement (`OPERATIONS`); each acts with `operation` chance at the strength N(magnitude,
    deviation), clamped to 0 .. 10, in either direction where it has two (see `operate`). They act on bytes; what comes in from outside
    has the mean colour of the facts. Then, with chance `erasing`, a rectangle of `erased` of the area, height over width log-uniform in
    [0.3, 1 / 0.3], holds normal noise (in units of the normalised view).

    Defaults: 'rand-m9-mstd0.5-inc1' and erasing 0.25 by pixels, bicubic crops of 0.08 to 1: the fine-tuning of MAE (arXiv 2111.06377);
    RandAugment arXiv 1909.13719, random erasing arXiv 1708.04896. For pictures of one or three channels; made on the processor.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        size: Annotated[int, Ge(2)],
        scale: tuple[Fraction, Fraction] = (0.08, 1.0),
        ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3),
        interpolation: Literal["bilinear", "bicubic"] = "bicubic",
        flip: Chance = 0.5,
        layers: Annotated[int, Ge(0), Le(100)] = 2,
        operation: Chance = 0.5,
        magnitude: Annotated[float, Ge(0), Le(10)] = 9.0,
        deviation: Annotated[float, Ge(0)] = 0.5,
        erasing: Chance = 0.25,
        erased: tuple[Annotated[float, Gt(0), Le(1)], Annotated[float, Gt(0), Le(1)]] = (0.02, 1 / 3),
    ) -> None:
        if layers and facts.channels not in (1, 3):
            raise RecipeError(
                f"view 'rand-augment': its operations are those of pictures of 1 or 3 channels, these have {facts.channels}: "
                "take view=image, or layers=0 for crops and erasing alone"
            )
        plain: dict[str, Any] = {"jitter": 0.0, "grey": 0.0, "blur": 0.0}
        self._crop = Image(
            replace(facts, mean=(), std=()), size=size, scale=scale, ratio=ratio, interpolation=interpolation, flip=flip, **plain
        )  # fmt: skip
        self._still = Image(facts, size=size, interpolation=interpolation, **plain)
        self.size, self.facts = size, self._still.facts
        self._layers, self._operation, self._magnitude, self._deviation = layers, operation, magnitude, deviation
        self._erasing, self._erased = erasing, erased
        self._mean, self._std = statistics(facts)
        self._fill = tuple(min(255, round(255 * m)) for m in facts.mean) or (128,) * facts.channels

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Ranges must rise."""
        for name in ("scale", "ratio", "erased"):
            low, high = settings[name]
            if low > high:
                yield f"{name}: needs (low, high) with low <= high, found ({low}, {high}): swap them"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Without operations their strength is idle, without erasing its area."""
        found: dict[str, str] = {}
        if not settings["layers"]:
            found |= dict.fromkeys(("operation", "magnitude", "deviation"), "layers is 0")
        if not settings["erasing"]:
            found["erased"] = "erasing is 0"
        return found

    def sample(
        self, pictures: Tensor | list[Tensor] | Pictures, ids: Tensor, seed: int, epoch: int, index: int
    ) -> dict[str, Tensor]:
        """The parameters of view number `index` of the samples `ids` [n], a function of (seed, epoch, sample id, index).

        operation [n l], a number in `OPERATIONS` or -1 where none acts; strength [n l] in [-10, 10]; erase [n 4] (top, left, height,
        width), of height 0 where nothing is erased, and erase_key [n]; the crop's own under 'crop.'.
        """
        crop = self._crop.sample(_on_cpu(pictures, self.facts.channels), ids, seed, epoch, index)
        drawn = [self._draw(key(seed, "policy", epoch, int(i), index)) for i in ids.cpu()]
        operation, strength, erase, noise = (np.array([one[k] for one in drawn]) for k in range(4))
        n = len(drawn)
        return {
            **{f"crop.{name}": values for name, values in crop.items()},
            "operation": torch.from_numpy(operation.astype(np.int64).reshape(n, self._layers)),
            "strength": torch.from_numpy(strength.astype(np.float32).reshape(n, self._layers)),
            "erase": torch.from_numpy(erase.astype(np.int64).reshape(n, 4)),
            "erase_key": torch.from_numpy(noise.astype(np.int64).reshape(n)),
        }

    def apply(self, pictures: Tensor | list[Tensor] | Pictures, how: Mapping[str, Tensor]) -> Tensor:
        """The view [n c s s] of raw pictures under recorded parameters: replays a view bit for bit."""
        packed = _on_cpu(pictures, self.facts.channels)
        local = {name: values.cpu() for name, values in how.items()}
        missing = [name for name in ("operation", "strength", "erase", "erase_key") if name not in local]
        if missing:
            raise DataError(
                f"a view is made again from all its parameters, {', '.join(missing)} are missing: pass `View.how` as recorded"
            )
        crop = {name.removeprefix("crop."): values for name, values in local.items() if name.startswith("crop.")}
        out = self._crop.apply(packed, crop)

        def work(begin: int, end: int) -> None:
            for i in range(begin, end):
                self._act(out[i], local["operation"][i], local["strength"][i])
                self._finish(out[i], local["erase"][i].tolist(), int(local["erase_key"][i]))

        spread(work, len(out), torch.get_num_threads(), grain=4)
        device = pictures.device if isinstance(pictures, Tensor | Pictures) else packed.device
        return out.to(device)

    def __call__(
        self, pictures: Tensor | list[Tensor] | Pictures, ids: Tensor, seed: int, epoch: int, index: int
    ) -> View:
        """Sample and apply; the parameters are recorded in `View.how`."""
        how = self.sample(pictures, ids, seed, epoch, index)
        return View(self.apply(pictures, how), how)

    def plain(self, pictures: Tensor | list[Tensor] | Pictures, centre: float) -> Tensor:
        """The evaluation view, as of view 'image'."""
        return self._still.plain(pictures, centre)

    def _draw(self, state: int) -> tuple[list[int], list[float], list[int], int]:
        operation, strength = [], []
        for layer in range(self._layers):
            first = _LAYER + 4 * layer
            which = int(uniform(state, first) * len(OPERATIONS))
            acts = uniform(state, first + 1) < self._operation
            normal = math.sqrt(-2 * math.log(1 - uniform(state, first + 2))) * math.cos(
                2 * math.pi * uniform(state, first + 3)
            )
            size = min(max(self._magnitude + self._deviation * normal, 0.0), MOST)
            sign = -1 if which in _TWO_WAYS and uniform(state, _SIGN + layer) > 0.5 else 1
            operation.append(which if acts else -1)
            strength.append(sign * size if acts else 0.0)
        return operation, strength, self._rectangle(state), key(_NOISE, after=state) >> 1

    def _rectangle(self, state: int) -> list[int]:
        if uniform(state, _ERASE) >= self._erasing:
            return [0, 0, 0, 0]
        side, steepest = self.size, math.log(1 / 0.3)
        for at in range(_FIRST_TRY, _FIRST_TRY + 4 * _TRIES, 4):
            low, high = self._erased
            area = (low + (high - low) * uniform(state, at)) * side * side
            shape = math.exp(steepest * (2 * uniform(state, at + 1) - 1))
            height, width = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if height < side and width < side:
                top, left = (int(uniform(state, at + 2 + k) * (side - (height, width)[k] + 1)) for k in range(2))
                return [top, left, height, width]
        return [0, 0, 0, 0]

    def _act(self, view: Tensor, operation: Tensor, strength: Tensor) -> None:
        """The operations on one view [c s s] in [0, 1], in place; views on which none acts keep what lies between bytes."""
        if bool((operation < 0).all()):
            return
        pixels: NDArray[np.uint8] = (view * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        picture = Picture.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        for which, amount in zip(operation.tolist(), strength.tolist(), strict=True):
            if which >= 0:
                picture = operate(picture, OPERATIONS[which], amount, self._fill)
        made = torch.from_numpy(np.array(picture)).reshape(*view.shape[1:], -1)
        view.copy_(made.permute(2, 0, 1).float() / 255)

    def _finish(self, view: Tensor, erase: list[int], noise_key: int) -> None:
        """Normalise one view and fill its rectangle with noise, in place."""
        if len(self._mean):
            view.sub_(torch.from_numpy(self._mean)[:, None, None]).div_(torch.from_numpy(self._std)[:, None, None])
        top, left, height, width = erase
        if height and width:
            rng: Callable[..., NDArray[np.float32]] = np.random.Generator(
                np.random.Philox(key=noise_key)
            ).standard_normal
            noise = torch.from_numpy(rng((len(view), height, width), dtype=np.float32))
            view[:, top : top + height, left : left + width] = noise


_TWO_WAYS = {
    i
    for i, name in enumerate(OPERATIONS)
    if name in _ENHANCE or name.startswith(("rotate", "shear", "translate"))
}  # fmt: skip


def _on_cpu(pictures: Tensor | list[Tensor] | Pictures, channels: int) -> Pictures:
    """The pictures where Pillow can read them."""
    packed = Pictures.of(pictures, channels)
    if packed.device.type == "cpu":
        return packed
    data = packed.data.cpu() if isinstance(packed.data, Tensor) else [one.cpu() for one in packed.data]
    return Pictures.of(data, channels)
