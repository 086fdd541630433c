"""The duality at small scale: tuned SimCLR beside VICReg, and what the output dimension matters before and after tuning.

    python benchmarks/duality.py --steps 150 --out duality [--minutes 4] [--plot docs/duality.png] [--table]

Three stages on coloured letters (`duality.*`), one projector 1024-1024-d. (1) Each loss is tuned at 512 dimensions on a grid of rate and
temperature, or rate and weight of the covariance, by the linear probe, as the paper tunes by labels. (2) The tuned settings, and
SimCLR's and VICReg's own, at d = 64, 256, 1024, 4096, 8192. (3) The tuned settings under further seeds at 512 dimensions.
Resumable: see small.py. One thread; the plot and the table are made of what is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import torch

from small import KNN, Clock, cell, markdown, settled, trained, untrained, within
from tacit import recipes
from tacit.core.recipe import Recipe

LINEAR = "ridge/all@1"  # a second where logistic regression takes as long as training
PROTOCOLS = (KNN, LINEAR)
WIDTHS = (64, 256, 1024, 4096, 8192)
TUNED_AT, SEEDS = 512, (0, 1, 2)
RATES = (1e-3, 3e-3, 1e-2)
GRIDS = {
    "simclr": ("system.objective.temperature", (0.05, 0.15, 0.5)),
    "vicreg": ("system.objective.covariance", (0.1, 1.0, 10.0)),
    "vicreg_exp": ("system.objective.temperature", (0.1, 1.0)),
    "vicreg_ctr": ("system.objective.temperature", (0.1, 1.0)),
}
PUBLISHED = {  # what their papers take, before any tuning for these data
    "simclr": ["system.objective.temperature=0.5"],
    "vicreg": ["system.objective.covariance=1.0"],
}
NAMES = {"simclr": "SimCLR", "vicreg": "VICReg", "vicreg_exp": "VICReg-exp", "vicreg_ctr": "VICReg-ctr"}


class Study:
    """What is trained and where it is kept."""

    def __init__(self, folder: Path, steps: int, clock: Clock) -> None:
        self.folder, self.steps, self.clock = folder, steps, clock

    def recipe(self, method: str, overrides: list[str], width: int, seed: int = 0) -> Recipe:
        widths = f"system.projector.widths=[1024, 1024, {width}]"
        return settled(recipes.load(f"duality.{method}"), self.steps, [*overrides, widths, f"seed={seed}"])

    def run(self, name: str, recipe: Recipe) -> dict[str, Any]:
        return trained(name, recipe, self.folder, protocols=PROTOCOLS, clock=self.clock)

    def tune(self, method: str) -> list[str]:
        """The overrides of the best point of the grid."""
        path, values = GRIDS[method]
        found = {}
        for rate, value in itertools.product(RATES, values):
            overrides = [f"optim.lr={rate}", f"{path}={value}"]
            name = f"tune-{method}-lr{rate:g}-{value:g}"
            found[name] = (self.run(name, self.recipe(method, overrides, TUNED_AT)), overrides)
        best = max(found.values(), key=lambda one: one[0]["probes"][LINEAR][0])[1]
        (self.folder / f"best-{method}.txt").write_text("\n".join(best))
        return best

    def everything(self, methods: list[str]) -> None:
        untrained("untrained", self.recipe("simclr", [], TUNED_AT), self.folder, PROTOCOLS)
        best = {method: self.tune(method) for method in methods}
        for width in WIDTHS:
            for method in (m for m in methods if m in PUBLISHED):
                self.run(f"width-{method}-tuned-{width}", self.recipe(method, best[method], width))
                self.run(f"width-{method}-published-{width}", self.recipe(method, PUBLISHED[method], width))
        for method, seed in itertools.product(methods, SEEDS):
            self.run(f"seed-{method}-{seed}", self.recipe(method, best[method], TUNED_AT, seed))


def report(folder: Path, steps: int) -> str:
    """The tables of what is there."""
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    if "untrained" not in kept:
        return "Nothing has finished yet.\n"
    some = kept["untrained"]
    text = [
        f"Linear probe on {some['probes'][LINEAR][3]} test letters, {steps} steps of 128; in brackets 95 % intervals (Wilson).",
        f"Untrained encoder: linear {cell(some, LINEAR)}, k-NN {cell(some, KNN)}.",
    ]
    rows = []
    for method, name in NAMES.items():
        tried = {stem: one for stem, one in kept.items() if stem.startswith(f"tune-{method}-lr")}
        if not tried:
            continue
        path, values = GRIDS[method]
        best = max(tried, key=lambda stem: tried[stem]["probes"][LINEAR][0])
        rate, value = best.removeprefix(f"tune-{method}-lr").rsplit("-", 1)
        seeds = [kept[f"seed-{method}-{seed}"] for seed in SEEDS if f"seed-{method}-{seed}" in kept]
        spread = ", ".join(cell(one, LINEAR, interval=False) for one in seeds) or "not run"
        whole = len(RATES) * len(values)
        setting = f"rate {rate}, {path.rpartition('.')[2]} {value}"
        rows.append(
            [name, f"{len(tried)} of {whole}", setting, cell(kept[best], LINEAR), f"{kept[best]['rankme']:.0f}", spread]
        )
    text.append(
        markdown(
            ["loss", "points tried", "best", f"linear at d = {TUNED_AT}", "RankMe", "linear under seeds 0, 1, 2"], rows
        )
    )
    rows = []
    for method, which in itertools.product(PUBLISHED, ("published", "tuned")):
        cells = [kept.get(f"width-{method}-{which}-{width}") for width in WIDTHS]
        if any(cells):
            rows.append(
                [
                    f"{NAMES[method]}, {which} settings",
                    *("" if c is None else cell(c, LINEAR, interval=False) for c in cells),
                ]
            )
    text.append(markdown(["linear at d =", *map(str, WIDTHS)], rows) if rows else "No width has finished yet.\n")
    return "\n\n".join(text)


def plot(folder: Path, path: Path) -> None:
    """Accuracy over the output dimension."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for method, colour in (("simclr", "tab:blue"), ("vicreg", "tab:orange")):
        for which, style in (("tuned", "-o"), ("published", "--o")):
            points = []
            for width in WIDTHS:
                kept = folder / f"width-{method}-{which}-{width}.json"
                if kept.exists():
                    points.append((width, *json.loads(kept.read_text())["probes"][LINEAR][:3]))
            if points:
                x, y, low, high = (list(column) for column in zip(*points, strict=True))
                face = colour if which == "tuned" else "white"
                axes.plot(
                    x,
                    [100 * v for v in y],
                    style,
                    color=colour,
                    markerfacecolor=face,
                    label=f"{NAMES[method]}, {which}",
                )
                axes.fill_between(
                    x, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.1, linewidth=0
                )
    axes.set_xscale("log", base=2)
    axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    axes.set_xlabel("output dimension of the projector")
    axes.set_ylabel("linear probe, %")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("duality"))
    parser.add_argument("--methods", nargs="*", default=["simclr", "vicreg"], choices=list(GRIDS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further run after this long")
    parser.add_argument("--plot", type=Path, help="write the plot here")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.out / f"{given.steps}"
    folder.mkdir(parents=True, exist_ok=True)
    if not given.table:
        with within(given.minutes) as clock:
            Study(folder, given.steps, clock).everything(given.methods)
    text = report(folder, given.steps)
    (folder / "table.md").write_text(text)
    print(text)
    if given.plot:
        plot(folder, given.plot)


if __name__ == "__main__":
    main()
