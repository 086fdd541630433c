"""Images per second of the whole training step: ResNet-18 (3x3 stem), VICReg, 32 pixels, batch 256, two views.

    python benchmarks/step.py [--steps 3] [--rounds 3] [--threads 2] [--json FILE]

tacit: `fit` on uint8 images in memory, views by the fused kernel. lightly: its VICReg transform in a DataLoader of two workers,
its VICRegLoss, the same network, projector and optimiser in a bare loop. Both sides use `threads` torch threads, and the first step
of each turn is left out. One source image with its two views counts one.

In each round the sides take short turns a, b, b, a (the next round b, a, a, b), so that a machine that grows slower or faster treats both
alike; a round gives one ratio, and the ratio printed is the median over the rounds, with the lowest and the highest. --profile prints
instead where the time of our step goes, operator by operator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image as Picture

from tacit import recipes
from tacit.core.values import Batch, Facts, View
from tacit.runs.build import build
from tacit.training.loop import fit

BATCH = 256


class Pictures:
    """Random uint8 images in memory."""

    facts = Facts(channels=3, shape=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)

    def __init__(self, n: int) -> None:
        self.images = torch.randint(
            0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        return "random"

    def read(self, indices) -> Batch:
        rows = torch.as_tensor(indices)
        return Batch({"image": View(self.images[rows])}, ids=rows)


class Clock:
    """A hook: the time after each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, step, terms, context) -> None:
        self.times.append(time.perf_counter())

    def close(self, status: str) -> None:
        pass


def ours(steps: int) -> float:
    source = Pictures(BATCH * 4)
    texts = [
        f"steps={steps + 1}",
        "machine.trackers=[]",
        "checks.save_every=0",
        "checks.judge_every=0",
        "checks.log_every=1000",
    ]
    recipe = recipes.load("ssl.vicreg", texts)
    built, clock = build(recipe, source), Clock()
    with tempfile.TemporaryDirectory() as folder:
        fit(recipe, built.system, source, built.views, folder, hooks=[clock])
    return BATCH * steps / (clock.times[-1] - clock.times[0])


def lightlys(steps: int) -> float:
    from lightly.loss import VICRegLoss
    from lightly.transforms import VICRegTransform
    from torch.utils.data import DataLoader, Dataset

    transform = VICRegTransform(input_size=32, gaussian_blur=0.0)

    class Set(Dataset):
        pictures: ClassVar = [Picture.fromarray(x.permute(1, 2, 0).numpy()) for x in Pictures(BATCH * 4).images]

        def __len__(self) -> int:
            return BATCH * (steps + 2)

        def __getitem__(self, i: int):
            return transform(self.pictures[i % len(self.pictures)])

    system = build(recipes.load("ssl.vicreg", ["machine.trackers=[]"]), Pictures(8)).system
    criterion = VICRegLoss()
    optimizer = torch.optim.SGD(system.parameters(), lr=0.1, momentum=0.9)
    system.train()
    times = []
    loader = DataLoader(Set(), batch_size=BATCH, num_workers=2, drop_last=True)
    for i, (a, b) in enumerate(loader):
        loss = criterion(system.project(a), system.project(b))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter())
        if i == steps:
            break
    return BATCH * steps / (times[-1] - times[0])


def profile(steps: int) -> None:
    """Print where our steps spend their time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[ProfilerActivity.CPU]) as found:
        ours(steps)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=48))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore")
    if given.profile:
        profile(given.steps)
        return
    sides: dict[str, Callable[[int], float]] = {"tacit": ours}
    try:
        import lightly  # noqa: F401

        sides["lightly"] = lightlys
    except ImportError:
        print("lightly is not installed: pip install 'tacit[bench]'")
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(given.rounds):
        order = list(sides)[:: 1 if turn % 2 else -1]  # neither side always goes first
        seconds = dict.fromkeys(sides, 0.0)
        for name in [*order, *order[::-1]]:
            seconds[name] += 1 / sides[name](given.steps)
        for name, spent in seconds.items():
            rates[name].append(2 / spent)
    found = {}
    for name, values in rates.items():
        ratios = sorted(mine / other for mine, other in zip(rates["tacit"], values, strict=True))
        middle = statistics.median(ratios)
        found[name] = {"images_per_second": statistics.median(values), "ratio": middle, "ratios": ratios}
        print(
            f"{name:8s} {statistics.median(values):8.1f} images/s  ratio {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    if given.json:
        given.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
