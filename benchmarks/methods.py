"""Every method on a small data set under equal compute: k-NN, linear probe and RankMe beside the untrained encoder.

    python benchmarks/methods.py --data digits --steps 300 --out proto/methods [--only dino swav] [--minutes 4] [--table]

One row a recipe `ssl.<method>_digits`, at the same steps, batch and pictures; methods that need patches have a ViT and are compared
with the untrained ViT. A finished method leaves OUT/<data>-<steps>/<method>.json and is not run again unless its recipe changes; a cut
run goes on from its last checkpoint: the command may be stopped (--minutes: starts no method after so long) and repeated until
the table is whole.
Runs on one thread. Probes: the protocols named in the table, train split to test split. RankMe: of the embedding of the training split.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from small import FEW, KNN, LINEAR, SEEDS, cell, markdown, settled, trained, untrained, within
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
DATA = {
    "digits": (),
    "glyphs": ("data=glyphs", "data.count=4000", "views.first.size=32"),
}  # at 16 pixels letters are lost


def recipe_of(method: str, data: str, steps: int) -> Recipe:
    """The digits' recipe of a method; all with the pictures, the steps and the batch of all."""
    base, own = recipes.load("ssl.dcl_digits"), recipes.load(f"ssl.{method}_digits")
    if own.data != base.data:  # the demo's recipes have grey pictures, and run longer
        encoder, head = base.system["encoder"], own.system["projector"]
        widths = tuple(min(width, 256) for width in head["widths"])
        own = own.change(data=base.data, views=base.views, optim=base.optim, batch=base.batch, clip=base.clip)
        own = own.change(system=own.system.change(encoder=encoder, projector=head.change(widths=widths)))
    return settled(own, steps, DATA[data])


def table(folder: Path, data: str, steps: int) -> str:
    """Markdown: the untrained encoders, then one row a method in the order of the families."""
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    if not kept:
        return "No method has finished yet.\n"

    def row(name: str, found: dict[str, Any]) -> list[str]:
        loss = "{:.3g} to {:.3g}".format(*found["loss"]) if "loss" in found else ""
        probes = [cell(found, protocol) for protocol in (KNN, LINEAR, FEW)]
        return [name.replace("_", " ").replace("-", ", "), *probes, f"{found['rankme']:.1f} of {found['width']}", loss]

    first = [name for name in kept if name.startswith("untrained")]
    rows = [row(name, kept[name]) for name in (*first, *(name for name in METHODS if name in kept))]
    head = ["method", "k-NN (k = 20)", "linear", "linear, 5 labels a class", "RankMe", "loss"]
    some = kept[first[0]]
    missing = [name for name in METHODS if name not in kept]
    words = (
        f"\n{data}, {steps} steps of 128, seed 0, n = {some['probes'][KNN][3]} test samples; 95 % intervals: Wilson over samples, "
        f"Student over {SEEDS} draws of the labels. RankMe of the embeddings of n = {some['n']} training samples; of the untrained, "
        "that of a random projector.\n"
    )
    return markdown(head, rows) + words + (f"Not run yet: {', '.join(missing)}.\n" if missing else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="digits", choices=list(DATA))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--only", nargs="*", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further method after this long")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.out / f"{given.data}-{given.steps}"
    folder.mkdir(parents=True, exist_ok=True)
    with within(given.minutes) as clock:
        for method in () if given.table else given.only:
            recipe = recipe_of(method, given.data, given.steps)
            kind = recipe.system["encoder"].kind
            standard = {"convnet": "dcl", "vit": "ibot"}[kind]
            untrained(f"untrained-{kind}", recipe_of(standard, given.data, given.steps), folder)
            trained(method, recipe, folder, clock=clock)
    text = table(folder, given.data, given.steps)
    (folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
