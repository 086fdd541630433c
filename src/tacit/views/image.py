"""The view of a picture: what is drawn, what may be chosen, and which applier makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.values import Facts, View
from tacit.ops.spread import Job, spread_all
from tacit.views import draws, kernel, tensors
from tacit.views.pictures import Pictures, statistics

__all__ = ["Image"]

Chance = Annotated[float, Ge(0), Le(1)]
Strength = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Fraction = Annotated[float, Gt(0), Le(1)]


@part("view", "image")
class Image:
    """A random crop with mirror, rotation, colour jitter, grey, blur, solarisation and noise, in this order.

    Every operation is that of torchvision on float pictures; brightness, contrast, saturation and hue act in a random
    order and clamp to [0, 1]. Factors are uniform in [max(0, 1 - a), 1 + a], the hue shift in [-hue, hue] turns.
    The result is float32 [n c size size], normalised by the mean and std of the facts where they have them.

    size: side of the view in pixels; a crop smaller than it is enlarged, a larger one is reduced with antialiasing.
    scale: area of the crop as a fraction of the picture. ratio: width over height of the crop.
    flip, jitter, grey, blur, solarise: chances. blur_sigma: in pixels of the view.
    blur_kernel: side of the blur kernel, odd; 0 takes a tenth of the size, rounded to odd, at least 3 (224 -> 23).
    rotate: largest angle in degrees, either way, zeros outside; 0 is off. noise: standard deviation; 0 is off.
    Saturation, hue and grey need three channels; other pictures must switch them off. Without 3 channels, contrast
    blends with the plain mean. Values of a bicubic crop are clamped to [0, 1], as in pictures of bytes.

    Defaults: the colour strengths of BYOL (arXiv 2006.07733) with the blur chance of SimCLR (arXiv 2002.05709).
    """

    def __init__(
        self,
        facts: Facts,
        *,
        size: Annotated[int, Ge(2)],
        scale: tuple[Fraction, Fraction] = (0.08, 1.0),
        ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3),
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        flip: Chance = 0.5,
        rotate: Annotated[float, Ge(0), Le(180)] = 0.0,
        jitter: Chance = 0.8,
        brightness: Strength = 0.4,
        contrast: Strength = 0.4,
        saturation: Strength = 0.2,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.1,
        grey: Chance = 0.2,
        blur: Chance = 0.5,
        blur_sigma: tuple[Positive, Positive] = (0.1, 2.0),
        blur_kernel: Annotated[int, Ge(0)] = 0,
        solarise: Chance = 0.0,
        noise: Strength = 0.0,
    ) -> None:
        coloured = {"saturation": saturation * jitter, "hue": hue * jitter, "grey": grey}
        asked = [name for name, amount in coloured.items() if amount > 0]
        if facts.channels != 3 and asked:
            raise RecipeError(
                f"view 'image': {' and '.join(asked)} need pictures of 3 channels, these have {facts.channels}: "
                f"switch off with {', '.join(f'{name}=0' for name in asked)}"
            )
        self.size = size
        self.facts = replace(facts, shape=(size, size))
        self._cubic = interpolation == "bicubic"
        self._radius = _kernel(size, blur_kernel) // 2
        self._mean, self._std = statistics(facts)
        around_one = tuple((max(0.0, 1 - a), 1 + a) for a in (brightness, contrast, saturation))
        self._ranges = draws.Ranges(
            area=scale,
            aspect=ratio,
            flip=flip,
            jitter=jitter,
            factors=(*around_one, (-hue, hue)),
            grey=grey,
            blur=blur,
            sigma=blur_sigma,
            solarise=solarise,
            angle=rotate,
            noise=noise,
        )

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Operations that are switched off make their own settings idle."""
        strengths = ("brightness", "contrast", "saturation", "hue")
        found: dict[str, str] = {}
        if not settings["jitter"]:
            found |= dict.fromkeys(strengths, "jitter is 0, so no colour is changed")
        elif not any(settings[name] for name in strengths):
            found["jitter"] = "brightness, contrast, saturation and hue are all 0"
        if not settings["blur"]:
            found |= dict.fromkeys(("blur_sigma", "blur_kernel"), "blur is 0")
        return found

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Ranges must rise; the blur kernel must be odd and its reflected border must fit into the view."""
        for name in ("scale", "ratio", "blur_sigma"):
            low, high = settings[name]
            if low > high:
                yield f"{name}: needs (low, high) with low <= high, found ({low}, {high}): swap them"
        kernel_side, size = settings["blur_kernel"], settings["size"]
        if kernel_side and (kernel_side % 2 == 0 or kernel_side // 2 >= size):
            yield (
                f"blur_kernel: needs an odd number below {2 * size} (twice the size), found {kernel_side}: "
                "0 chooses one by the size"
            )

    def sample(
        self, pictures: Tensor | list[Tensor] | Pictures, ids: Tensor, seed: int, epoch: int, index: int
    ) -> dict[str, Tensor]:
        """The parameters of view number `index` of the samples `ids` [n]; see `draws.draw` for names, shapes and units.

        A function of (seed, epoch, sample id, index) and the pictures' size: not of the batch, threads or processes.
        """
        source = Pictures.of(pictures, self.facts.channels).source
        how = draws.draw(
            ids.cpu().numpy(), source, self._ranges, seed, epoch, index, threads=torch.get_num_threads()
        )  # fmt: skip
        return {name: torch.from_numpy(values) for name, values in how.items()}

    def apply(self, pictures: Tensor | list[Tensor] | Pictures, how: Mapping[str, Tensor]) -> Tensor:
        """The view [n c size size] of raw pictures under recorded parameters: replays a view bit for bit."""
        pictures = Pictures.of(pictures, self.facts.channels)
        local = {name: values.cpu() for name, values in how.items()}
        _check_replay(pictures, local)
        return self._rendered(pictures, local, self._whole(len(pictures)))

    def __call__(
        self, pictures: Tensor | list[Tensor] | Pictures, ids: Tensor, seed: int, epoch: int, index: int
    ) -> View:
        """Sample and apply; the parameters are recorded in `View.how`."""
        view, jobs = self.begin(Pictures.of(pictures, self.facts.channels), ids, seed, epoch, index)
        spread_all(jobs, torch.get_num_threads())
        return view

    def begin(self, pictures: Pictures, ids: Tensor, seed: int, epoch: int, index: int) -> tuple[View, list[Job]]:
        """A view whose pixels and parameters the jobs are to fill, on any thread; pictures on an accelerator leave no jobs."""
        drawn, draw = draws.drawing(ids.cpu().numpy(), pictures.source, self._ranges, seed, epoch, index)
        how = {name: torch.from_numpy(values) for name, values in drawn.items()}
        data, jobs = self._render(pictures, how, self._whole(len(pictures)), draw)
        return View(data, how), jobs

    def plain(self, pictures: Tensor | list[Tensor] | Pictures, centre: float) -> Tensor:
        """The evaluation view [n c size size]: pictures of exactly this size stay whole.

        Others are resized so that the shorter side has round(size / centre) pixels (224 / 0.875 = 256) and cropped
        about the centre, as torchvision's Resize and CenterCrop do, with this view's filter.
        """
        pictures = Pictures.of(pictures, self.facts.channels)
        source, size = pictures.source, self.size
        short, shorter = source.min(axis=1, keepdims=True), round(size / centre)
        grid = np.where(source == short, shorter, shorter * source // short)
        grid = np.where((source == size).all(axis=1, keepdims=True), source, grid)
        corner = np.rint((grid - size) / 2).astype(np.int64)
        how = {name: torch.from_numpy(values) for name, values in draws.neutral(source).items()}
        return self._rendered(pictures, how, np.concatenate([grid, corner], axis=1))

    def _whole(self, n: int) -> NDArray[np.int64]:
        return np.tile(np.array([self.size, self.size, 0, 0]), (n, 1))

    def _rendered(self, pictures: Pictures, how: dict[str, Tensor], grid: NDArray[np.int64]) -> Tensor:
        """The view under `how`."""
        data, jobs = self._render(pictures, how, grid)
        spread_all(jobs, torch.get_num_threads())
        return data

    def _render(
        self,
        pictures: Pictures,
        how: dict[str, Tensor],
        grid: NDArray[np.int64],
        draw: Callable[[int, int], None] | None = None,
    ) -> tuple[Tensor, list[Job]]:
        """The view under `how`, and the jobs that make it; `draw` fills `how` first, on the thread that renders the same samples."""
        if pictures.device.type != "cpu":
            if draw is not None:
                draw(0, len(pictures))
            made = tensors.render(
                pictures.padded, how, torch.from_numpy(grid), self.size, self._cubic, self._radius,
                torch.from_numpy(self._mean), torch.from_numpy(self._std),
            )  # fmt: skip
            return made, []
        pixels, offset = pictures.flat
        out = np.empty((len(pictures), self.facts.channels, self.size, self.size), np.float32)
        parameters = [how[name].numpy() for name in draws.PARAMETERS]
        unit = kernel.BYTES if pixels.dtype == np.uint8 else kernel.FLOATS
        scale = np.float32(1) / self._std

        def work(begin: int, end: int) -> None:
            if draw is not None:
                draw(begin, end)
            kernel.render(
                begin, end, pixels, offset, unit, self._cubic, self._radius, self._mean, scale, out, grid, *parameters
            )  # fmt: skip

        grain = max(1, (1 << 16) // (self.facts.channels * self.size**2))  # work that outweighs handing it to a thread
        return torch.from_numpy(out), [(work, len(pictures), grain)]


def _kernel(size: int, chosen: int) -> int:
    return chosen or min(max(3, 2 * (size // 20) + 1), 2 * size - 1)


def _check_replay(pictures: Pictures, how: Mapping[str, Tensor]) -> None:
    """Compiled code checks no index: parameters from elsewhere must fit the pictures. Raises DataError."""
    missing = [name for name in draws.PARAMETERS if name not in how]
    if missing:
        raise DataError(
            f"a view is made again from all its parameters, {', '.join(missing)} are missing: pass `View.how` as recorded"
        )
    source = torch.from_numpy(pictures.source)
    if not torch.equal(how["source"], source) or any(len(values) != len(source) for values in how.values()):
        raise DataError(
            "the parameters were drawn for pictures of other sizes or another number of pictures: "
            "apply them to the pictures they were recorded with"
        )
    corner, extent = how["box"][:, :2], how["box"][:, 2:]
    inside = (corner >= 0).all() and (extent > 0).all() and (corner + extent <= source).all()
    ordered = torch.equal(how["order"].sort(dim=1).values, torch.arange(4).expand(len(source), 4))
    if not (inside and ordered and (how["sigma"] >= 0).all()):
        raise DataError(
            "the parameters describe no view: boxes must lie inside their pictures, 'order' must hold 0 to 3 once each "
            "and 'sigma' must not be negative: pass `View.how` as recorded"
        )
    neutral = torch.tensor([1.0, 0.0])
    if pictures.channels != 3 and (how["grey"].any() or (how["jitter"][:, 2:] != neutral).any()):
        raise DataError("saturation, hue and grey were drawn, but these pictures do not have 3 channels")
