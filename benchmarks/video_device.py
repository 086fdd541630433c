"""Clips per second and share of the card's peak of a V-JEPA 2 pre-training step: ViT-L/16, 16 frames of 256 pixels, bf16, one CUDA card.

    python benchmarks/video_device.py [--batch 24] [--steps 6] [--json FILE] [--profile FILE]

The whole step as `fit` runs it: clips of bytes from memory, cropped and masked on the processor, the averaged encoder on all tokens, two
passes of the encoder and the predictor on what is visible, L1, AdamW, averaging. Under three ways to bring masks of unequal length into one
batch (docs/masked.md): cut to the shortest ('first', as published), a random subset of that length, and packed without fillings.
tokens: of the targets that count, as a share of those drawn. Share of the peak: counted operations over time, over the rate of a large
bf16 product measured here.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from device import QUIET, product_rate, seconds_of
from tacit import recipes
from tacit.core.recipe import Recipe
from tacit.core.values import Batch, Facts, View
from tacit.runs.build import build

FRAMES, SIDE = 16, 256


class Clips:
    """Random clips of bytes in memory, as a source."""

    facts = Facts(channels=3, shape=(FRAMES, SIDE, SIDE), mean=(0.45,) * 3, std=(0.225,) * 3)

    def __init__(self, n: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.clips = torch.randint(0, 256, (n, 3, FRAMES, SIDE, SIDE), dtype=torch.uint8, generator=rng)

    def __len__(self) -> int:
        return len(self.clips)

    def digest(self) -> str:
        return "random"

    def read(self, indices: Any) -> Batch:
        rows = torch.as_tensor(indices)
        return Batch({"image": View(self.clips[rows])}, ids=rows)


def recipe_of(truncate: str, batch: int, steps: int, extra: tuple[str, ...] = ()) -> Recipe:
    own = [f"views.truncate={truncate}", f"steps={steps}", f"batch={batch}", "machine.precision=bf16"]
    return recipes.load("video.vjepa2", ["system.encoder.size=large", *own, *QUIET, *extra])


def counted(recipe: Recipe, source: Clips) -> tuple[float, float]:
    """Operations of one step, and the share of the drawn target tokens that are predicted."""
    built = build(recipe, source)
    system = built.system.cuda()
    batch = built.views(source.read(range(recipe.batch)), 0, 0)
    how = batch.views["image"].how
    whole = (
        build(recipes.load(recipe, ["views.truncate=packed"]), source)
        .views(source.read(range(recipe.batch)), 0, 0)
        .views["image"]
        .how
    )
    targets = [name for name in how if name.startswith("target.")]
    kept, drawn = (sum(int((given[name] >= 0).sum()) for name in targets) for given in (how, whole))
    with FlopCounterMode(display=False) as counter, torch.autocast("cuda", torch.bfloat16):
        system(batch.to("cuda"), 0.0)["loss"].backward()
    return float(counter.get_total_flops()), kept / drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="write where the time of the packed step goes to this file")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "this benchmark measures a CUDA card, and torch finds none here: see benchmarks/video.py for the processor"
        )
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    peak, source, found = product_rate(), Clips(2 * given.batch), {}
    print(f"a large bf16 product: {peak / 1e12:.0f} TFLOP/s", flush=True)
    for truncate in ("first", "random", "packed"):
        torch.cuda.reset_peak_memory_stats()
        spent = statistics.median(seconds_of(recipe_of(truncate, given.batch, given.steps + 3), source)[2:])
        memory = torch.cuda.max_memory_allocated() / 2**30
        operations, kept = counted(recipe_of(truncate, given.batch, 1), source)
        share = operations / spent / peak
        found[truncate] = {
            "clips_per_second": given.batch / spent, "share_of_peak": share, "tokens_kept": kept,
            "tera_operations": operations / 1e12, "gibibytes": memory,
        }  # fmt: skip
        print(
            f"{truncate:8s} {given.batch / spent:7.1f} clips/s  {1e3 * spent:7.1f} ms a step of {given.batch}  "
            f"{operations / 1e12:6.1f} TFLOP  "
            f"{100 * share:4.1f} % of the peak  {100 * kept:5.1f} % of the target tokens  {memory:5.1f} GiB", flush=True,
        )  # fmt: skip
    if given.profile:
        from torch.profiler import ProfilerActivity
        from torch.profiler import profile as profiler

        with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            seconds_of(recipe_of("packed", given.batch, 4), source)
        given.profile.write_text(
            seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=70)
        )
    if given.json:
        given.json.write_text(json.dumps({"device": torch.cuda.get_device_name(), "peak": peak, **found}, indent=1))


if __name__ == "__main__":
    main()
