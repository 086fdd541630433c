"""Two views of every picture: the fused kernel beside lightly, kornia and albumentations, one process tree, two threads.

    python benchmarks/augment.py [--json results.json] [--repeats 5] [--case 32 | 224 | byol | swav | dino]

In cases 32 and 224 every pipeline makes the SimCLR views (crop .08-1, flip .5, jitter .8 of (.8 .8 .8 .2), grey .2, blur .5,
normalise) from pictures that are decoded already. One source picture with its two views counts one. Each pipeline runs once to warm up,
then `repeats` times in turn with the others; medians are printed. tacit uses two threads, kornia two torch threads, and
the pipelines that work picture by picture a DataLoader with two workers.

The other cases are all views of a published recipe, from pictures of 256, beside lightly's transform of the same name, sizes, areas
and chances: BYOL's pair of 224 (one always blurred, the other solarised a fifth of the time), SwAV's two crops of 224 and six of 96,
DINO's two of 224 and ten of 96 (crops are bilinear there and bicubic here).
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

from tacit import recipes
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

THREADS = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#        view: side of the pictures, their number, batch size
CASES = {"32": (32, 2048, 256), "224": (256, 96, 32)}
RECIPES = {"byol": "ssl.byol_imagenet", "swav": "ssl.swav_imagenet", "dino": "ssl.dino_imagenet"}
CASES |= dict.fromkeys(RECIPES, (256, 32, 16))
AIMS = {
    ("32", "lightly"): 50,
    ("32", "kornia"): 15,
    ("224", "lightly"): 10,
    **{(name, "lightly"): 10 for name in RECIPES},
}
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


def tacit(images: torch.Tensor | list[torch.Tensor], case: str, batch: int) -> Run:
    if case in RECIPES:
        made = recipes.load(RECIPES[case]).views
    else:
        first = Spec("view", "image", size=int(case), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
        made = Spec("views", "pair", first=first)
    views = made.build(Facts(channels=3, mean=MEAN, std=STD))
    parts = [
        Batch({"image": View(images[i : i + batch])}, torch.arange(i, i + batch)) for i in range(0, len(images), batch)
    ]

    def run() -> None:
        for part in parts:
            views(part, seed=0, epoch=0)

    return run


def loader(pictures: list[Any], transform: Callable[[Any], Any], batch: int) -> Run:
    data = DataLoader(Pictures(pictures, transform), batch, num_workers=THREADS, persistent_workers=True)

    def run() -> None:
        for _ in data:
            pass

    return run


def lightly(images: torch.Tensor, case: str, batch: int) -> Run:
    from lightly.transforms import BYOLTransform, DINOTransform, SimCLRTransform, SwaVTransform

    if case == "byol":
        transform: Any = BYOLTransform()
    elif case == "swav":
        transform = SwaVTransform()
    elif case == "dino":
        transform = DINOTransform(global_crop_scale=(0.25, 1.0), local_crop_scale=(0.05, 0.25), n_local_views=10)
    else:
        transform = SimCLRTransform(input_size=int(case))
    pictures = [Picture.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return loader(pictures, transform, batch)


def kornia(images: torch.Tensor, case: str, batch: int) -> Run:
    import kornia.augmentation as K

    size = int(case)
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


def albumentations(images: torch.Tensor, case: str, batch: int) -> Run:
    import albumentations as A

    size = int(case)
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


def measure(case: str, repeats: int) -> dict[str, float]:
    """Source pictures per second of every pipeline that is installed: the median over turns of at least a second each."""
    side, n, batch = CASES[case]
    images = smooth_pictures(n, side)
    runs: dict[str, Run] = {}
    for pipeline in (lightly, tacit) if case in RECIPES else (lightly, kornia, albumentations, tacit):
        try:
            runs[pipeline.__name__] = pipeline(images, case, batch)
        except ModuleNotFoundError as error:
            package = (error.name or pipeline.__name__).partition(".")[0]
            print(f"{package} is not installed, so its row is left out: pip install {package}")
    if case == "224":
        many = [image[:, : side - i % 32, : side - i % 17].contiguous() for i, image in enumerate(images)]
        runs["tacit, many sizes"] = tacit(many, case, batch)
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


def table(case: str, rates: dict[str, float]) -> Iterator[str]:
    what = f"the views of {RECIPES[case]}" if case in RECIPES else f"two {case}-px views"
    yield f"{what}, of {CASES[case][0]}-px pictures, {THREADS} threads or workers"
    yield f"  {'pipeline':<20}{'pictures/s':>12}{'tacit is':>12}"
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        aim = f"  (aim {AIMS[case, name]}x)" if (case, name) in AIMS else ""
        yield f"  {name:<20}{rate:>12,.0f}{rates['tacit'] / rate:>11.1f}x{aim}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", choices=list(CASES), action="append")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    torch.set_num_threads(THREADS)
    found: dict[str, Any] = {"threads": THREADS, "load_before": os.getloadavg()[0]}
    if not chosen.case:
        found["compile_seconds"] = compile_seconds()
        print(
            "first view: {cold:.1f} s when compiled, {cached:.1f} s from the cache".format(**found["compile_seconds"])
        )
    for case in chosen.case or CASES:
        rates = measure(case, chosen.repeats)
        print("\n".join(table(case, rates)), flush=True)
        found[f"pictures_per_second_{case}"] = rates
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
