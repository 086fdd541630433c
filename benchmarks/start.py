"""Cold start: seconds from the shell to the answer, beside what importing torch alone costs.

    python benchmarks/start.py [--rounds 10] [--json FILE]

Each line is a fresh interpreter; medians of wall-clock seconds, after one start to fill the disk's caches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = {
    "python alone": ["-c", "pass"],
    "import tacit": ["-c", "import tacit"],
    "tacit --help": ["-m", "tacit", "--help"],
    "tacit recipes list": ["-m", "tacit", "recipes", "list"],
    "tacit parts list": ["-m", "tacit", "parts", "list"],
    "import torch": ["-c", "import torch"],
    "import lightning": ["-c", "import lightning"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for turn in range(given.rounds + 1):
        for name, words in CASES.items():
            start = time.perf_counter()
            done = subprocess.run([sys.executable, *words], capture_output=True, check=False)
            if done.returncode == 0 and turn:
                seconds[name].append(time.perf_counter() - start)
    found = {name: statistics.median(values) for name, values in seconds.items() if values}
    for name in CASES:
        print(
            f"{name:20s} {found[name]:6.3f} s"
            if name in found
            else f"{name:20s} not installed: pip install 'tacit[bench]'"
        )
    if given.json:
        given.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
