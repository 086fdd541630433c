"""Does a stepper step better if it is told the equation? Encoder, steppers, seeds, table and plot by one command.

    python benchmarks/stepping.py [--root runs] [--seeds 3] [--steps 600] [--encoder-steps 400] [--plot docs/stepping.png]

Burgers with a viscosity that one frame does not tell. An encoder is trained without labels on crops of 16 frames (VICReg,
Lie symmetries); the first 16 frames of a trajectory are its context, all steppers start after them. Runs that are
finished are taken as they are, so the command can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tacit import recipes, runs
from tacit.core.protocols import Source
from tacit.core.recipe import Checks, Machine, Recipe, digest, resolve
from tacit.core.spec import Spec, plain
from tacit.runs.build import build, export
from tacit.training.loop import fit

KINDS = ("none", "untrained", "representation", "coefficient")
CONTEXT = Spec("views", "lie-line", equation="burgers", crop=(16, 0), shift=0.5, length=6.283, galilei=0.2, scale=0.05)
MACHINE = Machine(device="cpu", threads=1, trackers=())


def encoder(world: Spec, count: int, steps: int) -> Recipe:
    """A small convolutional network on pictures of 16 frames; every symmetry of the equation leaves the viscosity as it is."""
    return Recipe(
        system=Spec(
            "system", "joint-embedding",
            encoder=Spec("encoder", "convnet", widths=(16, 32, 64, 128)),
            projector=Spec("head", "mlp", widths=(256, 256)),
            objective=Spec("objective", "vicreg"),
        ),
        data=Spec("source", "pde", world=world, count=count),
        views=CONTEXT,
        optim=Spec("optimizer", "adamw", lr=1e-3, weight_decay=1e-6),
        steps=steps,
        batch=64,
        checks=Checks(judge_every=0, save_every=200),
        machine=MACHINE,
    )  # fmt: skip


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
    parser.add_argument("--encoder-steps", type=int, default=400)
    parser.add_argument("--encoder-count", type=int, default=512)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--test", type=int, default=128)
    parser.add_argument("--set", nargs="*", default=[], metavar="PATH=VALUE", help="changes of the stepping recipe")
    parser.add_argument("--encoder", type=Path, help="a trained run or export, in place of training one")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    base = recipes.load(options.recipe, [f"steps={options.steps}", *options.set]).change(machine=MACHINE)
    read = options.encoder
    if read is None and {"untrained", "representation"} & set(options.kinds):
        recipe = encoder(base.data["world"], options.encoder_count, options.encoder_steps)
        read = finished(recipe, "encoder", options.root, recipe.data.build())
    source, folders = base.data.build(), []
    for kind in options.kinds:
        for seed in range(options.seeds):
            settings = {"condition": kind}
            views = base.views
            if kind in ("untrained", "representation"):
                settings |= {"representation": str(read), "bottleneck": 8}
                views = views.change(context=CONTEXT)
            recipe = base.change(system=base.system.change(**settings), views=views, seed=seed)
            folders.append(finished(recipe, f"stepping-{kind}", options.root, source))
    print(runs.evaluate_runs(folders, count=options.test, plot=options.plot).text())
    print("recipe of the steppers:", json.dumps(plain(base.system)))


if __name__ == "__main__":
    main()
