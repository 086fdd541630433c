"""Coefficients from few labels: the learned representation beside supervised training, no training, simple statistics, a constant.

    python benchmarks/pde_labels.py pde.ks_small --factors viscosity [--labels 10 50 200 all] [--seeds 3] [--root runs] [--device cuda]
    python benchmarks/pde_labels.py pde.kdv_small --factors mode_1 mode_2 --tasks plain crops range family --labels all
    python benchmarks/pde_labels.py pde.ks_small --factors viscosity --use none time shift galilei all
    python benchmarks/pde_labels.py pde.kdv_small --factors mode_1 mode_2 --choose steps=800 "steps=2000 views.crop=[24,64]"

Trains the recipe with several seeds, then regresses on the test split under few labels, drawn five times and the same for every
model. A representation's number is the mean over draws, its interval (Student's t) over the seeds of training; the others have theirs
over draws (supervised training: three, each with weights of its own, on the same factors, as many steps as the run). Differences are
paired by draw, the representation averaged over its seeds. All labels are one draw, and those of the tasks range and family. With
--choose the recipe is first the one of these changes that leaves least unexplained on the valid split (first seed, 50 labels, mean
over factors). With --use each symmetry is left by itself, one table. Runs that are there are taken as they are: the same command goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from tacit import recipes
from tacit.core.recipe import Machine, Recipe, digest, resolve
from tacit.ops.intervals import paired_interval, t_interval
from tacit.probing import Records, read_records, write_records
from tacit.runs import target as targets
from tacit.runs.build import build
from tacit.runs.regressing import regress
from tacit.training.loop import fit

MODELS = ("supervised", "statistics", "untrained", "constant")
TASKS = ("plain", "crops", "range", "family")
Cells = dict[tuple[str, str, str], np.ndarray]
"""(task, protocol, factor) -> share of variance left unexplained, [draws]."""


def trained(recipe: Recipe, root: Path) -> Path:
    """The folder of this run, trained to its end unless it was before."""
    resolved = resolve(recipe)
    folder = root / "pde" / digest(resolved)
    state = folder / "state.json"
    if not state.is_file() or json.loads(state.read_text())["status"] != "finished":
        begun = time.process_time()
        built = build(resolved)
        if fit(resolved, built.system, built.source, built.views, folder).status != "finished":
            raise SystemExit(f"stopped, {folder} is saved: the same command goes on from there")
        print(
            f"{folder.name}, seed {recipe.seed}: {time.process_time() - begun:.0f} processor seconds",
            file=sys.stderr,
            flush=True,
        )
    return folder


def protocol(labels: str) -> str:
    """The name of ridge from so many labels, or from 'all'."""
    return "linear/all@1" if labels == "all" else f"linear/{int(labels)}-labels@1"


def probed(
    folder: Path,
    options: argparse.Namespace,
    labels: str,
    tasks: tuple[str, ...] = ("plain",),
    baselines: bool = False,
    split: str = "test",
) -> Records:
    """The rows of a run under so many labels; from its folder where they were kept."""
    tasks = tuple(task for task in tasks if task in ("plain", "crops") or labels == "all")
    beside = "beside" if baselines else "alone"
    place = folder / "labels" / "-".join([split, labels, *tasks, *options.factors, beside])
    if not any(place.rglob("*.parquet")):
        found = regress(
            targets.load(folder), seeds=5, protocols=[protocol(labels)], only=options.factors, baselines=baselines,
            tasks=tasks, keep=False, split=split,
        )  # fmt: skip
        write_records(place, found.records)
    return read_records(place / "results")


def unexplained(folder: Path, options: argparse.Namespace, labels: str, split: str = "test") -> list[float]:
    """Of each factor, on the first crops, mean over draws."""
    cells = errors(probed(folder, options, labels, split=split))["trained"]
    return [float(cells["plain", protocol(labels), factor].mean()) for factor in options.factors]


def chosen(base: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with those changes that are best on validation trajectories."""
    found = []
    for changes in options.choose:
        recipe = recipes.load(base, changes.split())
        found.append((float(np.mean(unexplained(trained(recipe, options.root), options, "50", "valid"))), changes))
        print(f"valid, 50 labels: {found[-1][0]:.3f} with {changes}", flush=True)
    print(f"chosen: {min(found)[1]}", flush=True)
    return recipes.load(base, min(found)[1].split())


