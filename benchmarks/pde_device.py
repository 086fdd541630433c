"""Trajectories per second by batch size, of every equation in both precisions, on one device.

    python benchmarks/pde_device.py --device cuda
    python benchmarks/pde_device.py --device cpu --batches 1 8 --sizes 32 --frames 0.2

A cell is the wall time of one call of the world's `generate`, after one that does not count: starts are drawn on the CPU and moved,
fields stay on the device, which is waited for. KdV, Kuramoto-Sivashinsky and Burgers have the published sizes (256 points, 250, 500
and 180 frames; Burgers by its spectral route, 8 steps a frame), smoke 8 + 56 steps. A size is given up (-) once a batch took longer
than `--cap` seconds, once the next would take longer than is left of `--budget`, or needs more than `--memory` GiB.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from tacit.core.spec import Spec

_PRECISIONS = ("float64", "float32")


def worlds(sizes: list[int], share: float) -> dict[str, Spec]:
    """Name of the row -> its world; share: of the published number of frames."""

    def line(kind: str, frames: int, **settings: Any) -> Spec:
        kept = max(8, round(share * frames))  # the steps stay as long as published, the horizon shrinks with the frames
        world = Spec("world", kind, **settings)
        horizon = world.resolve()["horizon"] * (kept - 1) / (frames - 1)
        return world.change(frames=kept, stored=min(kept, 140), horizon=horizon)

    found = {
        "KdV, 256 points": line("kdv", 250),
        "KS, 256 points": line("ks", 500),
        "Burgers, 256 points": line("burgers", 180, route="spectral"),
    }
    for n in sizes:  # cells of the published width would need a shorter step where there are more of them
        box = Spec("world", "smoke", points=n, frames=max(2, round(share * 56)), length=32.0 * n / 128)
        found[f"smoke, {n} x {n}"] = box
    return found


def gibibytes(world: Spec, batch: int) -> float:
    """What a call holds at its peak, roughly: the stored fields four times."""
    s = world.resolve()
    plane = world.kind == "smoke"
    rows = 3 * s["frames"] * s["points"] ** 2 if plane else s["stored"] * s["points"]
    return 4 * batch * rows * (8 if s["precision"] == "float64" else 4) / 2**30


def seconds(world: Any, batch: int, device: torch.device) -> float:
    """Wall time of one call, the device being idle before and after it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    world.generate(0, range(batch), device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def row(spec: Spec, options: argparse.Namespace, device: torch.device, until: float) -> list[float | None]:
    """Trajectories per second at each batch size; None where it was given up."""
    world = spec.build()
    cells: list[float | None] = []
    last = seconds(world, options.batches[0], device)  # kernels are loaded, plans of transforms made
    for k, batch in enumerate(options.batches):
        grown = batch / options.batches[max(k - 1, 0)] if device.type == "cpu" else 1.0
        hopeless = last > options.cap or time.perf_counter() + last * grown > until
        if hopeless or gibibytes(spec, batch) > options.memory:
            cells.append(None)
            continue
        last = seconds(world, batch, device)
        cells.append(batch / last)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 128, 1024])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256], help="of the smoke box")
    parser.add_argument("--frames", type=float, default=1.0, help="share of the published number of frames")
    parser.add_argument("--precisions", nargs="+", choices=_PRECISIONS, default=list(_PRECISIONS))
    parser.add_argument("--cap", type=float, default=4.0)
    parser.add_argument("--budget", type=float, default=38.0, help="seconds for the whole table")
    parser.add_argument("--memory", type=float, default=24.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"trajectories per second on {name}, torch {torch.__version__}\n")
    print("| equation | precision | " + " | ".join(f"batch {b}" for b in options.batches) + " |")
    print("|---" * (len(options.batches) + 2) + "|", flush=True)
    rows, until = [], time.perf_counter() + options.budget
    for title, spec in worlds(options.sizes, options.frames).items():
        for precision in options.precisions:
            cells = row(spec.change(precision=precision), options, device, until)
            rows.append(
                {
                    "equation": title,
                    "precision": precision,
                    "per_second": dict(zip(options.batches, cells, strict=True)),
                }
            )
            words = ["-" if c is None else f"{c:.3g}" for c in cells]
            print(f"| {title} | {precision} | " + " | ".join(words) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"device": name, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
