"""The duality at small scale: tuned SimCLR beside VICReg, and what the output dimension matters before and after tuning.

    python benchmarks/duality.py --steps 400 --batch 256 --out duality [--device cuda] [--minutes 4] [--plot docs/duality.png] [--table]

Four stages on coloured letters (`duality.*`), one projector 1024-1024-d. (1) Each loss is tuned at 512 dimensions: a grid of nine, rate by
temperature or by weight of the covariance, then the neighbours of the best point until none is better (VICReg: also along the weight of
the invariance), by the linear probe of a fifth of the training letters, which was held out. (2) The tuned settings under three seeds at
512 and (3) at d = 64, 256, 1024, 4096, 8192, on the test letters; `--stage published` does SimCLR's and VICReg's own settings at those
widths, so that several processes may share the work. (4) At each width the tuned point competes with one step down along its rate and one
along its weight (or temperature), by the held-out letters again: what is best at 512 need not be at 8192.
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
from tacit.ops.intervals import t_interval

LINEAR = "ridge/all@1"  # a second where logistic regression takes as long as training
PROTOCOLS = (KNN, LINEAR)
WIDTHS = (64, 256, 1024, 4096, 8192)
TUNED_AT, SEEDS = 512, (0, 1, 2)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TEMPERATURES = (0.02, 0.05, 0.15, 0.5, 1.5, 5.0)
AXES: dict[
    str, list[tuple[str, tuple[float, ...], int]]
] = {  # path, values, and where the search begins; the rate comes before them, and of a third axis one neighbour is tried at a time
    "simclr": [("system.objective.temperature", TEMPERATURES, 2)],
    "vicreg": [
        ("system.objective.covariance", (1e-3, 0.01, 0.1, 1.0, 10.0, 100.0), 3),
        ("system.objective.invariance", (1.0, 5.0, 25.0, 125.0), 2),
    ],
    "vicreg_exp": [("system.objective.temperature", TEMPERATURES, 2)],
    "vicreg_ctr": [("system.objective.temperature", TEMPERATURES, 2)],
}
MOST = 16  # points of one loss
SAID = {"published": "published settings", "tuned": f"tuned at {TUNED_AT}", "each": "tuned at each"}
PUBLISHED = {  # what their papers take, before any tuning for these data
    "simclr": ["system.objective.temperature=0.5"],
    "vicreg": ["system.objective.covariance=1.0"],
}
NAMES = {"simclr": "SimCLR", "vicreg": "VICReg", "vicreg_exp": "VICReg-exp", "vicreg_ctr": "VICReg-ctr"}


def around(point: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The point and its eight neighbours along the first two axes, then one step either way along each of the others."""
    first = [(point[0] + i, point[1] + j, *point[2:]) for i, j in itertools.product((-1, 0, 1), (-1, 0, 1))]
    rest = [(*point[:k], point[k] + i, *point[k + 1 :]) for k in range(2, len(point)) for i in (-1, 1)]
    return [*first, *rest]


class Study:
    """What is trained and where it is kept."""

    def __init__(self, folder: Path, steps: int, clock: Clock, *, batch: int = 128, device: str = "cpu") -> None:
        self.folder, self.steps, self.clock, self.batch, self.device = folder, steps, clock, batch, device

    def recipe(self, method: str, overrides: list[str], width: int, seed: int = 0) -> Recipe:
        widths = f"system.projector.widths=[1024, 1024, {width}]"
        more = [*overrides, widths, f"seed={seed}", f"batch={self.batch}"]
        return settled(recipes.load(f"duality.{method}"), self.steps, more, self.device)

    def run(self, name: str, recipe: Recipe, choosing: bool = False) -> dict[str, Any]:
        return trained(name, recipe, self.folder, protocols=PROTOCOLS, clock=self.clock, choosing=choosing)

    def tune(self, method: str) -> list[str]:
        """The overrides of the best point: a grid of nine, then all neighbours of the best until none of them is better."""
        axes = [("optim.lr", RATES, 2), *AXES[method]]
        begin = tuple(axis[2] for axis in axes)
        tried: dict[tuple[int, ...], float] = {}

        def settings(point: tuple[int, ...]) -> list[str]:
            return [f"{path}={values[i]}" for (path, values, _), i in zip(axes, point, strict=True)]

        left = around(begin)[:9]
        while left:
            for point in left[: MOST - len(tried)]:
                values = [axes[k][1][i] for k, i in enumerate(point)]
                name = "-".join([f"tune-{method}", *(f"{value:g}" for value in values)])
                found = self.run(name, self.recipe(method, settings(point), TUNED_AT), choosing=True)
                tried[point] = found["probes"][LINEAR][0]
            best = max(tried, key=lambda point: tried[point])
            inside = [p for p in around(best) if all(0 <= i < len(axes[k][1]) for k, i in enumerate(p))]
            left = [p for p in inside if p not in tried] if len(tried) < MOST else []
        return settings(best)

    def tuned(self, methods: list[str]) -> None:
        """The search, its point under three seeds, and that point at every dimension."""
        best = {method: self.tune(method) for method in methods}
        for method, seed in itertools.product(methods, SEEDS):
            self.run(f"seed-{method}-{seed}", self.recipe(method, best[method], TUNED_AT, seed))
        for method, width in itertools.product(methods, WIDTHS):
            self.run(f"width-{method}-tuned-{width}", self.recipe(method, best[method], width))

    def each(self, methods: list[str]) -> None:
        """Tuned once more at every dimension: the tuned point, or one step down along its rate or its weight (or temperature)."""
        for method, width in itertools.product(methods, WIDTHS):
            points = [self.tune(method)]
            for k, (path, values, _) in enumerate([("optim.lr", RATES, 2), *AXES[method]][:2]):
                at = values.index(float(points[0][k].partition("=")[2]))
                points += [[*points[0][:k], f"{path}={values[at - 1]}", *points[0][k + 1 :]]] if at else []
            held = [
                self.run(f"each-{method}-{width}-{i}", self.recipe(method, point, width), choosing=True)["probes"][
                    LINEAR
                ][0]
                for i, point in enumerate(points)
            ]
            self.run(f"width-{method}-each-{width}", self.recipe(method, points[held.index(max(held))], width))

    def published(self, methods: list[str]) -> None:
        """Their papers' settings over the dimensions."""
        for width, method in itertools.product(WIDTHS, methods):
            if method in PUBLISHED:
                self.run(f"width-{method}-published-{width}", self.recipe(method, PUBLISHED[method], width))

    def untrained(self) -> None:
        """The encoder with its first weights."""
        untrained("untrained", self.recipe("simclr", [], TUNED_AT), self.folder, PROTOCOLS)


