"""Forward and backward of every objective beside lightly's and beside its published arithmetic, in one process on pinned threads.

    python benchmarks/objectives.py [--json results.json] [--size 256x8192 ...] [--only vicreg ...] [--repeats 5] [--threads 1]
    python benchmarks/objectives.py --memory

Embeddings are float32 normal, n samples of d features, and need a gradient. Ours and the peer's are called in turn, once to warm
up and then `repeats` times or until `--budget` seconds are spent on the pair, and the median is printed. Losses of one name are
the same function of the embeddings (lightly's EMP has the other sign of the coding rate, at the same price). 'plain' is what the
authors' code computes, written out in plain_forms.py, and is compared with ours before it is timed.

--memory: the peak of one forward and backward beyond the embeddings and the code, each in a process of its own (the largest resident size
that the system has seen, less the size before the call), of the contrastive losses at 8192 samples, which tile their matrix of pairs, and
of the others where the matrix of features would be large.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from plain_forms import PLAIN
from tacit.core.errors import RecipeError
from tacit.core.parts import parts
from tacit.core.spec import Spec

SIZES = [(n, d) for n in (256, 2048, 4096) for d in (128, 2048, 8192)]
CONTRASTIVE = [
    "simclr",
    "dcl",
    "dclw",
    "simclr-abs",
    "simclr-sq",
    "dcl-sq",
    "supcon",
    "moco-v3",
    "spectral-contrastive",
]
MEMORY = [(8192, 128, CONTRASTIVE)]
MEMORY += [(n, 8192, ["simclr", "vicreg", "barlow-twins", "vibcreg", "mmcr"]) for n in (2048, 4096)]
AIMS = {("vicreg", 256, 8192): 50, ("barlow-twins", 256, 8192): 20, ("simclr", 2048, 128): 3, ("lejepa", 2048, 128): 8}

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def ours(kind: str, d: int) -> Loss:
    settings = {"sub_batch": 2 * d} if kind == "w-mse" else {}
    objective = Spec("objective", kind, **settings).build()
    if "labels" in getattr(objective, "wants", ()):
        return lambda a, b: objective(a, b, labels=torch.arange(len(a)) % 100)["loss"]
    return lambda a, b: objective(a, b)["loss"]


def peers(d: int) -> dict[str, Loss]:
    """lightly's losses by the name of our part, with equal settings; empty without lightly."""
    try:
        from lightly import loss
    except ModuleNotFoundError:
        return {}

    def pair(a: torch.Tensor, b: torch.Tensor) -> tuple[Any, ...]:
        return a, b

    def views(a: torch.Tensor, b: torch.Tensor) -> tuple[Any, ...]:
        return ([a, b],)

    def stacked(a: torch.Tensor, b: torch.Tensor) -> tuple[Any, ...]:
        return (torch.cat([a, b]),)

    def unit(a: torch.Tensor, b: torch.Tensor) -> tuple[Any, ...]:
        return normalize(a, dim=1)[:, None], normalize(b, dim=1)[:, None]

    known: dict[str, tuple[str, dict[str, Any], Any]] = {
        "simclr": ("NTXentLoss", {"temperature": 0.1}, pair),
        "dcl": ("DCLLoss", {"temperature": 0.1}, pair),
        "dclw": ("DCLWLoss", {"temperature": 0.1}, pair),
        "vicreg": ("VICRegLoss", {}, pair),
        "barlow-twins": ("BarlowTwinsLoss", {"lambda_param": 0.0051}, pair),
        "tico": ("TiCoLoss", {"rho": 8}, pair),
        "emp": ("EMPSSLLoss", {}, views),
        "frossl": ("FroSSLLoss", {}, views),
        "mmcr": ("MMCRLoss", {"lmda": 0.0}, unit),
        "w-mse": ("WMSELoss", {"embedding_dim": d, "w_size": 2 * d}, stacked),
        "lejepa": ("LeJEPALoss", {}, None),
        "visreg": ("VISRegLoss", {}, None),
    }
    # losses that this release of lightly lacks are left out
    return {
        kind: called(getattr(loss, name)(**settings), form)
        for kind, (name, settings, form) in known.items()
        if hasattr(loss, name)
    }


def called(loss: Any, form: Callable[..., tuple[Any, ...]] | None) -> Loss:
    """The peer's loss as a function of two views; without `form` it takes local and global views by name."""
    if form is None:
        return lambda a, b: loss(local_proj=a[None], global_proj=b[None])
    return lambda a, b: loss(*form(a, b))


