"""Every method on a small data set under equal compute: k-NN, linear probe and RankMe beside the untrained encoder.

    python benchmarks/methods.py --data digits --steps 300 --out proto/methods [--only dino swav] [--minutes 4] [--table]
    python benchmarks/methods.py --data glyphs --only byol --choosing --change system.teacher.momentum=0.9
    python benchmarks/methods.py --data digits --choose --out proto/methods [--device cuda]

One row a recipe `ssl.<method>_digits`, at the same steps, batch and pictures; methods that need patches have a ViT and are compared
with the untrained ViT. What letters need is in GLYPHS, the same for all, and in OWN, for one method. --choosing leaves the test split
alone and holds out a fifth of the training split; --change tries a setting there, in a row of its own. --choose tries all of CHOICES
there, takes for each method what is best by five labels a class, and measures that, trained on the whole training split, on the test split.
A finished method leaves OUT/<data>-<steps>/<method>.json and is not run again unless its recipe changes; a cut run goes on from its
last checkpoint: the command may be stopped (--minutes: starts no method after so long) and repeated until the table is whole.
Runs on one thread. Probes: the protocols named in the table, train split to test split. RankMe: of the embedding of the training split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from small import FEW, KNN, LINEAR, SEEDS, Clock, cell, markdown, settled, trained, untrained, within
from tacit import recipes
from tacit.core.recipe import Recipe

FAMILIES = {
    "contrastive": ("simclr", "dcl", "moco_v2", "moco_v3", "nnclr", "supcon", "spectral_contrastive", "alignment_uniformity"),
    "self-distillation": ("byol", "simsiam", "dino", "swav", "deepcluster", "msn", "ibot", "dinov2"),
    "information": (
        "vicreg", "vicregl", "barlow_twins", "vibcreg", "wmse", "mmcr", "lejepa", "tico", "emp", "frossl", "visreg",
    ),
}  # fmt: skip
METHODS = {method: family for family, methods in FAMILIES.items() for method in methods}
# Letters: 32 pixels, for at 16 they are lost; a black ground, for a ground of its own is in both views and is learnt in the letter's place;
# any hue; no noise beside the grain that the pictures have.
_GROUND = ("data.background=[0,0]", "data.gradient=[0,0]")
_VIEW = {"size": 32, "hue": 0.5, "brightness": 0.6, "grey": 0.1, "noise": 0}
GLYPHS = ("data=glyphs", "data.count=4000", *_GROUND, *(f"views.first.{name}={value}" for name, value in _VIEW.items()))
DATA = {"digits": (), "glyphs": GLYPHS}
ENCODERS = {  # what sees a whole letter: 33 pixels, or 16 patches
    ("glyphs", "convnet"): ("system.encoder.widths=[8,16,32,64,128]",),
    ("glyphs", "vit"): ("system.encoder.patch=8", "views.patch=8"),
}
RIDGE = "ridge/all@1"
# of 4,000 letters logistic regression takes as long as training, ridge regression a second
PROBES = {"digits": (KNN, LINEAR, FEW), "glyphs": (KNN, RIDGE, FEW)}
HEADS = {KNN: "k-NN (k = 20)", LINEAR: "linear", RIDGE: "linear (ridge)", FEW: "linear, 5 labels a class"}
OWN = {  # for one method, chosen on letters outside the test split
    ("glyphs", "byol"): ("system.projector.last=fixed-norm",),  # the embedding shrinks without
    ("glyphs", "ibot"): ("system.objective.balance=sinkhorn", "system.patch_objective.balance=sinkhorn"),  # as DINOv2
}


def _both(path: str, *values: object) -> list[list[str]]:
    """A setting of the objective and of the patches' objective at once."""
    return [[f"system.{name}.{path}={value}" for name in ("objective", "patch_objective")] for value in values]


_MOMENTA = [["system.teacher.momentum=0.97"], ["system.teacher.momentum=0.99"]]
_PATCHES = [[*one, *two] for one in _both("target_temperature", 0.02, 0.04) for two in _MOMENTA]
CHOICES = {  # what --choose tries of methods whose published setting belongs to long runs or large data
    "byol": [[f"system.teacher.momentum={m}"] for m in (0.9, 0.95, 0.98, 0.99)],
    "dino": [[f"system.objective.target_temperature={t}"] for t in (0.01, 0.02, 0.03, 0.04)],
    "swav": [[f"system.objective.code_temperature={t}"] for t in (0.01, 0.02, 0.03, 0.05)],
    "msn": [[f"system.objective.sharpening={t}"] for t in (0.1, 0.2, 0.25, 0.4)],
    "ibot": _PATCHES,
    "dinov2": _PATCHES,
}


