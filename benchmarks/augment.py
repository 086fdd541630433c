"""Two views of every picture: the fused kernel beside lightly, kornia and albumentations, one process tree, two threads.

    python benchmarks/augment.py [--json results.json] [--repeats 5] [--case 32 | 224]

Every pipeline makes the SimCLR views (crop .08-1, flip .5, jitter .8 of (.8 .8 .8 .2), grey .2, blur .5, normalise) from
pictures that are decoded already. One source picture with its two views counts one. Each pipeline runs once to warm up, then
`repeats` times in turn with the others; medians are printed. tacit uses two threads, kornia two torch threads, and
the pipelines that work picture by picture a DataLoader with two workers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version

import torch
from PIL import Image as Picture
from torch.utils.data import DataLoader, Dataset

from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

THREADS = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#        view: side of the pictures, their number, batch size
CASES = {32: (32, 2048, 256), 224: (256, 96, 32)}
AIMS = {(32, "lightly"): 50, (32, "kornia"): 15, (224, "lightly"): 10}
COMPILE = """
import time, torch
torch.set_num_threads(1)
from tacit.core.spec import Spec
from tacit.core.values import Facts
start = time.perf_counter()
view = Spec("view", "image", size=32).build(Facts(channels=3))
view(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.arange(2), 0, 0, 0)
print(time.perf_counter() - start)
"""

Run = Callable[[], None]
TURN = 1.0  # seconds: a quick pipeline goes through the pictures several times in its turn


class Pictures(Dataset):
    """Decoded pictures in memory and a transform of each: what a per-picture pipeline sees in a DataLoader."""

    def __init__(self, pictures: list[Any], transform: Callable[[Any], Any]) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.pictures[index])


def smooth_pictures(n: int, side: int) -> torch.Tensor:
    """Coloured blobs with grain, uint8 [n 3 side side]."""
    rng = torch.Generator().manual_seed(0)
    x = torch.nn.functional.interpolate(torch.rand(n, 3, 6, 6, generator=rng), (side, side), mode="bilinear")
    return ((x + 0.05 * torch.randn(x.shape, generator=rng)).clamp(0, 1) * 255).to(torch.uint8)


def tacit(images: torch.Tensor | list[torch.Tensor], size: int, batch: int) -> Run:
    first = Spec("view", "image", size=size, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
    pair = Spec("views", "pair", first=first).build(Facts(channels=3, mean=MEAN, std=STD))
    parts = [
        Batch({"image": View(images[i : i + batch])}, torch.arange(i, i + batch)) for i in range(0, len(images), batch)
    ]

    def run() -> None:
        for part in parts:
            pair(part, seed=0, epoch=0)

    return run


def loader(pictures: list[Any], transform: Callable[[Any], Any], batch: int) -> Run:
    data = DataLoader(Pictures(pictures, transform), batch, num_workers=THREADS, persistent_workers=True)

    def run() -> None:
        for _ in data:
            pass

    return run


def lightly(images: torch.Tensor, size: int, batch: int) -> Run:
    from lightly.transforms import SimCLRTransform

    pictures = [Picture.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return loader(pictures, SimCLRTransform(input_size=size), batch)


def kornia(images: torch.Tensor, size: int, batch: int) -> Run:
    import kornia.augmentation as K

    side = 2 * (size // 20) + 1
    views = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((side, side), (0.1, 2.0), p=0.5),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )

    def run() -> None:
        for part in images.split(batch):
            floats = part.float() / 255
            views(floats), views(floats)

    return run


def albumentations(images: torch.Tensor, size: int, batch: int) -> Run:
    import albumentations as A

    side = 2 * (size // 20) + 1
    views = A.Compose(
        [
            A.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
            A.HorizontalFlip(),
            A.ColorJitter((0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2), p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=(side, side), sigma_limit=(0.1, 2.0), p=0.5),
            A.Normalize(MEAN, STD),
            A.ToTensorV2(),
        ]
    )
    pictures = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
    return loader(pictures, lambda picture: [views(image=picture)["image"] for _ in range(2)], batch)


def compile_seconds() -> dict[str, float]:
    """Seconds from nothing to the first view in a fresh process, before and after the machine code is on disk."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        once = [sys.executable, "-c", COMPILE]
        return {
            name: float(subprocess.run(once, env=environment, check=True, capture_output=True, text=True).stdout)
            for name in ("cold", "cached")
        }


def measure(size: int, repeats: int) -> dict[str, float]:
    """Source pictures per second of every pipeline that is installed: the median over turns of at least a second each."""
    side, n, batch = CASES[size]
    images = smooth_pictures(n, side)
    runs: dict[str, Run] = {}
    for pipeline in (lightly, kornia, albumentations, tacit):
        try:
            runs[pipeline.__name__] = pipeline(images, size, batch)
        except ModuleNotFoundError as error:
            package = (error.name or pipeline.__name__).partition(".")[0]
            print(f"{package} is not installed, so its row is left out: pip install {package}")
    if size != 32:
        many = [image[:, : side - i % 32, : side - i % 17].contiguous() for i, image in enumerate(images)]
        runs["tacit, many sizes"] = tacit(many, size, batch)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(-1, repeats):
        for name, run in runs.items():
            start, laps = time.perf_counter(), 0
            while laps == 0 or time.perf_counter() - start < TURN:
                run()
                laps += 1
            if repeat >= 0:
                seconds[name].append((time.perf_counter() - start) / laps)
    return {name: n / statistics.median(taken) for name, taken in seconds.items()}


def table(size: int, rates: dict[str, float]) -> Iterator[str]:
    yield f"two {size}-px views of {CASES[size][0]}-px pictures, {THREADS} threads or workers"
    yield f"  {'pipeline':<20}{'pictures/s':>12}{'tacit is':>12}"
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        aim = f"  (aim {AIMS[size, name]}x)" if (size, name) in AIMS else ""
        yield f"  {name:<20}{rate:>12,.0f}{rates['tacit'] / rate:>11.1f}x{aim}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", type=int, choices=list(CASES), action="append")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    torch.set_num_threads(THREADS)
    found: dict[str, Any] = {
        "compile_seconds": compile_seconds(),
        "threads": THREADS,
        "load_before": os.getloadavg()[0],
    }
    print("first view: {cold:.1f} s when compiled, {cached:.1f} s from the cache".format(**found["compile_seconds"]))
    for size in chosen.case or CASES:
        rates = measure(size, chosen.repeats)
        print("\n".join(table(size, rates)))
        found[f"pictures_per_second_{size}"] = rates
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
