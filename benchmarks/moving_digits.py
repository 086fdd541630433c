"""Mean average precision of imagined digits over the coefficients of the regulariser: EB-JEPA's table at reduced scale.

    python benchmarks/moving_digits.py --root runs/digits
    python benchmarks/moving_digits.py --recipe worlds.moving_digits data=moving-digits-file data.path=mnist_test_seq.npy

Trains the recipe once for each pair of std (columns) and cov (rows), evaluates each, prints the table with 95 % intervals over batches of
clips, and writes it as JSON. The same call continues one that was stopped: finished runs are not trained again. Published (Moving MNIST, 50
epochs; rows cov 1, 10, 100): 0.259 0.450 0.492 / 0.448 0.424 0.487 / 0.516 0.607 0.525.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tacit import recipes
from tacit.runs.imagining import evaluate_world_models
from tacit.runs.training import train

PROTOCOL = "digits found, mAP@1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="path=value of the recipe")
    parser.add_argument("--recipe", default="worlds.moving_digits_small")
    parser.add_argument("--std", default="1,10,100")
    parser.add_argument("--cov", default="1,10,100")
    parser.add_argument("--count", type=int, default=128, help="test clips")
    parser.add_argument("--root", type=Path, default=Path("runs/digits"))
    args = parser.parse_args()
    stds, covs = args.std.split(","), args.cov.split(",")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for cov in covs:
        for std in stds:
            given = [f"system.regulariser.variance={std}", f"system.regulariser.covariance={cov}", *args.overrides]
            run = train(recipes.load(args.recipe, given), name=f"std={std},cov={cov}", root=args.root, quiet=True)
            if run.status != "finished":
                raise SystemExit(f"std={std},cov={cov}: {run.status} at step {run.step}")
            rows = evaluate_world_models([run.folder], count=args.count).table.results
            models = {r.model: r for r in rows if r.protocol == PROTOCOL}
            found.setdefault(cov, {})[std] = {
                name: {"value": r.value, "low": r.low, "high": r.high} for name, r in models.items()
            }
            print(f"std {std}, cov {cov}: " + ", ".join(f"{n} {r.value:.3f}" for n, r in models.items()), flush=True)
            args.root.mkdir(parents=True, exist_ok=True)
            (args.root / "map.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    print("\n| cov \\ std | " + " | ".join(stds) + " |\n|" + "---|" * (len(stds) + 1))
    for cov in covs:
        cells = [found[cov][std]["learned model"] for std in stds]
        print(f"| {cov} | " + " | ".join(f"{c['value']:.3f} ({c['low']:.3f} to {c['high']:.3f})" for c in cells) + " |")


if __name__ == "__main__":
    main()
