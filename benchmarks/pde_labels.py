"""Coefficients from few labels: the learned representation beside supervised training, no training, simple statistics, a constant.

    python benchmarks/pde_labels.py pde.ks_small --factors viscosity [--labels 200 50 20 10] [--seeds 3] [--root runs]
    python benchmarks/pde_labels.py pde.ks_small --factors viscosity --use none time shift galilei all

Trains the recipe with several seeds, then regresses on the test split under few labels, drawn five times and the same for every
model. A representation's number is the mean over draws, its interval (Student's t) over the seeds of training; the others have theirs
over draws (supervised training: three, each with weights of its own, on the same factors, as many steps as the run). Differences are
paired by draw, the representation averaged over its seeds. With --use each symmetry is left by itself, one table. Runs that are there are
taken as they are: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
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

MACHINE = Machine(device="cpu", threads=1, trackers=())
TASKS = ("plain", "crops")
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
        print(f"{folder.name}, seed {recipe.seed}: {time.process_time() - begun:.0f} processor seconds", flush=True)
    return folder


def probed(folder: Path, options: argparse.Namespace, baselines: bool, tasks: tuple[str, ...]) -> Records:
    """The rows of a run; from its folder where they were kept."""
    parts = []
    for labels in options.labels:
        place = (
            folder / "labels" / "-".join([str(labels), *tasks, *options.factors, "beside" if baselines else "alone"])
        )
        if not any(place.rglob("*.parquet")):
            protocols = [f"linear/{labels}-labels@1"]
            found = regress(
                targets.load(folder), seeds=5, protocols=protocols, only=options.factors, baselines=baselines, tasks=tasks,
                keep=False,
            )  # fmt: skip
            write_records(place, found.records)
        parts.append(read_records(place / "results"))
    return Records.joined(parts)


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


def tables(runs: list[Records]) -> str:
    """One row a task, protocol and factor."""
    first, ours = errors(runs[0]), [errors(rows)["trained"] for rows in runs]
    models = [m for m in ("supervised", "untrained", "statistics", "constant") if m in first]
    lines = ["| task, labels | coefficient | trained | " + " | ".join(models) + " | trained - supervised |"]
    lines.append("|---" * (len(models) + 4) + "|")
    for key in ours[0]:
        task, protocol, factor = key
        by_draw = np.mean([cells[key] for cells in ours], axis=0)
        row = [f"{task}, {protocol.partition('/')[2].partition('-')[0]}", factor]
        row.append(said(np.array([cells[key].mean() for cells in ours])))
        row += [said(first[model][key]) for model in models]
        other = first.get("supervised", {}).get(key)
        if other is not None:
            d = paired_interval(by_draw[: len(other)], other)
            row.append(f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="path=value")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--factors", nargs="+", required=True, help="regress these, and train supervised on them alone")
    parser.add_argument("--labels", nargs="+", type=int, default=[200, 50, 20, 10])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--use", nargs="+", default=[], help="ablation: symmetries of the views, one run each and seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = recipes.load(options.recipe, options.overrides).change(machine=MACHINE)
    if options.use:
        names = [(k, f) for k in options.labels for f in options.factors]
        print(
            "| symmetry | "
            + " | ".join(f"{f}, {k} labels" for k, f in names)
            + " |\n"
            + "|---" * (len(names) + 1)
            + "|"
        )
        for use in options.use:
            views, runs = base.views.change(use=use), []
            for seed in range(options.seeds):
                folder = trained(base.change(views=views, seed=seed), options.root)
                runs.append(errors(probed(folder, options, False, ("plain",)))["trained"])
            cells = [said(np.array([run["plain", f"linear/{k}-labels@1", f].mean() for run in runs])) for k, f in names]
            print(f"| {use} | " + " | ".join(cells) + " |", flush=True)
        return
    folders = [trained(base.change(seed=s), options.root) for s in range(options.seeds)]
    print(tables([probed(f, options, i == 0, tuple(options.tasks)) for i, f in enumerate(folders)]))


if __name__ == "__main__":
    main()
