"""The tasks of regression on solutions of differential equations: what each learns from, what it is tested on, and its models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core import parts
from tacit.core.errors import DataError
from tacit.core.protocols import Views
from tacit.core.random import torch_seed
from tacit.core.values import Batch
from tacit.models.features import POOLED
from tacit.probing import Records, evaluate_regression, fit_supervised, picture_statistics
from tacit.runs import target as targets
from tacit.training.runtime import choose_device
from tacit.worlds.pdes.source import Trajectories

__all__ = ["ALL", "BENCHMARK", "FEW", "PROTOCOLS", "Work", "factors"]

FEW = (50, 200)  # labels
ALL = "linear/all@1"
PROTOCOLS = (ALL, *(f"linear/{k}-labels@1" for k in reversed(FEW)), "mlp/all@1", f"mlp/{FEW[0]}-labels@1")
BENCHMARK = "factors/"
_GIVEN = ("length", "horizon", "step", "equation")  # can be read off the coordinates, or names the world
_TRAININGS = 3  # of the supervised yardstick and of the deep probe
_LOW = 0.75  # share of a coefficient's range that has labels in the task "range"
_VIEWS = 8  # crops of a labelled trajectory that a probe learns from
_CROPS = 64  # trajectories cropped at a time


@dataclass(frozen=True)
class _Cropped:
    """The views of a run with a random crop, not moved, in place of the plain one."""

    views: Any
    draw: int

    @property
    def names(self) -> tuple[str, ...]:
        return self.views.names  # type: ignore[no-any-return]

    @property
    def facts(self) -> Any:
        return self.views.facts

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        return self.views(batch, seed, epoch)  # type: ignore[no-any-return]

    def plain(self, batch: Batch) -> Batch:
        return self.views.cut(batch, self.draw, 0)  # type: ignore[no-any-return]


class Work:
    """What the tasks share: sources, factors, models, and the networks trained on labels, each trained once."""

    def __init__(
        self,
        found: targets.Target,
        seeds: int,
        protocols: Sequence[str] | None,
        baselines: bool,
        split: Literal["test", "valid"] = "test",
    ) -> None:
        self.found, self.seeds, self.baselines = found, seeds, baselines and found.built is not None
        self.split = split
        self.train, self.test = found.source("train"), found.source(split)
        self.y = {"train": factors(self.train), "test": factors(self.test)}
        if not self.y["train"]:
            raise DataError("no factor varies over the training data: there is nothing to regress")
        n = len(self.train)
        asked = PROTOCOLS if protocols is None else protocols
        self.protocols = [p for p in asked if _labels(p) < n]
        self.models = {"trained": found}
        if self.baselines:
            self.models["untrained"] = targets.untrained(found)
        self.world = getattr(found.recipe.data.get("world"), "kind", found.recipe.data.get("equation", "mixed"))
        self._nets: dict[tuple[bytes, int, str], Callable[[Tensor], Tensor]] = {}

    def plain(self) -> list[Records]:
        """The first crop of every trajectory."""
        views = self.found.views
        return self._all("plain", self.train, self.test, self.y, views, views)

    def crops(self) -> list[Records]:
        """A random crop of each."""
        if not self._cuts():
            return []
        return self._all(
            "crops", self.train, self.test, self.y, _Cropped(self.found.views, 1), _Cropped(self.found.views, 2)
        )

    def family(self) -> list[Records]:
        """Starts of another family."""
        world = self.found.recipe.data.get("world")
        changed = getattr(parts.find("world", world.kind), "family", None) if world is not None else None
        if world is None or not changed or self.found.built is None:
            return []
        other = self.found.recipe.data.change(world=world.change(**changed), split=self.split).build()
        y = factors(other)
        shared = [name for name in self.y["train"] if name in y]
        both = {"train": {k: self.y["train"][k] for k in shared}, "test": {k: y[k] for k in shared}}
        return self._all("family", self.train, other, both, self.found.views, self.found.views)

    def range(self) -> list[Records]:
        """Labels below the third quartile of a factor, test above; each factor by itself."""
        made = []
        for name, values in self.y["train"].items():
            edge = values[values.isfinite()].quantile(_LOW)
            rows = {"train": values <= edge, "test": self.y["test"][name] > edge}
            if int(rows["test"].sum()) < 10:
                continue
            y = {split: {name: self.y[split][name]} for split in rows}
            made += self._all("range", self.train, self.test, y, self.found.views, self.found.views, rows, (ALL,))
        return made

    def _all(
        self,
        task: str,
        train: Any,
        test: Any,
        y: Mapping[str, Mapping[str, Tensor]],
        views: Any,
        test_views: Any,
        rows: Mapping[str, Tensor] | None = None,
        protocols: Sequence[str] | None = None,
    ) -> list[Records]:
        """All factors at once, or, where not every sample has every factor, each by itself on the samples that have it."""
        features = self._features(train, test, views, test_views)
        whole = all(bool(v.isfinite().all()) for split in y.values() for v in split.values())
        groups = [list(y["train"])] if whole else [[name] for name in y["train"]]
        made = []
        for names in groups:
            at = {}
            for split, values in y.items():
                known = torch.stack([values[name].isfinite() for name in names]).all(dim=0)
                at[split] = (known & rows[split] if rows else known).nonzero().squeeze(1)
            direct = {}
            if self.baselines:
                direct["supervised"] = self.supervised(names, y, at, test, test_views)
            asked = [p for p in protocols or self.protocols if p == ALL or _labels(p) < len(at["train"])]
            made.append(
                evaluate_regression(
                    {m: {split: z[at[split]] for split, z in f.items()} for m, f in features.items()},
                    {split: {name: y[split][name][at[split]] for name in names} for split in y},
                    {split: index.numpy() for split, index in at.items()},
                    direct=direct,
                    protocols=asked,
                    seeds=self.seeds,
                    direct_seeds=_TRAININGS,
                    run=str(self.found.folder),
                    benchmark=f"{BENCHMARK}{self.world}/{task}@1",
                )
            )
        return made

    def _features(self, train: Any, test: Any, views: Any, test_views: Any) -> dict[str, dict[str, Tensor]]:
        """Features of several crops of each training sample [n c d], as supervised training sees random crops, and of the test."""
        seen = [views]
        if self._cuts():
            seen += [_Cropped(self.found.views, 10 + draw) for draw in range(_VIEWS - 1)]
        found: dict[str, dict[str, Tensor]] = {}
        for name, model in self.models.items():
            z = [dataclasses.replace(model, views=v).features(train).layers[POOLED] for v in seen]
            test_z = dataclasses.replace(model, views=test_views).features(test).layers[POOLED]
            found[name] = {"train": torch.stack(z, dim=1), "test": test_z}
        if self.baselines:
            found["statistics"] = {
                "train": torch.stack([_statistics(train, v) for v in seen], dim=1),
                "test": _statistics(test, test_views),
            }
        return found

    def _cuts(self) -> bool:
        """Whether the views can cut more than one crop from a trajectory."""
        views: Any = self.found.views
        return hasattr(views, "cut") and tuple(views.crop) != tuple(self.train.facts.shape or ())

    def supervised(
        self,
        names: Sequence[str],
        y: Mapping[str, Mapping[str, Tensor]],
        at: Mapping[str, Tensor],
        test: Any,
        test_views: Any,
    ) -> Callable[[NDArray[np.int64], int], Tensor]:
        """The run's encoder trained on labels alone, as many steps as the run."""
        recipe, base = self.found.recipe, at["train"].numpy()
        targets_ = torch.stack([y["train"][name][at["train"]] for name in names], dim=1)

        def learn(rows: NDArray[np.int64], seed: int) -> Tensor:
            chosen = base[rows]
            mark = (chosen.tobytes(), seed, ",".join(names))
            if mark not in self._nets:
                with torch.random.fork_rng(devices=[]):
                    torch.random.default_generator.manual_seed(torch_seed(seed, "supervised"))
                    encoder = recipe.system["encoder"].build(self.found.views.facts)
                    head = torch.nn.Linear(encoder.dim, len(names))
                self._nets[mark] = fit_supervised(
                    encoder,
                    head,
                    self._training_pictures(chosen),
                    targets_[torch.from_numpy(rows)],
                    steps=recipe.steps,
                    batch=recipe.batch,
                    seed=seed,
                    device=choose_device(recipe.machine.device),
                )
            predict = self._nets[mark]
            return torch.cat([predict(p) for p in _pictures(test, test_views, at["test"].numpy())])

        return learn

    def _training_pictures(self, chosen: NDArray[np.int64]) -> Callable[[NDArray[np.int64], int], Tensor]:
        """A random crop of each sample, drawn anew every epoch, where the views can crop."""
        views: Any = self.found.views
        crop = getattr(views, "cut", None)

        def pictures(rows: NDArray[np.int64], epoch: int) -> Tensor:
            batch = self.train.read(chosen[rows])
            seen = crop(batch, self.found.recipe.seed, epoch) if crop else views.plain(batch)
            return torch.as_tensor(seen.views["image"].data)

        return pictures


