"""Time and size of a checkpoint the size of a ResNet-18 with its optimiser (AdamW), beside torch.save and torch.load.

    python benchmarks/checkpoint.py [--rounds 7] [--json]

Both sides write to the same folder and wait until the bytes are on the disk (fsync); tacit also renames into place and checks
every file by its CRC-32 when it reads. The sides take turns; numbers are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    system, optimizer = trained()
    taken: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}

    def clock(name: str, start: float) -> None:
        taken.setdefault(name, []).append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory(dir=os.getcwd()) as root:
        for _ in range(options.rounds):
            folder = Path(root) / "ours"
            start = time.perf_counter()
            whole = {"system": system.state_dict(), "optimizer": state.of_optimizer(optimizer, system)}
            path = checkpoint.write(folder, 1, checkpoint.whole(whole))
            clock("tacit write", start)
            start = time.perf_counter()
            found = checkpoint.read(path)
            state.load_system(system, found["system"], path)
            state.load_optimizer(optimizer, system, found["optimizer"], path)
            clock("tacit read", start)
            sizes["tacit"] = size(folder)
            shutil.rmtree(folder)

            file = Path(root) / "theirs" / "state.pt"
            file.parent.mkdir()
            start = time.perf_counter()
            torch.save({"system": system.state_dict(), "optimizer": optimizer.state_dict()}, file)
            sync(file)
            sync(file.parent)
            clock("torch.save", start)
            start = time.perf_counter()
            loaded = torch.load(file, weights_only=True)
            system.load_state_dict(loaded["system"])
            optimizer.load_state_dict(loaded["optimizer"])
            clock("torch.load", start)
            sizes["torch"] = size(file.parent)
            shutil.rmtree(file.parent)

    medians = {name: statistics.median(times) for name, times in taken.items()}
    if options.json:
        print(
            json.dumps({"rounds": options.rounds, "seconds": medians, "bytes": sizes, "torch": str(torch.__version__)})
        )
        return
    for name, seconds in medians.items():
        print(f"{name:12s} {1e3 * seconds:8.1f} ms")
    for name, total in sizes.items():
        print(f"{name:12s} {total / 2**20:8.2f} MiB")


if __name__ == "__main__":
    main()
