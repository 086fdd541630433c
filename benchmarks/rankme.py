"""RankMe of embeddings: the streaming judge beside plain SVDs (`torch.linalg.svdvals`) of all rows, same threads.

    python benchmarks/rankme.py                                    # 25,600 x 2,048, every spectrum
    python benchmarks/rankme.py --spectrum j^-3 "rank 256" --repeats 3
    python benchmarks/rankme.py --rows 1000000 --width 512 --spectrum flat --peers float32 --json

The definition is RankMe of the singular values of the float32 rows found in float64. A float32 SVD misses it by more than the 1e-6
that is demanded wherever the spectrum falls far, so the ratio is taken against the cheapest SVD that reaches 1e-6; the float64 SVD is
the definition itself. Without it among the peers (rows that do not fit twice into memory) errors are unknown, and the ratio is
against what was run.

Rows are made chunk by chunk (not timed). The sides take turns; numbers are medians over --repeats. Times are processor seconds of
all threads: wall seconds with --threads 1 on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import time

import torch

from tacit.judging import RankMe
from tacit.ops.spectrum import rankme

DEMANDED = 1e-6
SPECTRA = {
    "flat": lambda j: torch.ones_like(j),
    "1/j": lambda j: 1 / j,
    "j^-3": lambda j: j**-3,
    "half rank": lambda j: (j <= len(j) // 2) / j,
    "rank 256": lambda j: (j <= 256) * 1.0,
}
PEERS = {"float32": torch.float32, "float64": torch.float64}


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


def plain(z: torch.Tensor, dtype: torch.dtype) -> tuple[float, float]:
    start = clock()
    value = rankme(torch.linalg.svdvals(z.to(dtype)))
    return value, clock() - start


def compare(args: argparse.Namespace, spectrum: str) -> list[dict]:
    """One row a side: RankMe, median seconds, error against the definition (nan if unknown) and how many times ours is faster."""
    values: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}

    def note(side: str, found: tuple[float, float]) -> None:
        values[side] = found[0]
        seconds.setdefault(side, []).append(found[1])

    base = peak_mib()
    for repeat in range(args.repeats):
        note("tacit", ours(args.rows, args.width, spectrum, args.batch))
        if repeat == 0:
            peak = peak_mib() - base
        if args.peers:
            z = torch.cat(list(chunks(args.rows, args.width, spectrum)))
            for peer in args.peers:
                note(f"SVD {peer}", plain(z, PEERS[peer]))
            del z
    exact, mine = values.get("SVD float64", math.nan), statistics.median(seconds["tacit"])
    rows = [
        {
            "spectrum": spectrum, "side": side, "rankme": value, "seconds": statistics.median(seconds[side]),
            "error": abs(value / exact - 1), "speedup": statistics.median(seconds[side]) / mine,
        }
        for side, value in values.items()
    ]  # fmt: skip
    rows[0]["peak_mib"] = round(peak, 1)  # of the process so far: true of the first spectrum
    return rows


def verdict(rows: list[dict]) -> str:
    """The ratio against the cheapest SVD that is right."""
    fit = [row for row in rows[1:] if not row["error"] > DEMANDED]
    if not fit:
        return f"{rows[0]['spectrum']}: no SVD to compare with"
    best = min(fit, key=lambda row: row["seconds"])
    which = "the cheapest within 1e-6" if not math.isnan(best["error"]) else "error unknown"
    return f"{rows[0]['spectrum']}: {best['speedup']:.2f} times as fast as the {best['side']} ({which})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=25600)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--spectrum", nargs="+", choices=SPECTRA, default=list(SPECTRA))
    parser.add_argument("--batch", type=int, default=256, help="rows per update")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="SVDs of all rows, in memory")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables = []
    for spectrum in args.spectrum:
        rows = compare(args, spectrum)
        tables.append(rows)
        if not args.json:
            for row in rows:
                peak = f"  {row['peak_mib']:.0f} MiB" if "peak_mib" in row and spectrum == args.spectrum[0] else ""
                print(
                    f"{spectrum:10s} {row['side']:12s} {row['seconds']:7.2f} s  rankme {row['rankme']:10.4f}"
                    f"  error {row['error']:.1e}{peak}"
                )
            print(verdict(rows), flush=True)
    if args.json:
        head = {"rows": args.rows, "width": args.width, "threads": args.threads, "repeats": args.repeats}
        print(json.dumps({**head, "tables": tables, "verdicts": [verdict(rows) for rows in tables]}))


if __name__ == "__main__":
    main()
