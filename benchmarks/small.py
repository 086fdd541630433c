"""What the benchmarks on small data share: train a recipe once, probe and judge it, keep what was found under the recipe's digest.

`trained` leaves FOLDER/<name>.json and does not run again while the recipe stays as it is; a run that was cut goes on from its last
checkpoint. So a benchmark may be stopped at any moment and started again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit import recipes
from tacit.core.recipe import Checks, Machine, Recipe, digest
from tacit.judging import RankMe
from tacit.probing import evaluate, summary
from tacit.runs.build import build, split_of
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

KNN, LINEAR, FEW = PROTOCOLS = ("knn/k=20,t=0.07@1", "linear/all@1", "linear/5-per-class@1")
SEEDS = 5  # draws of five labels a class


class OutOfTimeError(Exception):
    """The time given is over; what is done is kept."""


class Clock:
    """Stops a benchmark between two runs when its minutes are over."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def check(self) -> None:
        """Raise OutOfTimeError when the minutes are over."""
        if time.monotonic() > self._end:
            raise OutOfTimeError


@contextlib.contextmanager
def within(minutes: float) -> Iterator[Clock]:
    """A clock; running out of its time ends the block quietly."""
    with contextlib.suppress(OutOfTimeError):
        yield Clock(minutes)


def settled(recipe: Recipe, steps: int, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe at so many steps on one thread of the processor; its own checks off."""
    machine, checks = Machine(device="cpu", threads=1, trackers=()), Checks(log_every=5, judge_every=0, save_every=50)
    return recipes.load(recipe.change(steps=steps, machine=machine, checks=checks), overrides)


@torch.no_grad()
def features(system: Any, views: Any, source: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Representations, embeddings and labels of a whole source."""
    system.eval()
    h, z, y = [], [], []
    for start in range(0, len(source), 512):
        batch = source.read(range(start, min(start + 512, len(source))))
        x = views.plain(batch).views["image"].data
        h.append(system.embed(x).pooled)
        z.append(system.project(x))
        y.append(batch.facts["label"])
    return torch.cat(h), torch.cat(z), torch.cat(y)


def measured(system: Any, recipe: Recipe, protocols: Sequence[str] = PROTOCOLS) -> dict[str, Any]:
    """What probes on the test split and RankMe of the training split say: probes {protocol: [accuracy, low, high, n, seeds]}."""
    splits = [split_of(recipe, split) for split in ("train", "test")]
    views = recipe.views.build(splits[0].facts)
    train, test = (features(system, views, source) for source in splits)
    parts = {"model": {"train": train[0], "test": test[0]}}
    records = evaluate(parts, {"train": train[2], "test": test[2]}, protocols=protocols, seeds=SEEDS)
    rank = RankMe()
    rank.update(train[1])
    score = rank.compute()
    rows = {row.protocol: [row.accuracy, row.low, row.high, row.n, row.seeds] for row in summary(records)}
    return {"probes": rows, "rankme": score.value, "n": score.n, "width": train[1].shape[1]}


def trained(
    name: str,
    recipe: Recipe,
    folder: Path,
    *,
    elsewhere: Iterable[str] = (),
    protocols: Sequence[str] = PROTOCOLS,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Train and measure, or read what was found before. elsewhere: overrides that name other data to probe as well."""
    elsewhere = list(elsewhere)
    mark = [digest(recipe), list(protocols), elsewhere]
    path = folder / f"{name}.json"
    if path.exists() and (found := json.loads(path.read_text())).get("mark") == mark:
        return found
    if clock is not None:
        clock.check()
    built = build(recipe)
    built.system.train()
    work = folder / "runs" / f"{name}-{digest(recipe)}"
    start = time.process_time()
    done = fit(recipe, built.system, built.source, built.views, work)
    if done.status != "finished":  # a signal: the next start goes on from the checkpoint
        raise OutOfTimeError
    spent = time.process_time() - start
    losses = read_metrics(work)["loss"][1].tolist()
    found = {
        "mark": mark,
        "seconds": spent,
        "loss": [losses[0], losses[-1]],
        **measured(built.system, recipe, protocols),
    }
    if elsewhere:
        found["elsewhere"] = measured(built.system, recipes.load(recipe, elsewhere), protocols)
    return _keep(path, found, work)


def untrained(name: str, recipe: Recipe, folder: Path, protocols: Sequence[str] = PROTOCOLS) -> dict[str, Any]:
    """The same encoder with its first weights."""
    path = folder / f"{name}.json"
    mark = [digest(recipe), list(protocols)]
    if path.exists() and (found := json.loads(path.read_text())).get("mark") == mark:
        return found
    return _keep(path, {"mark": mark, **measured(build(recipe).system, recipe, protocols)}, None)


def _keep(path: Path, found: dict[str, Any], work: Path | None) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(found))
    aside.replace(path)
    if work is not None:
        shutil.rmtree(work)
    print(path.stem, json.dumps({k: found[k] for k in ("probes", "rankme")}), flush=True)
    return found


def cell(found: dict[str, Any], protocol: str, *, interval: bool = True) -> str:
    """An accuracy in percent, with its interval."""
    value, low, high, *_ = found["probes"][protocol]
    text = f"{100 * value:.1f}"
    return f"{text} [{100 * low:.1f}, {100 * high:.1f}]" if interval else text


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
