"""Tiny sources, views and systems that satisfy the protocols: what the tests of the loop train."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from tacit.core.errors import DataError
from tacit.core.random import key
from tacit.core.ranks import ALONE
from tacit.core.recipe import Checks, Machine, Recipe
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, Features, View
from tacit.training.ema import follow, momentum_at

SIDE = 4


class Pictures:
    """n random pictures [1 4 4]; `fail_at`: a sample whose reading fails, as if its file had gone."""

    facts = Facts(channels=1, shape=(SIDE, SIDE), classes=("a", "b"))

    def __init__(self, n: int = 20, *, fail_at: int | None = None) -> None:
        rng = np.random.default_rng(5)
        self.images = torch.from_numpy(rng.integers(0, 256, (n, 1, SIDE, SIDE), dtype=np.uint8))
        self.labels = torch.arange(n) % 2
        self.fail_at = fail_at

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()

    def read(self, indices) -> Batch:
        if self.fail_at is not None and self.fail_at in indices:
            raise DataError(f"sample {self.fail_at}: the folder has gone")
        rows = torch.as_tensor(np.asarray(indices))
        return Batch({"image": View(self.images[rows])}, ids=rows + 100, facts={"label": self.labels[rows]})


class Noisy:
    """Views 'a' and 'b': the picture plus noise that is a function of (seed, epoch, id, view). `poison`: an id made NaN."""

    facts = Pictures.facts
    names = ("a", "b")

    def __init__(self, *, poison: int | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.poison, self.dtype = poison, dtype

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        clean = self.plain(batch).views["image"].data
        views = {}
        for index, name in enumerate(self.names):
            keys = [key(seed, epoch, i, index) for i in batch.ids.tolist()]
            noise = np.stack([np.random.Generator(np.random.Philox(key=k)).normal(size=(1, SIDE, SIDE)) for k in keys])
            data = clean + 0.1 * torch.from_numpy(noise).to(clean)
            if self.poison is not None:
                data[batch.ids == self.poison] = float("nan")
            views[name] = View(data, {"noise": torch.from_numpy(noise).to(clean)})
        return Batch(views, batch.ids, facts=batch.facts)

    def plain(self, batch: Batch) -> Batch:
        image = batch.views["image"].data.to(self.dtype) / 255
        return Batch({"image": View(image)}, batch.ids, facts=batch.facts)


class Tiny(nn.Module):
    """A student with BatchNorm (and dropout) that predicts what its slowly following teacher sees in the other view."""

    def __init__(self, *, dropout: float = 0.2, blocks: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        width = SIDE * SIDE
        layers = [
            nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout))
            for _ in range(blocks)
        ]
        self.student = Stack(layers, nn.Linear(width, 3))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def embed(self, x) -> Features:
        return Features(self.student(x.flatten(1)))

    def project(self, x):
        return self.embed(x).pooled

    def loss(self, batch: Batch, progress: float, ranks=ALONE) -> dict[str, torch.Tensor]:
        a, b = (batch.views[name].data.flatten(1) for name in ("a", "b"))
        z = self.student(a)
        with torch.no_grad():
            target = self.teacher(b)
        n = len(z) * ranks.size
        mean = ranks.total(z.sum(0)) / n
        variance = ranks.total((z - mean).square().sum(0)) / n
        terms = {"miss": (z - target).square().mean(), "spread": torch.relu(1 - (variance + 1e-4).sqrt()).mean()}
        return {"loss": terms["miss"] + terms["spread"], **terms}

    def forward(self, batch: Batch, progress: float, ranks=ALONE) -> dict[str, torch.Tensor]:
        return self.loss(batch, progress, ranks)

    def groups(self):
        learning = list(self.student.parameters())
        yield {"params": [p for p in learning if p.ndim > 1], "decay": True, "scale": 1.0}
        yield {"params": [p for p in learning if p.ndim <= 1], "decay": False, "scale": 0.5}

    def after_step(self, progress: float) -> None:
        follow(self.teacher, self.student, momentum_at(progress, 0.9))


class Stack(nn.Module):
    def __init__(self, blocks, head) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList(blocks), head

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Count:
    """A hook with a state: how many calls, and the sum of the logged losses."""

    def __init__(self) -> None:
        self.calls, self.seen, self.closed = 0, torch.zeros(2, dtype=torch.float64), []

    def __call__(self, step, terms, context) -> None:
        self.calls += 1
        self.seen[0] += terms["loss"].item()
        if step % 3 == 0:
            context.log("calls", self.calls)

    def state_dict(self):
        return {"calls": self.calls, "seen": self.seen}

    def load_state_dict(self, state) -> None:
        self.calls, self.seen = state["calls"], state["seen"]

    def close(self, status) -> None:
        self.closed.append(status)


class Interrupt(Exception):
    """Stands for a process that dies: nothing is saved on the way out."""


@dataclass
class DieAfter:
    """A hook that ends the process's run after a step, when that step has been saved or not."""

    step: int
    calls: list[int] = field(default_factory=list)

    def __call__(self, step, terms, context) -> None:
        self.calls.append(step)
        if step == self.step:
            raise Interrupt

    def close(self, status) -> None:
        pass


def recipe(*, optim: Spec | None = None, save_every: int = 1, log_every: int = 2, keep: int = 2, **fields) -> Recipe:
    machine = fields.pop("machine", {})
    defaults = {
        "system": Spec("system", "tiny"),
        "data": Spec("source", "pictures"),
        "views": Spec("views", "noisy"),
        "optim": optim or Spec("optimizer", "adamw", lr=0.01),
        "steps": 7,
        "batch": 8,
        "seed": 11,
        "checks": Checks(log_every=log_every, save_every=save_every, judge_every=0, keep=keep),
        "machine": Machine(**{"device": "cpu", "threads": 1, **machine}),
    }
    return Recipe(**{**defaults, **fields})
