"""Does a stepper step better if it is told the equation? Encoder, steppers, seeds, table and plot by one command.

    python benchmarks/stepping.py [--recipe stepping.burgers_small] [--seeds 3] [--steps 600] [--encoder-steps 1500] [--device cuda]
                                  [--plot docs/stepping.png]

Also stepping.ks_small (viscosity), kdv_small (amplitudes of the start) and navier_stokes_small (buoyancy). An encoder is trained
without labels on the trajectories of the recipe (VICReg, Lie symmetries, crops shorter than a line); the first frames of a trajectory
are its context, and no stepper predicts those. A ridge probe says what the encoder knows of the coefficients. Runs that are finished
are taken as they are, so the command can be stopped and started again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from tacit import recipes
from tacit.core.protocols import Source
from tacit.core.recipe import Checks, Machine, Recipe, digest, resolve
from tacit.core.spec import Spec, plain
from tacit.models.features import POOLED
from tacit.probing import fit_regression
from tacit.runs import target as targets
from tacit.runs.build import build, export
from tacit.runs.regression_tasks import factors
from tacit.runs.stepping import evaluate_steppers
from tacit.training.loop import fit

KINDS = ("none", "untrained", "representation", "coefficient")
_LINE = {"time": 1.0, "scale": 0.0}
VIEWS = {  # of the encoder: its crop of frames is the context, all of space in place of a part of it
    "burgers": Spec("views", "lie-line", equation="burgers", crop=(16, 32), length=6.283, time=0.2, galilei=0.2, scale=0.05,
                    projective=0.02, unit=(1.0, 3.0, 2.0)),
    "ks": Spec("views", "lie-line", equation="ks", crop=(16, 32), length=32.0, galilei=0.4, unit=(1.0, 16.0, 20.0), **_LINE),
    "kdv": Spec("views", "lie-line", equation="kdv", crop=(20, 64), length=64.0, galilei=0.2, unit=(1.0, 32.0, 20.0), **_LINE),
    "smoke": Spec("views", "lie-plane", crop=(8, 32, 32), unit=(16.0, 20.0, 0.5)),
}  # fmt: skip


def encoder(data: Spec, views: Spec, count: int, steps: int, machine: Machine) -> Recipe:
    """A small convolutional network on pictures of a few frames."""
    return Recipe(
        system=Spec(
            "system", "joint-embedding",
            encoder=Spec("encoder", "convnet", widths=(16, 32, 64, 128)),
            projector=Spec("head", "mlp", widths=(256, 256, 256)),
            objective=Spec("objective", "vicreg"),
        ),
        data=data.change(count=count, held_out=256),
        views=views,
        optim=Spec(
            "optimizer", "adamw", lr=1e-3, weight_decay=1e-6, schedule=Spec("schedule", "cosine", warmup=0.05)
        ),
        steps=steps,
        batch=64,
        checks=Checks(judge_every=0, save_every=500),
        machine=machine,
    )  # fmt: skip


def context_of(views: Spec) -> Spec:
    """The same frames, all of space."""
    return views.change(crop=(views["crop"][0], *(0 for _ in views["crop"][1:])))


def known(run: Path, context: Spec, names: tuple[str, ...]) -> str:
    """What ridge reads of the coefficients from the encoder, and from its first weights, on other trajectories."""
    found = targets.load(run)
    train, test = found.source("train"), found.source("test")
    y = {split: factors(source) for split, source in (("train", train), ("test", test))}
    seen = context.build(train.facts)
    parts = []
    for name, model in (("trained", found), ("untrained", targets.untrained(found))):
        z = [dataclasses.replace(model, views=seen).features(s).layers[POOLED] for s in (train, test)]
        for factor in names:
            error = (fit_regression(z[0], y["train"][factor])(z[1])[:, 0] - y["test"][factor]).square().mean()
            parts.append(f"{factor} {name} {float(error / y['test'][factor].var()):.3f}")
    return "share of the variance that ridge leaves unexplained from the context: " + ", ".join(parts)


def finished(recipe: Recipe, name: str, root: Path, source: Source) -> Path:
    """The folder of this very experiment, trained now, or to its end, unless it was before."""
    resolved = resolve(recipe)
    folder = root / name / digest(resolved)
    state = folder / "state.json"
    if not state.is_file() or json.loads(state.read_text())["status"] != "finished":
        start = time.perf_counter()
        built = build(resolved, source)
        if fit(resolved, built.system, source, built.views, folder).status != "finished":
            raise SystemExit(f"stopped, {folder} is saved: the same command goes on from there")
        export(built, folder)
        print(f"{name}, seed {recipe.seed}: {time.perf_counter() - start:.0f} s", flush=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--recipe", default="stepping.burgers_small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--encoder-steps", type=int, default=1500)
    parser.add_argument("--encoder-count", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--test", type=int, default=128)
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE", help="changes of the stepping recipe")
    parser.add_argument("--encoder", type=Path, help="a trained run or export, in place of training one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = Machine(device=options.device, threads=1, trackers=())
    base = recipes.load(options.recipe, [f"steps={options.steps}", *options.set]).change(machine=machine)
    views = VIEWS[base.data["world"].kind]
    context, read = context_of(views), options.encoder
    if read is None and {"untrained", "representation"} & set(options.kinds):
        recipe = encoder(base.data, views, options.encoder_count, options.encoder_steps, machine)
        held = recipe.data.build()  # while it lives, what was solved is solved once
        read = finished(recipe, "encoder", options.root, held)
        print(known(read, context, base.system["coefficients"]), flush=True)
    source, folders = base.data.build(), []
    for seed in range(options.seeds):
        for kind in options.kinds:
            settings: dict[str, Any] = {"condition": kind}
            given = base.views
            if kind in ("untrained", "representation"):
                settings |= {"representation": str(read), "bottleneck": 8}
                given = given.change(context=context)
            recipe = base.change(system=base.system.change(**settings), views=given, seed=seed)
            folders.append(finished(recipe, f"stepping-{kind}", options.root, source))
        if seed in (0, options.seeds - 1):  # the first is a table too, should the rest be stopped
            stepped = evaluate_steppers(folders, count=options.test)
            print(stepped.text(), flush=True)
    print("recipe of the steppers:", json.dumps(plain(base.system)), flush=True)
    if options.plot and base.views.kind != "lead-times":
        stepped.plot(options.plot)


if __name__ == "__main__":
    main()
