"""What the benchmarks on small data share: train a recipe once, probe and judge it, keep what was found under the recipe's digest.

`trained` leaves FOLDER/<name>.json and does not run again while the recipe stays as it is; a run that was cut goes on from its last
checkpoint. So a benchmark may be stopped at any moment and started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit import recipes
from tacit.core.errors import DataError
from tacit.core.protocols import Source
from tacit.core.recipe import Checks, Machine, Recipe, digest
from tacit.core.values import Batch
from tacit.judging import RankMe
from tacit.probing import evaluate, summary
from tacit.probing.subsets import folds
from tacit.runs.build import build, split_of
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics
from tacit.training.trees import map_tensors

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


def settled(recipe: Recipe, steps: int, overrides: Iterable[str] = (), device: str = "cpu") -> Recipe:
    """The recipe at so many steps, on one thread of the processor or on an accelerator; its own checks off."""
    machine = Machine(device=device, threads=1, trackers=())
    checks = Checks(log_every=5, judge_every=0, save_every=50 if device == "cpu" else steps)  # minutes, or seconds
    return recipes.load(recipe.change(steps=steps, machine=machine, checks=checks), overrides)


class Held:
    """A source, or some samples of it, read once and kept in memory: letters are not drawn anew at each step."""

    def __init__(self, source: Source, rows: NDArray[np.int64] | None = None) -> None:
        self.facts, self._digest = source.facts, source.digest()
        if rows is not None:
            self._digest = hashlib.sha256(self._digest.encode() + rows.tobytes()).hexdigest()[:16]
        self._batch = source.read(np.arange(len(source)) if rows is None else rows)
        self.images = self._batch.views["image"].data  # what the feed looks for: an accelerator keeps it as a whole

    def __len__(self) -> int:
        return len(self._batch)

    def digest(self) -> str:
        """Changes with the source and with the rows."""
        return self._digest

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """These of the rows."""
        at = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return map_tensors(self._batch, lambda x: x[at])


def splits_of(recipe: Recipe, choosing: bool = False) -> tuple[Source, Source]:
    """What is trained on and what is measured on: the splits, or, to choose settings, four fifths and a fifth of the training split."""
    train = split_of(recipe, "train")
    if not choosing:
        return Held(train), Held(split_of(recipe, "test"))
    batch = train.read(range(len(train)))
    part = folds(batch.facts["label"].numpy(), batch.ids.numpy(), rounds=1)
    if part is None:
        raise DataError("a class has a single sample, and none can be held out: take more samples")
    return Held(train, np.flatnonzero(part != 0)), Held(train, np.flatnonzero(part == 0))


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


def measured(
    system: Any, recipe: Recipe, protocols: Sequence[str] = PROTOCOLS, choosing: bool = False
) -> dict[str, Any]:
    """What probes on the test split and RankMe of the training split say: probes {protocol: [accuracy, low, high, n, seeds]}."""
    splits = splits_of(recipe, choosing)
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
    choosing: bool = False,
) -> dict[str, Any]:
    """Train and measure, or read what was found before. elsewhere: overrides that name other data to probe as well.

    choosing: the test split stays unread; what is measured is a fifth of the training split that was not trained on.
    """
    elsewhere = list(elsewhere)
    mark: list[Any] = [digest(recipe), list(protocols), elsewhere, *(["choosing"] if choosing else [])]
    path = folder / f"{name}.json"
    if path.exists() and (found := json.loads(path.read_text())).get("mark") == mark:
        return found
    if clock is not None:
        clock.check()
    built = build(recipe, splits_of(recipe, choosing)[0])
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
        **measured(built.system.cpu(), recipe, protocols, choosing),
    }
    if elsewhere:
        found["elsewhere"] = measured(built.system, recipes.load(recipe, elsewhere), protocols)
    return _keep(path, found, work)


def untrained(
    name: str, recipe: Recipe, folder: Path, protocols: Sequence[str] = PROTOCOLS, choosing: bool = False
) -> dict[str, Any]:
    """The same encoder with its first weights."""
    path = folder / f"{name}.json"
    mark: list[Any] = [digest(recipe), list(protocols), *(["choosing"] if choosing else [])]
    if path.exists() and (found := json.loads(path.read_text())).get("mark") == mark:
        return found
    return _keep(path, {"mark": mark, **measured(build(recipe).system, recipe, protocols, choosing)}, None)


def _keep(path: Path, found: dict[str, Any], work: Path | None) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")  # several processes may share a folder
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