def _labels(protocol: str) -> int:
    """How many labels a protocol draws; 0 for all."""
    text = protocol.partition("/")[2].partition("-")[0]
    return int(text) if text.isdigit() else 0


def _pictures(source: Any, views: Views | _Cropped, rows: NDArray[np.int64]) -> Any:
    for start in range(0, len(rows), _CROPS):
        yield torch.as_tensor(views.plain(source.read(rows[start : start + _CROPS])).views["image"].data)


def _statistics(source: Any, views: Views | _Cropped) -> Tensor:
    return torch.cat([picture_statistics(p) for p in _pictures(source, views, np.arange(len(source)))])


def factors(source: Trajectories | Any) -> dict[str, Tensor]:
    """Factors [n] that vary, by name, without those that the coordinates show; not a number where a sample has none."""
    names = [n for n in source.facts.factors if n not in _GIVEN and not n.startswith("drift_")]
    held: dict[str, list[Tensor]] = {name: [] for name in names}
    for start in range(0, len(source), 256):
        facts = source.read(np.arange(start, min(start + 256, len(source)))).facts
        for name in names:
            held[name].append(facts[name].double())
    found = {name: torch.cat(values) for name, values in held.items()}
    return {name: v for name, v in found.items() if _spread(v) > 1e-9 * float(v.nan_to_num().abs().max())}


def _spread(values: Tensor) -> float:
    known = values[values.isfinite()]
    return float(known.std(correction=0)) if len(known) else 0.0
