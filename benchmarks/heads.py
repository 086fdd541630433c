"""The price of many linear heads: 40 (10 rates x 4 decays) trained together in one pass beside one, and beside 40 separate ones.

    python benchmarks/heads.py --rows 5000 --width 384 --classes 100 --json

Separate heads are `torch.nn.Linear` with autograd and `torch.optim.SGD` on the same batches. Medians of interleaved repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from tacit.probing.linear import DECAYS, RATES, sgd_heads


def separate(x: torch.Tensor, y: torch.Tensor, grid: list[tuple[float, float]], classes: int, epochs: int) -> None:
    """As a script would: one after the other."""
    for rate, decay in grid:
        layer = torch.nn.Linear(x.shape[1], classes)
        optimiser = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(256):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(layer(x[rows]), y[rows]).backward()
                optimiser.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(args.classes, (args.rows,), generator=rng)
    x = torch.randn(args.classes, args.width, generator=rng)[y] + torch.randn(args.rows, args.width, generator=rng)
    grid = [(rate, decay) for rate in RATES for decay in DECAYS]
    table = torch.tensor(grid)

    def heads(count: int) -> None:
        sgd_heads(x, y, table[:count, 0], table[:count, 1], args.classes, epochs=args.epochs)

    runs = {
        "one head": lambda: heads(1),
        f"{len(grid)} heads in one pass": lambda: heads(len(grid)),
        "one separate head": lambda: separate(x, y, grid[:1], args.classes, args.epochs),
        f"{len(grid)} separate heads": lambda: separate(x, y, grid, args.classes, args.epochs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if args.json:
        print(json.dumps({**vars(args), "seconds": medians}))
        return
    for name, value in medians.items():
        print(f"{name:24s} {value:8.3f} s  {value / medians['one head']:6.2f} x one head")


if __name__ == "__main__":
    main()
