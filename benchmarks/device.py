"""Pictures per second of the whole training step on a CUDA card: SimCLR with ResNet-50 or ViT-S/16, two views of 224 pixels, bf16.

    python benchmarks/device.py [--encoder resnet50 vits16] [--batch 256] [--steps 12] [--workers 14] [--json FILE] [--profile FILE]
    python benchmarks/device.py --recipes            # every ssl.*_cifar10_short on data of CIFAR's shape

Every side gets the same decoded pictures of 256 x 256 in memory and the same operations and chances (crop .08-1, flip, jitter .8 of
(.8 .8 .8 .2), grey .2, blur .5 with 23 taps, normalise), the same encoder, heads of (2048, 128) and NT-Xent; one picture with its
two views counts one.

tacit               `fit`: pictures live on the card as bytes and are augmented there.
lightly             SimCLRTransform in a DataLoader of `workers`, NTXentLoss, a bare loop under autocast.
stable-pretraining  its transforms in a DataLoader of `workers`, its SimCLR, a bare loop under autocast.
  ... on the card   its kornia transforms of the collated batch on the card (GPURandomResizedCrop and so on), not compiled, as ours are not.

A peer that is not installed is left out with a sentence. The first step of a side is warm-up; a rate is the median over steps for tacit and
for what is made on the card, and pictures over seconds for what a loader feeds (its queue is emptied first). Floor: the arithmetic of
the encoder, forward and twice that backward, at the rate of a large bf16 product measured here.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tacit import recipes
from tacit.core.recipe import Recipe
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.runs.build import build
from tacit.training.loop import fit

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODERS = {
    "resnet50": Spec("encoder", "resnet", depth=50),
    "vits16": Spec("encoder", "vit", patch=16, size="small"),
}
QUIET = ("machine.trackers=[]", "checks.save_every=0", "checks.judge_every=0", "checks.log_every=100000")


class Pictures:
    """Random pictures of bytes in memory, as a source."""

    def __init__(self, n: int, side: int) -> None:
        rng = torch.Generator().manual_seed(0)
        coarse = nn.functional.interpolate(torch.rand(n, 3, 6, 6, generator=rng), (side, side), mode="bilinear")
        self.images = ((coarse + 0.05 * torch.randn(coarse.shape, generator=rng)).clamp(0, 1) * 255).to(torch.uint8)
        self.facts = Facts(channels=3, shape=(side, side), mean=MEAN, std=STD)

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        return "random"

    def read(self, indices: Any) -> Batch:
        rows = torch.as_tensor(indices)
        return Batch({"image": View(self.images[rows])}, ids=rows)


class Clock:
    """A hook: when each step's work on the card is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, step: int, terms: Any, context: Any) -> None:
        torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def close(self, status: str) -> None:
        pass