def errors(rows: Records) -> dict[str, Cells]:
    """model -> cells: mean square error over the variance of the factor on the test items, by draw of the labels."""
    found: dict[str, Cells] = {}
    for (model, bench, protocol, factor), part in rows.groups("model", "benchmark", "protocol", "group").items():
        answer = np.array([float(a) for a in part.column("answer").to_pylist()])
        seed, score = part.table["seed"].to_numpy(), part.table["score"].to_numpy()
        draws = np.unique(seed)
        cell = np.array([score[seed == s].mean() / answer[seed == s].var() for s in draws])
        found.setdefault(model, {})[bench.partition("@")[0].rpartition("/")[2], protocol, factor] = cell
    return found


def said(values: np.ndarray) -> str:
    """'0.012 [0.010, 0.014]', or the number alone where there is one."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    at = t_interval(values)
    return f"{at.value:.3f} [{at.low:.3f}, {at.high:.3f}]"


def rows(runs: list[Records]) -> list[str]:
    """One row a task and factor; of the runs all but the first are without the other models."""
    first, ours = errors(runs[0]), [errors(records)["trained"] for records in runs]
    found = []
    for key in ours[0]:
        task, name, factor = key
        by_draw = np.mean([cells[key] for cells in ours], axis=0)
        row = [f"{task}, {name.partition('/')[2].partition('-')[0].partition('@')[0]}", factor]
        row.append(said(np.array([cells[key].mean() for cells in ours])))
        row += [said(first[model][key]) for model in MODELS]
        other = first["supervised"][key]
        if len(other) < 2:
            row.append(f"{(by_draw - other).mean():+.3f}")
        else:
            d = paired_interval(by_draw[: len(other)], other)
            row.append(f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
        found.append("| " + " | ".join(row) + " |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="path=value")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--factors", nargs="+", required=True, help="regress these, and train supervised on them alone")
    parser.add_argument("--labels", nargs="+", default=["10", "50", "200"], help="numbers, or all")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["plain", "crops"])
    parser.add_argument("--choose", nargs="+", default=[], metavar="CHANGES", help="'path=value path=value', several")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--use", nargs="+", default=[], help="ablation: symmetries of the views, one run each and seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = recipes.load(options.recipe, options.overrides).change(
        machine=Machine(device=options.device, threads=1, trackers=())
    )
    held = [base.data.change(split=split).build() for split in ("train", "test")]  # what is solved is solved once
    if options.choose:
        base = chosen(base, options)
    if options.use:
        names = [f"{factor}, {labels} labels" for labels in options.labels for factor in options.factors]
        print("| symmetry | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|", flush=True)
        for use in options.use:
            views, found = base.views.change(use=use), []
            for seed in range(options.seeds):
                folder = trained(base.change(views=views, seed=seed), options.root)
                found.append([e for labels in options.labels for e in unexplained(folder, options, labels)])
            print(f"| {use} | " + " | ".join(said(cell) for cell in np.array(found).T) + " |", flush=True)
        return
    folders = [trained(base.change(seed=s), options.root) for s in range(options.seeds)]
    print("| task, labels | coefficient | trained | " + " | ".join(MODELS) + " | trained - supervised |")
    print("|---" * (len(MODELS) + 4) + "|", flush=True)
    for labels in options.labels:
        found = rows([probed(folder, options, labels, options.tasks, k == 0) for k, folder in enumerate(folders)])
        print("\n".join(found), flush=True)
    del held


if __name__ == "__main__":
    main()
