"""Time and size of a checkpoint the size of a ResNet-18 with its optimiser (AdamW), beside torch.save and torch.load.

    python benchmarks/checkpoint.py [--rounds 7] [--json]

Both sides write to the same folder (--folder, the current one by default: mind the disk behind it) and wait until the bytes are on the
disk. tacit also renames into place and checks every file by its CRC-32 when it reads. Each row says how
much of the time was spent inside fsync, which belongs to the disk (tacit sums up files meanwhile), and, measured apart, what the same
takes with an fsync that does nothing. The sides take turns; numbers are medians, the ratio is that of each round's pair.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torchvision.models import resnet18

from tacit.training import checkpoint, state
from tacit.training.disk import sync


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    system = resnet18()
    optimizer = torch.optim.AdamW(system.parameters(), lr=1e-3)
    system(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    return system, optimizer


def size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@contextlib.contextmanager
def syncing(by: Callable[[int], None]) -> Iterator[None]:
    """Within it, `by` stands in the place of os.fsync."""
    real = os.fsync
    os.fsync = by
    try:
        yield
    finally:
        os.fsync = real


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of `work`, and those of them inside fsync (summed over threads)."""
    real, waited = os.fsync, [0.0]

    def clocked(handle: int) -> None:
        start = time.perf_counter()
        real(handle)
        waited[0] += time.perf_counter() - start

    with syncing(clocked):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start, waited[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    system, optimizer = trained()
    taken: dict[str, list[tuple[float, float, float]]] = {}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        folder, file = Path(root) / "ours", Path(root) / "theirs" / "state.pt"

        def write() -> None:
            whole = {"system": system.state_dict(), "optimizer": state.of_optimizer(optimizer, system)}
            checkpoint.write(folder, 1, checkpoint.whole(whole))

        def read() -> None:
            path = checkpoint.place(folder, 1)
            found = checkpoint.read(path)
            state.load_system(system, found["system"], path)
            state.load_optimizer(optimizer, system, found["optimizer"], path)

        def save() -> None:
            file.parent.mkdir()
            torch.save({"system": system.state_dict(), "optimizer": optimizer.state_dict()}, file)
            sync(file)
            sync(file.parent)

        def load() -> None:
            loaded = torch.load(file, weights_only=True)
            system.load_state_dict(loaded["system"])
            optimizer.load_state_dict(loaded["optimizer"])

        sides = {"tacit": ("write", write, read, folder), "torch": ("save", save, load, file.parent)}
        for turn in range(options.rounds):
            for side in list(sides)[:: 1 if turn % 2 else -1]:  # neither side always goes first
                verb, out, back, place = sides[side]
                with syncing(lambda _: None):
                    rest, _ = timed(out)
                shutil.rmtree(place)
                taken.setdefault(f"{side} {verb}", []).append((*timed(out), rest))
                taken.setdefault(f"{side} read", []).append((*timed(back), 0.0))
                sizes[side] = size(place)
                shutil.rmtree(place)

    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}
    ratios = {
        what: statistics.median(b[k] / a[k] for a, b in zip(taken[mine], taken[theirs], strict=True))
        for what, mine, theirs, k in (
            ("write", "tacit write", "torch save", 0),
            ("write without the waiting", "tacit write", "torch save", 2),
            ("read", "tacit read", "torch read", 0),
        )
    }
    if options.json:
        seconds = {name: dict(zip(("all", "waiting", "rest"), row, strict=True)) for name, row in medians.items()}
        about = {"rounds": options.rounds, "torch": str(torch.__version__)}
        print(json.dumps({**about, "seconds": seconds, "ratios": ratios, "bytes": sizes}))
        return
    for name, (seconds, waiting, rest) in medians.items():
        apart = f", {1e3 * waiting:7.1f} ms waiting for the disk, {1e3 * rest:7.1f} ms without fsync" if rest else ""
        print(f"{name:12s} {1e3 * seconds:8.1f} ms{apart}")
    for what, ratio in ratios.items():
        print(f"{what:26s} tacit {ratio:.2f} times as fast")
    for name, total in sizes.items():
        print(f"{name:12s} {total / 2**20:8.2f} MiB")


if __name__ == "__main__":
    main()
