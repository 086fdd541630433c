"""RankMe of embeddings: the streaming judge beside a plain SVD (`torch.linalg.svdvals`, float32), same threads.

    python benchmarks/rankme.py --rows 25600 --width 2048
    python benchmarks/rankme.py --rows 1000000 --width 512 --spectrum flat --json

Rows are made chunk by chunk (not timed). The plain SVD needs all rows in memory; --no-plain leaves it out where they do not fit.
Times are processor seconds: wall seconds with --threads 1 on an idle machine. Errors are
relative to the definition, by singular values in float64, where that is affordable (--reference).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time

import torch

from tacit.judging import RankMe
from tacit.ops.spectrum import rankme

SPECTRA = {
    "flat": lambda j: torch.ones_like(j),
    "1/j": lambda j: 1 / j,
    "j^-3": lambda j: j**-3,
    "half rank": lambda j: (j <= len(j) // 2) / j,
    "rank 256": lambda j: (j <= 256) * 1.0,
}


def chunks(rows: int, width: int, spectrum: str, size: int = 8192):
    """Gaussian rows whose covariance has the asked spectrum in random directions; the same for every call."""
    rng = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(width, width, generator=rng)).Q
    scale = SPECTRA[spectrum](torch.arange(1, width + 1, dtype=torch.float64)).float()[:, None] * turn
    for start in range(0, rows, size):
        yield torch.randn(min(size, rows - start), width, generator=rng) @ scale


def clock() -> float:
    """Processor seconds of all threads: what a run costs, also on a machine that others use."""
    return time.process_time()


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(rows: int, width: int, spectrum: str, batch: int) -> tuple[float, float]:
    judge, spent = RankMe(), 0.0
    for chunk in chunks(rows, width, spectrum):
        start = clock()
        for part in chunk.split(batch):
            judge.update(part)
        spent += clock() - start
    start = clock()
    value = judge.compute().value
    return value, spent + clock() - start


def plain(z: torch.Tensor) -> tuple[float, float]:
    start = clock()
    value = rankme(torch.linalg.svdvals(z))
    return value, clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=25600)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--spectrum", choices=SPECTRA, default="flat")
    parser.add_argument("--batch", type=int, default=256, help="rows per update")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-plain", action="store_true", help="do not run the SVD of all rows")
    parser.add_argument("--reference", action="store_true", help="compare both with a float64 SVD of all rows")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = peak_mib()
    mine, theirs = [], []
    for repeat in range(args.repeats):  # interleaved, so that a busy machine slows both
        value, seconds = ours(args.rows, args.width, args.spectrum, args.batch)
        mine.append(seconds)
        if repeat == 0:
            peak = peak_mib() - base
        if not args.no_plain:
            z = torch.cat(list(chunks(args.rows, args.width, args.spectrum)))
            other, seconds = plain(z)
            theirs.append(seconds)
    result = {
        "rows": args.rows, "width": args.width, "spectrum": args.spectrum, "threads": args.threads,
        "rankme": value, "seconds": statistics.median(mine), "peak_mib": round(peak, 1),
    }  # fmt: skip
    if theirs:
        result |= {
            "plain_rankme": other,
            "plain_seconds": statistics.median(theirs),
            "speedup": statistics.median(theirs) / statistics.median(mine),
        }
    if args.reference:
        z = torch.cat(list(chunks(args.rows, args.width, args.spectrum)))
        exact = rankme(torch.linalg.svdvals(z.double()))
        result |= {"error": abs(value / exact - 1)} | ({"plain_error": abs(other / exact - 1)} if theirs else {})
    if args.json:
        print(json.dumps(result))
    else:
        for name, found in result.items():
            print(f"{name:14s} {found:.6g}" if isinstance(found, float) else f"{name:14s} {found}")


if __name__ == "__main__":
    main()