def recipe_of(encoder: str, batch: int, steps: int) -> Recipe:
    base = recipes.load("ssl.simclr_imagenet", [f"steps={steps}", f"batch={batch}", "machine.precision=bf16", *QUIET])
    head = Spec("head", "mlp", widths=(2048, 128))
    views = Spec(
        "views", "pair", first=Spec("view", "image", size=224, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
    )
    system = base.system.change(encoder=ENCODERS[encoder], projector=head)
    return recipes.load(base.change(system=system, views=views), ["accumulate=1"])


def seconds_of(recipe: Recipe, source: Any) -> list[float]:
    """Seconds of each step but the first."""
    built, clock = build(recipe, source), Clock()
    with tempfile.TemporaryDirectory() as folder:
        fit(recipe, built.system, built.source, built.views, folder, hooks=[clock])
    return [b - a for a, b in itertools.pairwise(clock.times)]


def tacit(encoder: str, source: Pictures, batch: int, steps: int, workers: int) -> float:
    return batch / statistics.median(seconds_of(recipe_of(encoder, batch, steps + 2), source)[1:])


class Set(Dataset[Any]):
    """Decoded pictures and a transform, as many as the steps need."""

    def __init__(self, source: Pictures, transform: Callable[[Any], Any], count: int) -> None:
        self.pictures = [Picture.fromarray(x.permute(1, 2, 0).numpy()) for x in source.images]
        self.transform, self.count = transform, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        return self.transform(self.pictures[i % len(self.pictures)])


def loop(
    batches: Iterator[Any], step: Callable[[Any], Tensor], network: nn.Module, *, batch: int, skip: int, each: bool
) -> float:
    """Pictures per second of a bare loop; the first `skip` steps empty what was made ahead."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    network.cuda().train()
    times = []
    for given in batches:
        with torch.autocast("cuda", torch.bfloat16):
            loss = step(given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.cuda.synchronize()
        times.append(time.perf_counter())
    spent = [b - a for a, b in itertools.pairwise(times)][skip:]
    return batch / (statistics.median(spent) if each else statistics.mean(spent))


def network_of(encoder: str, source: Pictures) -> Any:
    return build(recipe_of(encoder, 256, 1), source).system


def loader(source: Pictures, transform: Callable[[Any], Any], batch: int, steps: int, workers: int) -> DataLoader[Any]:
    data = Set(source, transform, batch * steps)
    return DataLoader(data, batch, num_workers=workers, pin_memory=True, drop_last=True, prefetch_factor=1)


def lightly(encoder: str, source: Pictures, batch: int, steps: int, workers: int) -> float:
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    system, criterion = network_of(encoder, source), NTXentLoss(temperature=0.5)

    def step(given: Any) -> Tensor:
        a, b = (x.cuda(non_blocking=True) for x in given)
        return criterion(system.project(a), system.project(b))

    skip = workers  # each worker has made one batch ahead
    data = loader(source, SimCLRTransform(input_size=224, cj_strength=1.0), batch, skip + steps, workers)
    return loop(iter(data), step, system, batch=batch, skip=skip, each=False)


def stable_pretraining(encoder: str, source: Pictures, batch: int, steps: int, workers: int) -> float:
    from stable_pretraining.data import transforms as T
    from stable_pretraining.methods import SimCLR

    one = T.Compose(
        T.RGB(), T.RandomResizedCrop((224, 224), scale=(0.08, 1.0)), T.RandomHorizontalFlip(p=0.5),
        T.ColorJitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=0.8), T.RandomGrayscale(p=0.2),
        T.PILGaussianBlur(p=0.5), T.ToImage(mean=list(MEAN), std=list(STD)),
    )  # fmt: skip
    both = T.MultiViewTransform([one, one])
    model = SimCLR(_Pooled(network_of(encoder, source).encoder), projector_dims=(2048, 128))

    def step(given: Any) -> Tensor:
        a, b = (view["image"].cuda(non_blocking=True) for view in given["views"])
        return model(a, b).loss

    data = loader(source, lambda picture: both({"image": picture}), batch, workers + steps, workers)
    return loop(iter(data), step, model, batch=batch, skip=workers, each=False)


def stable_pretraining_on_the_card(encoder: str, source: Pictures, batch: int, steps: int, workers: int) -> float:
    from stable_pretraining.data import gpu_transforms as G
    from stable_pretraining.methods import SimCLR

    chain = G.GPUCompose([
        G.GPURandomResizedCrop((224, 224), scale=(0.08, 1.0)), G.GPURandomHorizontalFlip(p=0.5),
        G.GPUColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8), G.GPURandomGrayscale(p=0.2),
        G.GPUGaussianBlur((23, 23), (0.1, 2.0), p=0.5), G.GPUNormalize(mean=list(MEAN), std=list(STD)),
    ], compile=False)  # fmt: skip
    views = G.StackedMultiView(chain).cuda()
    model = SimCLR(_Pooled(network_of(encoder, source).encoder), projector_dims=(2048, 128))
    here = source.images.cuda()

    def step(rows: Tensor) -> Tensor:
        with torch.autocast("cuda", enabled=False):
            made = views({"image": here[rows].float() / 255})["views"]
        return model(*(view["image"] for view in made)).loss

    rows = iter([torch.randint(len(here), (batch,), device="cuda") for _ in range(steps + 2)])
    return loop(rows, step, model, batch=batch, skip=1, each=True)


class _Pooled(nn.Module):
    """Our encoder as a plain module [n c h w] -> [n d]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x).pooled  # type: ignore[no-any-return]


