"""Choosing hyper-parameters by RankMe: what it picks, what labels pick and the best there is, on the same data and elsewhere.

    python benchmarks/rankme_selection.py --data digits --elsewhere glyphs --steps 150 --out rankme [--minutes 4] [--plot docs/rankme.png]

The protocol of arXiv 2210.02885: one axis of one method at a time; of its runs the one of highest RankMe (of the embeddings of the training
samples) is chosen, without labels. Beside it the run that labels pick, which is the best there is on these data; and on other data,
under probes trained there, what both picks reach and what the best run would. Rank correlations have bootstrap intervals over
runs. Resumable: see small.py. One thread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from small import LINEAR, cell, markdown, settled, trained, within
from tacit import recipes
from tacit.reports.correlate import kendall, rank_correlation, spearman

DATA = {"digits": [], "glyphs": ["data=glyphs", "data.count=4000"]}
AXES = {
    ("vicreg", "covariance"): ("system.objective.covariance", (0.01, 0.1, 1.0, 10.0, 100.0)),
    ("vicreg", "rate"): ("optim.lr", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
    ("simclr", "temperature"): ("system.objective.temperature", (0.05, 0.1, 0.2, 0.5, 1.0)),
    ("simclr", "rate"): ("optim.lr", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
    ("dino", "target's temperature"): ("system.objective.target_temperature", (0.02, 0.03, 0.04, 0.06, 0.08)),
    ("dino", "rate"): ("optim.lr", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
}


def runs(folder: Path, data: str, elsewhere: str, steps: int, minutes: float) -> None:
    """Every point of every axis."""
    base = recipes.load("ssl.dcl_digits")
    other = DATA[elsewhere] or [f"data={elsewhere}", "data.channels=3"]
    with within(minutes) as clock:
        for (method, axis), (path, values) in AXES.items():
            own = recipes.load(f"ssl.{method}_digits").change(
                data=base.data, views=base.views, batch=base.batch, optim=base.optim
            )
            for value in values:
                recipe = settled(own, steps, [*DATA[data], f"{path}={value}"])
                name = f"{method}-{axis.replace(' ', '_')}-{value:g}".replace("'", "")
                trained(name, recipe, folder, elsewhere=other, protocols=(LINEAR,), clock=clock)


def points(folder: Path, method: str, axis: str) -> list[tuple[float, dict[str, Any]]]:
    """(value, what was found) of the runs that are there."""
    found = []
    for value in AXES[method, axis][1]:
        path = folder / f"{method}-{axis.replace(' ', '_')}-{value:g}.json".replace("'", "")
        if path.exists():
            found.append((value, json.loads(path.read_text())))
    return found


def report(folder: Path, data: str, elsewhere: str) -> str:
    """The comparison table and the correlations."""
    rows, pooled = [], {"here": ([], []), "elsewhere": ([], [])}
    for method, axis in AXES:
        there = points(folder, method, axis)
        if len(there) < 2:
            continue
        rank = np.array([one["rankme"] for _, one in there])
        here = np.array([one["probes"][LINEAR][0] for _, one in there])
        far = np.array([one["elsewhere"]["probes"][LINEAR][0] for _, one in there])
        by_rank, by_labels, best_far = int(rank.argmax()), int(here.argmax()), int(far.argmax())
        cells = []
        for label, column in (("here", here), ("elsewhere", far)):
            correlation = rank_correlation(rank, column, "Spearman", spearman)
            cells.append(correlation.words().removeprefix("Spearman "))
            pooled[label][0].extend(np.argsort(np.argsort(rank)) / len(rank))
            pooled[label][1].extend(np.argsort(np.argsort(column)) / len(column))
        picks = [f"{there[i][0]:g}: {cell(there[i][1], LINEAR)}" for i in (by_rank, by_labels)]
        reached = [f"{100 * far[i]:.1f}" for i in (by_rank, by_labels, best_far)]
        rows.append([f"{method}, {axis}", str(len(there)), *picks, *reached, *cells])
    if not rows:
        return "No axis has two runs yet.\n"
    head = [
        "axis", "runs", f"RankMe picks ({data})", f"labels pick, the best possible ({data})", f"RankMe's on {elsewhere}",
        f"labels' on {elsewhere}", f"best on {elsewhere}", f"rank correlation, {data}", f"rank correlation, {elsewhere}",
    ]  # fmt: skip
    lines = [markdown(head, rows)]
    for label, (x, y) in pooled.items():
        where = data if label == "here" else elsewhere
        found = [
            rank_correlation(np.array(x), np.array(y), n, f).words()
            for n, f in (("Spearman", spearman), ("Kendall", kendall))
        ]
        lines.append(f"Ranks within each axis, pooled over n = {len(x)} runs, on {where}: {', '.join(found)}.")
    return "\n".join(lines) + "\n"


def plot(folder: Path, data: str, elsewhere: str, path: Path) -> None:
    """Accuracy against RankMe, one panel an axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
    for axes, (method, axis) in zip(panels.flat, AXES, strict=True):
        there = points(folder, method, axis)
        axes.set_title(f"{method}: {axis}", fontsize=9)
        for colour, name, found in (
            ("tab:blue", data, [one for _, one in there]),
            ("tab:orange", elsewhere, [one["elsewhere"] for _, one in there]),
        ):
            for (value, one), probed in zip(there, found, strict=True):
                mid, low, high = (100 * v for v in probed["probes"][LINEAR][:3])
                axes.errorbar(
                    one["rankme"], mid, [[mid - low], [high - mid]], fmt="o", color=colour, markersize=4, elinewidth=0.8
                )
                axes.annotate(f"{value:g}", (one["rankme"], mid), textcoords="offset points", xytext=(4, 3), fontsize=6)
            axes.plot([], [], "o", color=colour, label=f"probe on {name}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(frameon=False, fontsize=7)
    figure.supxlabel(f"RankMe of the embedding of {data}", fontsize=9)
    figure.supylabel("linear probe, %", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="digits", choices=list(DATA))
    parser.add_argument("--elsewhere", default="glyphs", choices=list(DATA))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("rankme"))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further run after this long")
    parser.add_argument("--plot", type=Path, help="write the plot here")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.out / f"{given.data}-{given.elsewhere}-{given.steps}"
    folder.mkdir(parents=True, exist_ok=True)
    if not given.table:
        runs(folder, given.data, given.elsewhere, given.steps, given.minutes)
    text = report(folder, given.data, given.elsewhere)
    (folder / "table.md").write_text(text)
    print(text)
    if given.plot:
        plot(folder, given.data, given.elsewhere, given.plot)


if __name__ == "__main__":
    main()