def report(folder: Path, steps: int, batch: int) -> str:
    """The tables of what is there."""
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    if "untrained" not in kept:
        return "Nothing has finished yet.\n"
    some = kept["untrained"]
    held = next((one["probes"][LINEAR][3] for stem, one in kept.items() if stem.startswith("tune-")), 0)
    text = [
        f"Linear probe (ridge) on {some['probes'][LINEAR][3]} test letters, {steps} steps of {batch}; tuning looks at {held} held-out "
        "training letters. In brackets 95 % intervals: Wilson over letters, Student's t over seeds.",
        f"Untrained encoder: linear {cell(some, LINEAR)}, k-NN {cell(some, KNN)}.",
    ]
    rows = []
    for method, name in NAMES.items():
        tried = {stem: one for stem, one in kept.items() if stem.startswith(f"tune-{method}-")}
        if not tried:
            continue
        best = max(tried, key=lambda stem: tried[stem]["probes"][LINEAR][0])
        values = best.removeprefix(f"tune-{method}-").split("-")
        names = ["rate", *(path.rpartition(".")[2] for path, _, _ in AXES[method])]
        seeds = [kept[f"seed-{method}-{seed}"] for seed in SEEDS if f"seed-{method}-{seed}" in kept]
        spread = ", ".join(cell(one, LINEAR, interval=False) for one in seeds) or "not run"
        if len(seeds) > 1:
            middle, low, high = (100 * float(x) for x in t_interval([one["probes"][LINEAR][0] for one in seeds]))
            spread += f": {middle:.1f} [{low:.1f}, {high:.1f}]"
        setting = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
        ranks = f"{seeds[0]['rankme']:.0f}" if seeds else ""
        rows.append([name, str(len(tried)), setting, cell(kept[best], LINEAR), spread, ranks])
    head = [
        "loss",
        "points tried",
        "best",
        "held-out letters there",
        f"test letters, d = {TUNED_AT}, seeds 0, 1, 2",
        "RankMe",
    ]
    text.append(markdown(head, rows))
    rows = []
    for method, which in itertools.product(PUBLISHED, ("published", "tuned", "each")):
        cells = [kept.get(f"width-{method}-{which}-{width}") for width in WIDTHS]
        if any(cells):
            rows.append(
                [
                    f"{NAMES[method]}, {SAID[which]}",
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
        for which, style in (("tuned", ":o"), ("published", "--o"), ("each", "-o")):
            points = []
            for width in WIDTHS:
                kept = folder / f"width-{method}-{which}-{width}.json"
                if kept.exists():
                    points.append((width, *json.loads(kept.read_text())["probes"][LINEAR][:3]))
            if points:
                x, y, low, high = (list(column) for column in zip(*points, strict=True))
                face = "white" if which == "published" else colour
                axes.plot(
                    x,
                    [100 * v for v in y],
                    style,
                    color=colour,
                    markerfacecolor=face,
                    label=f"{NAMES[method]}, {SAID[which]}",
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
    parser.add_argument("--methods", nargs="*", default=["simclr", "vicreg"], choices=list(AXES))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further run after this long")
    parser.add_argument("--plot", type=Path, help="write the plot here")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda")
    parser.add_argument("--stage", default="all", choices=["all", "tuned", "published", "each"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.out / f"{given.steps}x{given.batch}"
    folder.mkdir(parents=True, exist_ok=True)
    if not given.table:
        with within(given.minutes) as clock:
            study = Study(folder, given.steps, clock, batch=given.batch, device=given.device)
            study.untrained()
            for stage in ("tuned", "published", "each"):
                if given.stage in (stage, "all"):
                    getattr(study, stage)(given.methods)
    text = report(folder, given.steps, given.batch)
    (folder / f"table{'' if given.stage == 'all' else '-' + '-'.join([given.stage, *given.methods])}.md").write_text(
        text
    )
    print(text)
    if given.plot:
        plot(folder, given.plot)


if __name__ == "__main__":
    main()
