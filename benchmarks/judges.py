"""All label-free criteria of a million rows in one stream, beside the same criteria by their formulas on all rows at once.

    python benchmarks/judges.py
    python benchmarks/judges.py --rows 25600 --width 2048 --json

Streamed: the Panel (RankMe, alpha-ReQ, NESum, stable rank, participation ratio, classical rank, spectrum area, self-cluster over all pairs,
uniformity and both halves of CLID on an even sample of 4,096 rows, collapse), and LiDAR with alignment on the same rows taken as
samples of `--views` views. At once: float32 `svdvals` of the rows and of the centred rows, and the products of the unit rows
(the n x n form of self-cluster does not fit); pairs on a sample are left out there. Times are processor seconds; making the rows is
not timed. Peak memory is that of the stream alone, before the other side runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import torch

from tacit.judging import Panel, ViewPanel
from tacit.ops import spectrum


def chunks(rows: int, width: int, size: int = 8000):
    """Gaussian rows of spectrum 1/sqrt(j) in random directions, the same for every call."""
    rng = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(width, width, generator=rng)).Q
    scale = torch.arange(1, width + 1).rsqrt()[:, None] * turn
    for start in range(0, rows, size):
        yield torch.randn(min(size, rows - start), width, generator=rng) @ scale


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def streamed(judge, rows: int, width: int, batch: int, views: int = 0):
    spent = 0.0
    for chunk in chunks(rows, width):
        start = time.process_time()
        for part in chunk.split(batch):
            judge.update(part.unflatten(0, (-1, views)) if views else part)
        spent += time.process_time() - start
    start = time.process_time()
    scores = judge.scores()
    return {score.protocol: score.value for score in scores}, spent, time.process_time() - start


def at_once(z: torch.Tensor):
    start = time.process_time()
    s = torch.linalg.svdvals(z)
    lam = torch.linalg.svdvals(z - z.mean(dim=0)).square() / (len(z) - 1)
    units = torch.nn.functional.normalize(z, dim=1)
    found = {
        "rankme/eps=1e-07@1": spectrum.rankme(s),
        "stable-rank@1": spectrum.stable_rank(s),
        "participation-ratio@1": spectrum.participation_ratio(lam),
        "nesum@1": spectrum.nesum(lam),
        "alpha-req/j=11-100@1": spectrum.alpha_req(lam),
        "self-cluster@1": spectrum.self_cluster(units.T @ units, len(z)),
    }
    return found, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=250, help="rows per update")
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-plain", action="store_true", help="only stream")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = peak_mib()
    panel, spent, end = streamed(Panel(), args.rows, args.width, args.batch)
    views, view_spent, view_end = streamed(ViewPanel(), args.rows, args.width, args.batch, args.views)
    result = {
        "rows": args.rows, "width": args.width, "threads": args.threads, "panel_seconds": spent + end, "panel_at_the_end": end,
        "views_seconds": view_spent + view_end, "peak_mib": round(peak_mib() - base, 1), "scores": {**panel, **views},
    }  # fmt: skip
    if not args.no_plain:
        plain, seconds = at_once(torch.cat(list(chunks(args.rows, args.width))))
        gaps = {name: abs(panel[name] - value) / max(abs(value), 1e-6) for name, value in plain.items()}
        result |= {"plain_seconds": seconds, "speedup": seconds / (spent + end), "relative_gaps": gaps}
    if args.json:
        print(json.dumps(result))
        return
    for name, found in result.items():
        for inner, value in found.items() if isinstance(found, dict) else [("", found)]:
            print(f"{name:18s} {inner:32s} {value:.6g}")


if __name__ == "__main__":
    main()
