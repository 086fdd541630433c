"""Which masks teach most: blocks, random tubes and what comes later, at equal share of hidden tokens and equal steps, probed attentively.

    python benchmarks/video_masks.py OUT [PATH=VALUE ...] [--masks none,blocks,tube,causal] [--seeds 0,1,2] [--steps 3000] [--minutes 60]
        [--labels direction,identity] [--train 4000] [--few 0] [--test 2000] [--moves 600] [--device cpu] [--tag x-]

Trains `video.vjepa_tiny` once for each kind of mask and seed and probes its averaged encoder and the one that was trained with V-JEPA's
attentive probe; PATH=VALUE changes the recipe. none: the untrained encoder, and the tubelets themselves with codes of their places.
blocks: the recipe's own masks; tube: random tubes (VideoMAE's) of the share that each of the recipe's masks hides on average over 1,000
draws; random: tokens at random of that share; causal: the first tubelets are seen, as many as come nearest to the mean share.
OUT/masks.jsonl gets a line a probe; runs that are in it are not done again, so the command may be stopped and started, and several may
share OUT. The table is that of all lines: mean over seeds with Student's interval, differences seed by seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from small import Held
from tacit import recipes
from tacit.core.recipe import Checks, Machine, Recipe
from tacit.core.spec import Spec
from tacit.ops.intervals import paired_interval, t_interval
from tacit.probing import summary
from tacit.runs import frozen
from tacit.runs import target as targets
from tacit.runs.build import build, split_of
from tacit.training.loop import fit
from video_maps import BASIS, sheet

KINDS = ("blocks", "tube", "causal", "random")
SIDES = {"trained": "averaged", "student": "as trained"}


def shares(recipe: Recipe) -> tuple[tuple[int, ...], list[float]]:
    """The grid of tokens, and the mean share of them that each mask of the recipe hides."""
    views = build(recipe).views
    hidden = [kind.draw(list(range(1000)), 0, 0, number) for number, kind in enumerate(views._masks)]
    total = int(np.prod(views.grid))
    return tuple(views.grid), [1 - float(np.mean([len(mask.context) for mask in found])) / total for found in hidden]


def masked(recipe: Recipe, kind: str) -> Recipe:
    """The recipe with another kind of mask of the same share."""
    if kind == "blocks":
        return recipe
    grid, hidden = shares(recipe)
    if kind == "causal":
        seen = min(grid[0] - 1, max(1, round(grid[0] * (1 - float(np.mean(hidden))))))
        found: tuple[Spec, ...] = (Spec("mask", "causal", visible=seen),)
    else:
        found = tuple(Spec("mask", {"tube": "random-tube"}.get(kind, kind), ratio=round(share, 3)) for share in hidden)
    return recipe.change(views=recipe.views.change(masks=found))


def lines(out: Path) -> list[dict[str, Any]]:
    """What has been found so far."""
    path = out / "masks.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def settled(kind: str, seed: int, given: argparse.Namespace) -> Recipe:
    """The recipe of one run."""
    recipe = masked(recipes.load("video.vjepa_tiny", given.overrides), kind)
    machine = Machine(device=given.device, threads=1, trackers=(), precision=recipe.machine.precision)
    checks = Checks(log_every=50, judge_every=0, save_every=500)
    return recipe.change(seed=seed, steps=given.steps or recipe.steps, machine=machine, checks=checks)


def one(out: Path, kind: str, seed: int, given: argparse.Namespace) -> None:
    """Train, probe every label, and write the lines; kind '': what nothing has trained."""
    recipe, start = recipes.load(settled(kind or "blocks", seed, given)), time.monotonic()
    built = build(recipe, Held(split_of(recipe, "train")))
    work = out / "runs" / f"{given.tag}{kind or 'none'}" / str(seed)
    if kind and fit(recipe, built.system.train(), built.source, built.views, work).status != "finished":
        raise SystemExit(f"stopped and kept in {work}: the same command goes on")
    took = round(time.monotonic() - start, 1)
    found = targets.Target(work, recipe, built.views, built.system.eval(), built)
    if kind:
        models = {"trained": found, "student": replace(found, module=found.module.encoder, built=None)}
    else:
        models = {"untrained": found, "raw pixels": frozen.pixels_of(found)}
    if kind and given.maps and not (out / given.maps).exists():
        small = replace(found, recipe=recipe.change(data=recipe.data.change(count=BASIS)))
        sheet(small, 3, 4).save(out / given.maps, optimize=True)
        built.system.to(given.device)
    for label in given.labels.split(","):
        for per, protocol in probes(given):
            own = recipe.data.change(label=label, count=per)
            sources = {"train": split_of(recipe.change(data=own), "train")}
            sources["test"] = split_of(recipe.change(data=own.change(count=given.test)), "test")
            records = frozen.frozen_records(models, sources, [protocol], run=str(found.folder), benchmark="clips@1")
            about = {"mask": kind and given.tag + kind, "seed": seed, "label": label, "labelled": per}
            with open(out / "masks.jsonl", "a", encoding="utf-8") as file:
                for row in summary(records):
                    value = {
                        "model": row.model,
                        "value": row.accuracy,
                        "n": row.n,
                        "steps": recipe.steps,
                        "seconds": took,
                    }
                    file.write(json.dumps({**about, **value, "protocol": protocol}) + "\n")


def probes(given: argparse.Namespace) -> list[tuple[int, str]]:
    """Labelled clips and the protocol of each probe, of so many steps."""
    frames = recipes.load("video.vjepa_tiny", given.overrides).data.get("frames", 8)
    found = [(given.train, f"vjepa/{frames}x1x1,epochs={max(1, given.moves * 128 // given.train)},batch=128")]
    if given.few:
        found.append((given.few, f"vjepa/{frames}x1x1,epochs={max(1, given.moves * 64 // given.few)},batch=64"))
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """Accuracy in % of each probe, what training gained, and blocks minus the other masks."""
    cells: dict[Any, dict[int, float]] = {}
    for line in found:
        key = (line["mask"], line["label"], line["labelled"], line["model"])
        cells.setdefault(key, {})[line["seed"]] = line["value"]
    text = [
        "| probe of | clips with labels | encoder | accuracy, % | minus untrained | minus raw pixels | seeds |",
        "|" + "---|" * 7,
    ]
    for label, per in dict.fromkeys((line["label"], line["labelled"]) for line in found):
        base = {model: cells.get(("", label, per, model), {}) for model in ("raw pixels", "untrained")}
        for model, values in base.items():
            text.append(f"| {label} | {per} | {model} | {mean(values)} | | | {len(values)} |")
        kinds = [kind for kind, *rest in cells if rest == [label, per, "trained"]]
        kinds.sort(key=lambda kind: [known in kind for known in KINDS], reverse=True)
        for kind in kinds:
            for model in ("trained", "student"):
                own = cells[kind, label, per, model]
                gains = f"{difference(own, base['untrained'])} | {difference(own, base['raw pixels'])}"
                text.append(f"| {label} | {per} | {kind}, {SIDES[model]} | {mean(own)} | {gains} | {len(own)} |")
        for kind in kinds:
            first = f"{kind.rpartition('-')[0]}-blocks".removeprefix("-")
            if first != kind and first in kinds:
                gain = difference(cells[first, label, per, "trained"], cells[kind, label, per, "trained"])
                text.append(f"| {label} | {per} | {first} minus {kind}, averaged | {gain} | | | |")
    return "\n".join(text)


def mean(by_seed: dict[int, float]) -> str:
    """Mean over seeds with its interval, in %."""
    if not by_seed:
        return ""
    values = np.array(list(by_seed.values()))
    found = t_interval(values, 0.95)
    return f"{100 * found[0]:.1f}" + (f" ({100 * found[1]:.1f} to {100 * found[2]:.1f})" if len(values) > 1 else "")


def difference(own: dict[int, float], other: dict[int, float]) -> str:
    """Mean of the differences seed by seed with its interval, in points."""
    both = sorted(set(own) & set(other))
    if not both:
        return ""
    if len(both) == 1:
        return f"{100 * (own[both[0]] - other[both[0]]):+.1f}"
    found = paired_interval(np.array([own[seed] for seed in both]), np.array([other[seed] for seed in both]), 0.95)
    return f"{100 * found[0]:+.1f} ({100 * found[1]:+.1f} to {100 * found[2]:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--masks", default="none,blocks,tube,causal")
    parser.add_argument("--tag", default="", help="stands before the kind of mask in names: which recipe this is")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--labels", default="direction,identity")
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2000, help="clips that are asked about")
    parser.add_argument("--moves", type=int, default=600, help="steps of a probe, rounded down to whole epochs")
    parser.add_argument("--few", type=int, default=0, help="labelled clips of a second probe")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--maps", default="", help="name of a picture of the first run in OUT, see video_maps.py")
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    base = recipes.load("video.vjepa_tiny", given.overrides)
    print("hidden by each mask of the recipe:", [round(share, 3) for share in shares(base)[1]])
    end = time.monotonic() + 60 * given.minutes
    for seed in map(int, given.seeds.split(",")):
        for kind in given.masks.split(","):
            name = "" if kind == "none" else given.tag + kind
            done = any((line["mask"], line["seed"]) == (name, seed) for line in lines(given.out))
            if not done and time.monotonic() < end:
                one(given.out, "" if kind == "none" else kind, seed, given)
                print(table(lines(given.out)), flush=True)
    print(table(lines(given.out)))


if __name__ == "__main__":
    main()