def seconds(losses: dict[str, Loss], n: int, d: int, repeats: int, budget: float) -> dict[str, float]:
    """Median seconds of forward and backward of each loss, called in turn.

    On one thread they are the processor's, so that other processes count less.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    generator = torch.Generator().manual_seed(0)
    a, b = (z.requires_grad_() for z in torch.randn(2, n, d, generator=generator).unbind())
    taken: dict[str, list[float]] = {name: [] for name in losses}
    began = time.perf_counter()
    for repeat in range(-1, repeats):
        if repeat > 0 and time.perf_counter() - began > budget:
            break
        names = list(taken)
        first = repeat % len(names)  # everyone in turn finds the caches that another's large temporaries left cold
        for name in names[first:] + names[:first]:
            a.grad = b.grad = None
            start = clock()
            try:
                losses[name](a, b).backward()
            except RuntimeError as error:
                if "allocate memory" not in str(error):
                    raise
                print(f"  {name} does not fit into memory at this size, so its number is left out")
                del taken[name]
                continue
            if repeat >= 0:
                taken[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def agree(kind: str, losses: dict[str, Loss]) -> None:
    """The published arithmetic and ours are one function."""
    if "plain" in losses:
        found = []
        for name in ("tacit", "plain"):
            torch.manual_seed(1)  # SIGReg draws directions
            a, b = torch.randn(2, 64, 48, generator=torch.Generator().manual_seed(0)).requires_grad_().unbind()
            loss = losses[name](a, b)
            found.append((loss.detach(), *torch.autograd.grad(loss, (a, b))))
        for mine, other in zip(*found, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5, msg=lambda text: f"{kind}: {text}")


def rows(
    n: int, d: int, kinds: list[str], repeats: int, budget: float, skip_plain: bool = False
) -> Iterator[dict[str, Any]]:
    theirs = peers(d)
    for kind in kinds:
        losses = {"tacit": ours(kind, d), **({"lightly": theirs[kind]} if kind in theirs else {})}
        if kind in PLAIN and not skip_plain:
            losses["plain"] = PLAIN[kind]
        try:
            agree(kind, losses)
            found = seconds(losses, n, d, repeats, budget)
        except RecipeError as refusal:  # a size that this objective cannot work at
            print(f"  {kind}: left out, {refusal}")
            continue
        yield {"kind": kind, "n": n, "d": d, **found}


def line(row: dict[str, Any]) -> str:
    text = f"  {row['kind']:<22}{1e3 * row['tacit']:>12,.1f}"
    for name in ("lightly", "plain"):
        text += f"{1e3 * row[name]:>12,.1f}{row[name] / row['tacit']:>9.1f}x" if name in row else f"{'':>22}"
    aim = AIMS.get((row["kind"], row["n"], row["d"]))
    return text.rstrip() + (f"  (aim {aim}x)" if aim else "")


def peak(who: str, kind: str, n: int, d: int) -> float:
    """MiB that one forward and backward adds to this process; called in one of its own."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    loss = ours(kind, d) if who == "tacit" else PLAIN[kind] if who == "plain" else peers(d)[kind]
    a, b = (z.requires_grad_() for z in torch.randn(2, n, d, generator=torch.Generator().manual_seed(0)).unbind())
    small = torch.randn(2, 16, d)
    loss(*(z.requires_grad_() for z in small.unbind())).backward()  # code is loaded at its first call
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    loss(a, b).backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20


def memory(only: list[str] | None) -> Iterator[dict[str, Any]]:
    """Rows of peak memory, each number from a process of its own; what does not fit says so and is left out."""
    for n, d, kinds in MEMORY:
        theirs = peers(8)
        print(
            f"{n} samples of {d} features, float32: MiB beyond the embeddings ({2 * n * d * 4 / 2**20:.0f} for their gradients)"
        )
        print(f"  {'objective':<22}{'tacit':>12}{'lightly':>12}{'less':>10}{'plain':>12}{'less':>10}")
        for kind in [kind for kind in kinds if not only or kind in only]:
            row: dict[str, Any] = {"kind": kind, "n": n, "d": d}
            for who, known in (("tacit", [kind]), ("lightly", theirs), ("plain", PLAIN)):
                if kind in known:
                    command = [sys.executable, __file__, "--peak", who, kind, str(n), str(d)]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode == 0:
                        row[who] = float(done.stdout)
            text = f"  {kind:<22}{row.get('tacit', float('nan')):>12,.0f}"
            for who in ("lightly", "plain"):
                both = {"tacit", who} <= row.keys()
                text += f"{row[who]:>12,.0f}{row[who] / row['tacit']:>9.1f}x" if both else f"{'':>22}"
            print(text.rstrip(), flush=True)
            yield row


def main() -> None:
    known = [part.kind for part in parts("objective") if part.target.startswith("tacit.")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--size", action="append", choices=[f"{n}x{d}" for n, d in SIZES])
    parser.add_argument("--only", action="append", choices=known)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for one objective at one size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--skip-plain", action="store_true", help="leave the published arithmetic out")
    parser.add_argument("--memory", action="store_true", help="peak memory in the place of times")
    parser.add_argument("--peak", nargs=4, metavar=("WHO", "KIND", "N", "D"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        who, kind, n, d = chosen.peak
        print(peak(who, kind, int(n), int(d)))
        return
    warnings.simplefilter("ignore")  # the peer's own
    torch.set_num_threads(chosen.threads)
    if not peers(8):
        print("lightly is not installed, so its column is left out: pip install lightly")
    found: list[dict[str, Any]] = list(memory(chosen.only)) if chosen.memory else []
    for n, d in [] if chosen.memory else SIZES:
        if chosen.size and f"{n}x{d}" not in chosen.size:
            continue
        print(f"{n} samples of {d} features, float32, {chosen.threads} threads: milliseconds, forward and backward")
        print(f"  {'objective':<22}{'tacit':>12}{'lightly':>12}{'tacit is':>10}{'plain':>12}{'tacit is':>10}")
        for row in rows(n, d, chosen.only or known, chosen.repeats, chosen.budget, chosen.skip_plain):
            print(line(row), flush=True)
            found.append(row)
    if chosen.json:
        about = {"threads": chosen.threads, "load": os.getloadavg()[0], "torch": torch.__version__}
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            about["lightly"] = importlib.metadata.version("lightly")
        chosen.json.write_text(json.dumps({**about, "mib" if chosen.memory else "seconds": found}, indent=1))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
