"""k-NN classification: all k in one pass, beside lightly's `knn_predict`, DINOv2's module and scikit-learn's brute force.

    python benchmarks/knn.py --bank 50000 --width 384 --classes 1000 --queries 2000
    python benchmarks/knn.py --dinov2 PATH_OF_A_DINOV2_CHECKOUT --json

Every competitor gets normalised features; each answers for k = 200 alone, ours also for five k at once. Medians of interleaved
repeats, the same number of threads. What is not installed is named in one sentence and left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from tacit.probing import knn

K, T = 200, 0.07


def data(bank: int, queries: int, width: int, classes: int) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, width, generator=rng)
    y, t = (torch.randint(classes, (n,), generator=rng) for n in (bank, queries))
    x, q = (centres[c] + 4 * torch.randn(len(c), width, generator=rng) for c in (y, t))
    return torch.nn.functional.normalize(x, dim=1), y, torch.nn.functional.normalize(q, dim=1), t


def from_lightly(x, y, q, classes) -> Callable[[], torch.Tensor]:
    from lightly.utils.benchmarking import knn_predict

    columns = x.T.contiguous()
    return lambda: torch.cat([knn_predict(part, columns, y, classes, K, T)[:, 0] for part in q.split(256)])


def from_dinov2(path: Path, x, y, q, classes) -> Callable[[], torch.Tensor]:
    """Its own KnnModule, which asks for a process group even alone."""
    sys.path.insert(0, str(path))
    module = importlib.import_module("dinov2.eval.knn").KnnModule
    store = f"file://{tempfile.mkdtemp()}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    held = module(x, y, [K], T, "cpu", num_classes=classes)
    return lambda: torch.cat([held(part)[K].argmax(dim=1) for part in q.split(256)])


def from_sklearn(x, y, q, threads) -> Callable[[], torch.Tensor]:
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    def weigh(distance):  # of unit vectors: cosine = 1 - distance^2 / 2
        return np.exp(-(distance**2) / (2 * T))

    model = KNeighborsClassifier(K, algorithm="brute", weights=weigh).fit(x.numpy(), y.numpy())

    def run() -> torch.Tensor:
        with threadpool_limits(threads):
            return torch.from_numpy(model.predict(q.numpy()))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dinov2", type=Path, help="a checkout of facebookresearch/dinov2")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    x, y, q, t = data(args.bank, args.queries, args.width, args.classes)
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "ours, k=200": lambda: knn(x, y, q, k=K)[K].prediction,
        "ours, five k at once": lambda: knn(x, y, q)[K].prediction,
    }
    missing = []
    makers = {
        "lightly": lambda: from_lightly(x, y, q, args.classes),
        "dinov2": lambda: from_dinov2(args.dinov2, x, y, q, args.classes),
        "scikit-learn brute": lambda: from_sklearn(x, y, q, args.threads),
    }
    for name, make in makers.items():
        if name == "dinov2" and args.dinov2 is None:
            missing.append("dinov2 is left out: name a checkout with --dinov2 PATH")
            continue
        try:
            runs[name] = make()
        except ImportError as error:
            missing.append(f"{name} is left out: {error}")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    answers = {}
    for _ in range(args.repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            answers[name] = run()
            seconds[name].append(time.perf_counter() - start)
    mine = statistics.median(seconds["ours, k=200"])
    rows = [
        {
            "name": name,
            "seconds": statistics.median(seconds[name]),
            "times_ours": statistics.median(seconds[name]) / mine,
            "accuracy": float((answers[name] == t).double().mean()),
            "agrees": float((answers[name] == answers["ours, k=200"]).double().mean()),
        }
        for name in runs
    ]
    if args.json:
        settings = {name: getattr(args, name) for name in ("bank", "queries", "width", "classes", "threads", "repeats")}
        print(json.dumps({**settings, "rows": rows, "missing": missing}))
        return
    for row in rows:
        print(
            "{name:22s} {seconds:8.3f} s  {times_ours:6.2f} x  accuracy {accuracy:.4f}  same answer {agrees:.4f}".format(
                **row
            )
        )
    for sentence in missing:
        print(sentence)


if __name__ == "__main__":
    main()