def recipe_of(method: str, data: str, steps: int, change: Iterable[str] = (), device: str = "cpu") -> Recipe:
    """The digits' recipe of a method; all with the pictures, the steps and the batch of all. change: settings to try."""
    base, own = recipes.load("ssl.dcl_digits"), recipes.load(f"ssl.{method}_digits")
    if own.data != base.data:  # the demo's recipes have grey pictures, and run longer
        encoder, head = base.system["encoder"], own.system["projector"]
        widths = tuple(min(width, 256) for width in head["widths"])
        own = own.change(data=base.data, views=base.views, optim=base.optim, batch=base.batch, clip=base.clip)
        own = own.change(system=own.system.change(encoder=encoder, projector=head.change(widths=widths)))
    needs = ENCODERS.get((data, own.system["encoder"].kind), ())
    return settled(own, steps, (*DATA[data], *needs, *OWN.get((data, method), ()), *change), device)


def folder_of(out: Path, data: str, steps: int, choosing: bool) -> Path:
    """Where the rows lie; made where it is missing."""
    folder = out / f"{data}-{steps}{'-choosing' * choosing}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Study:
    """Trains methods and keeps their rows."""

    def __init__(self, out: Path, data: str, steps: int, device: str, clock: Clock) -> None:
        self.out, self.data, self.steps, self.device, self.clock = out, data, steps, device, clock

    def run(self, method: str, change: Sequence[str], choosing: bool) -> dict[str, Any]:
        """The row of a method, and before it that of its untrained encoder."""
        folder = folder_of(self.out, self.data, self.steps, choosing)
        recipe = recipe_of(method, self.data, self.steps, change, self.device)
        kind = recipe.system["encoder"].kind
        standard = recipe_of({"convnet": "dcl", "vit": "ibot"}[kind], self.data, self.steps)
        how: dict[str, Any] = {"protocols": PROBES[self.data], "choosing": choosing}
        untrained(f"untrained-{kind}", standard, folder, **how)
        return trained(" ".join([method, *change]), recipe, folder, clock=self.clock, **how)

    def choose(self, method: str) -> None:
        """The row of the setting that is best on held-out training samples."""
        tried = [(self.run(method, change, True), change) for change in CHOICES[method]]
        _, best = max(tried, key=lambda one: one[0]["probes"][FEW][0])
        print(f"{method}: {' '.join(best)}", flush=True)
        self.run(method, best, False)


def table(folder: Path, data: str, steps: int, measured_on: str = "test") -> str:
    """Markdown: the untrained encoders, then one row a method in the order of the families, then what was tried."""
    read = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    kept = {name: found for name, found in read.items() if set(PROBES[data]) <= set(found["probes"])}
    if not kept:
        return "No method has finished yet.\n"

    def row(name: str, found: dict[str, Any]) -> list[str]:
        loss = "{:.3g} to {:.3g}".format(*found["loss"]) if "loss" in found else ""
        probes = [cell(found, protocol) for protocol in PROBES[data]]
        return [name.replace("_", " ").replace("-", ", "), *probes, f"{found['rankme']:.1f} of {found['width']}", loss]

    first = [name for name in kept if name.startswith("untrained")]
    tried = [name for name in kept if name not in METHODS and name not in first]
    rows = [row(name, kept[name]) for name in (*first, *(name for name in METHODS if name in kept), *tried)]
    head = ["method", *(HEADS[protocol] for protocol in PROBES[data]), "RankMe", "loss"]
    some = kept[first[0]]
    missing = [name for name in METHODS if name not in kept]
    words = (
        f"\n{data}, {steps} steps of 128, seed 0, n = {some['probes'][KNN][3]} {measured_on} samples; 95 % intervals: Wilson over samples, "
        f"Student over {SEEDS} draws of the labels. RankMe of the embeddings of n = {some['n']} training samples; of the untrained, "
        "that of a random projector.\n"
    )
    return markdown(head, rows) + words + (f"Not run yet: {', '.join(missing)}.\n" if missing else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="digits", choices=list(DATA))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--only", nargs="*", choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further method after this long")
    parser.add_argument(
        "--choosing", action="store_true", help="measure on held-out training samples, not on the test split"
    )
    parser.add_argument(
        "--change", nargs="*", default=[], metavar="PATH=VALUE", help="settings to try, with --choosing"
    )
    parser.add_argument(
        "--choose", action="store_true", help="try CHOICES on held-out training samples, then test the best"
    )
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    given = parser.parse_args()
    if given.change and not given.choosing:
        parser.error("--change tries settings, and the test split must have no part in that: add --choosing")
    torch.set_num_threads(1)
    given.only = given.only or list(CHOICES if given.choose else METHODS)
    folder = folder_of(given.out, given.data, given.steps, given.choosing)
    with within(given.minutes) as clock:
        study = Study(given.out, given.data, given.steps, given.device, clock)
        for method in () if given.table else given.only:
            if given.choose:
                study.choose(method)
            else:
                study.run(method, given.change, given.choosing)
    text = table(folder, given.data, given.steps, "held-out training" if given.choosing else "test")
    (folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