PEERS = {
    "lightly": ("lightly", lightly),
    "stable-pretraining": ("stable_pretraining", stable_pretraining),
    "  on the card": ("stable_pretraining", stable_pretraining_on_the_card),
}


def product_rate() -> float:
    """Operations per second of a large bf16 product."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(8):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(2 * 8192**3 / statistics.median(times))


def floor(encoder: str, source: Pictures) -> float:
    """Pictures per second if nothing but the encoder's arithmetic took time."""
    from torch.utils.flop_counter import FlopCounterMode

    system = network_of(encoder, source).cuda()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        system.encoder(torch.zeros(1, 3, 224, 224, device="cuda"))
    return product_rate() / (2 * 3 * counter.get_total_flops())


def profile(encoder: str, source: Pictures, batch: int) -> str:
    """Where the time of four of our steps goes, by kernel and by operator."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        tacit(encoder, source, batch, 4, 0)
    return str(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=70))


def measure_recipes(steps: int) -> dict[str, dict[str, float]]:
    """Every short recipe in bf16 on data of CIFAR's shape: pictures per second and memory."""
    found = {}
    with tempfile.TemporaryDirectory() as root:
        like_cifar(Path(root))
        for name in recipes.names():
            if not name.endswith("_cifar10_short"):
                continue
            over = ["data=cifar", f"data.path={root}", f"steps={steps + 3}", "machine.precision=bf16", *QUIET]
            over.append(
                "optim.schedule.warmup=1.0"
            )  # so few steps would be at the peak rate at once, where some losses overflow
            recipe = recipes.load(name, over)
            torch.cuda.reset_peak_memory_stats()
            spent = statistics.median(seconds_of(recipe, None)[2:])
            rate, memory = recipe.batch / spent, torch.cuda.max_memory_allocated() / 2**30
            found[name] = {"pictures_per_second": rate, "gibibytes": memory}
            print(f"{name:32s} {rate:9,.0f} pictures/s  {1e3 * spent:7.1f} ms a step  {memory:5.1f} GiB", flush=True)
    return found


def like_cifar(folder: Path) -> None:
    """CIFAR-10's binary version with random content: six files of 10,000 rows, a label and 3,072 bytes each."""
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        rows = rng.integers(0, 256, (10_000, 3073), dtype=np.uint8)
        rows[:, 0] %= 10
        rows.tofile(folder / name)
    (folder / "batches.meta.txt").write_text("\n".join(f"class {i}" for i in range(10)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", choices=list(ENCODERS), default=list(ENCODERS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--recipes", action="store_true", help="measure the short CIFAR recipes instead")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="write where our time goes to this file")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "this benchmark measures a CUDA card, and torch finds none here: see benchmarks/step.py for the processor"
        )
    warnings.simplefilter("ignore")
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    if given.recipes:
        found["recipes"] = measure_recipes(given.steps)
    else:
        source = Pictures(2048, 256)
        for encoder in given.encoder:
            rates = {"tacit": tacit(encoder, source, given.batch, given.steps, 0)}
            print(
                f"{encoder}, batch {given.batch}: arithmetic floor {floor(encoder, source):,.0f} pictures/s", flush=True
            )
            print(f"  tacit                {rates['tacit']:8,.0f} pictures/s", flush=True)
            for name, (package, run) in PEERS.items():
                if importlib.util.find_spec(package) is None:
                    print(f"  {name:20s} {package} is not installed, its row is left out: pip install {package}")
                    continue
                rates[name] = run(encoder, source, given.batch, given.steps if "card" in name else 4, given.workers)
                print(
                    f"  {name:20s} {rates[name]:8,.0f} pictures/s  tacit is {rates['tacit'] / rates[name]:.1f}x",
                    flush=True,
                )
            found[encoder] = rates
            if given.profile:
                with given.profile.open("a") as file:
                    file.write(f"{encoder}\n{profile(encoder, source, given.batch)}\n")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
