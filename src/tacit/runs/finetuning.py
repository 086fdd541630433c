"""Fine-tune the encoder of a run or of an outside model on labels, beside the same network from its first weights."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Source, Views
from tacit.core.random import torch_seed
from tacit.models import store
from tacit.probing.arrays import check_unseen
from tacit.probing.evaluation import bank, recorded, summary
from tacit.probing.finetuning import FineTune, NamedFineTune, finetune, named_finetune
from tacit.probing.protocols import Protocol, protocol
from tacit.probing.records import Records, write_records
from tacit.probing.subsets import as_ids
from tacit.reports import Table
from tacit.runs import target as targets
from tacit.runs.cutting import result_of
from tacit.runs.tasks import test_split
from tacit.training.runtime import choose_device
from tacit.views.groups import Group

__all__ = ["FineTuned", "finetune_target"]


@dataclass(frozen=True)
class FineTuned:
    """Accuracy on the test set of the fine-tuned encoder and of one from scratch; `export`: where the weights lie."""

    table: Table
    records: Records
    export: Path | None

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**vars(r), "differences": [vars(d) for d in r.differences]} for r in self.table.results]
        return {"results": rows, "export": str(self.export) if self.export else None}

    def text(self) -> str:
        """For people."""
        return self.table.to_text().rstrip() + (f"\nencoder: {self.export}" if self.export else "")


def finetune_target(
    path: str | Path,
    overrides: Iterable[str] = (),
    *,
    how: FineTune | None = None,
    protocol_name: str | None = None,
    labels: str = "all",
    seeds: int = 1,
    scratch: bool = True,
    out: str | Path | None = None,
    quiet: bool = False,
) -> FineTuned:
    """Fine-tune on the training split, test on the test split.

    protocol_name: a paper's fine-tuning, `probing.FINETUNES`, in the place of `how` and `labels`.
    labels: 'all', '10%' or '5-per-class', drawn anew for each seed, the same for both starts. Training images are the first view of the
    run's own views, or of a paper's view. scratch: the same network, budget and samples from untrained weights (of a run). Of
    a run on its own data the records are kept in its results. out: a folder for the encoder as fine-tuned under the first seed.
    quiet: no line of progress every ten seconds on standard error.
    """
    texts, how = list(overrides), how or FineTune()
    named = named_finetune(protocol_name) if protocol_name else None
    if named:
        how, labels = named.how, named.labels
    if targets.is_features(path):
        raise RecipeError(
            f"{path} is a file of features: fine-tuning needs the network, a run, export, timm or transformers folder"
        )
    found = targets.load(path, texts)
    subset = protocol(f"linear/{labels}@1")
    if not isinstance(subset, Protocol):
        raise RecipeError(f"labels={labels!r}: fine-tuning learns from 'all', a share such as '10%', or '5-per-class'")
    train, test = found.source("train"), found.source(test_split(found))
    y = {"train": _labels(train, "train"), "test": _labels(test, "test")}
    check_unseen(y["train"], y["test"])
    ids = as_ids(_ids(train), len(train))
    classes = max(len(train.facts.classes), int(torch.cat([*y.values()]).max()) + 1)
    encoders = {"trained": _encoder(found)}
    if scratch and found.built:
        encoders["untrained"] = _encoder(targets.untrained(found))
    views = _views(named, found)
    device, tables, kept = choose_device(found.recipe.machine.device), [], None
    name = _full(protocol_name) if protocol_name else f"finetune/{labels},{how.name}@1"
    item = as_ids(_ids(test), len(test), "test")
    for model, encoder in encoders.items():
        for seed in range(seeds):
            rows = torch.arange(len(train))[:, None].float()
            at = bank({"train": rows}, {"train": y["train"]}, ids, subset, seed)[0][:, 0].long().numpy()
            network = copy.deepcopy(encoder)
            with torch.random.fork_rng(devices=[]):  # dropped paths and the like
                torch.random.default_generator.manual_seed(torch_seed(seed, "finetune"))
                call = finetune(
                    network, classes, _images(train, views, at, found.recipe.seed + seed), y["train"][at], how, seed=seed,
                    device=device, watch=None if quiet else _watch(f"{model}, seed {seed}", how.epochs),
                )  # fmt: skip
            logits = torch.cat([call(x) for x in _plain(test, found.views)])
            best = logits.softmax(dim=1).max(dim=1)
            tables.append(
                recorded(
                    best.indices, y["test"], item, score=best.values, run=str(found.folder), model=model,
                    benchmark=_benchmark(found, test), protocol=name, seed=seed,
                )
            )  # fmt: skip
            if out and model == "trained" and seed == 0:
                kept = _export(found, network, Path(out))
    records = Records.joined(tables)
    if found.built and not texts:
        write_records(found.folder, records)
    return FineTuned(_table(records, seeds), records, kept)


def _watch(what: str, epochs: int) -> Callable[[int, float], None]:
    """Says how far it is at most every ten seconds, and at the end."""
    begun = said = time.monotonic()

    def watch(done: int, loss: float) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > 10 or (done == epochs and said > begun):
            said = now
            left = (now - begun) / done * (epochs - done)
            print(f"{what}: epoch {done}/{epochs}  loss {loss:.4g}  {left:.0f}s left", file=sys.stderr, flush=True)

    return watch


def _views(named: NamedFineTune | None, found: targets.Target) -> Views:
    """What training images are made by: the run's own views, or a paper's at the size of the run's, normalised alike."""
    if named is None or named.view is None:
        return found.views
    seen = found.views.facts
    if seen.shape is None:
        raise RecipeError(
            "the encoder takes pictures of any size: say which the views make, for example views.first.size=224"
        )
    view = named.view.change(size=seen.shape[-1]).resolve("view")
    return Group(replace(seen, shape=None), {"a": view}, centre=0.875)


def _full(name: str) -> str:
    return name if "@" in name else f"{name}@1"


def _table(records: Records, seeds: int) -> Table:
    models = {row.model for row in summary(records)}
    against = {row.model: row for row in summary(records, baseline="untrained")} if "untrained" in models else {}
    results = [result_of(against.get(row.model, row)) for row in summary(records)]
    kind = "Student's t over seeds" if seeds > 1 else "Wilson over items"
    return Table(results, title="Fine-tuned", intervals=f"95 % ({kind})")


def _encoder(found: targets.Target) -> nn.Module:
    encoder = found.module.encoder if found.built else found.module
    if not isinstance(encoder, nn.Module):
        raise RecipeError("fine-tuning needs a system with an encoder")
    return encoder


def _labels(source: Source, split: str) -> Tensor:
    parts = [
        source.read(np.arange(at, min(at + 512, len(source)))).facts.get("label") for at in range(0, len(source), 512)
    ]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        raise DataError(f"the {split} data have no labels: fine-tuning needs them")
    return torch.cat(known).to(torch.int64).cpu()


def _ids(source: Source) -> NDArray[np.int64]:
    return np.concatenate(
        [source.read(np.arange(at, min(at + 512, len(source)))).ids.cpu().numpy() for at in range(0, len(source), 512)]
    )


def _images(
    source: Source, views: Views, at: NDArray[np.int64], seed: int
) -> Callable[[NDArray[np.int64], int], Tensor]:
    """(rows, epoch) -> the first augmented view of the samples at `at[rows]`."""
    name = next(name for name in views.names if not name.startswith("local"))

    def images(rows: NDArray[np.int64], epoch: int) -> Tensor:
        data: Any = views(source.read(at[rows]), seed, epoch).views[name].data
        return data if isinstance(data, Tensor) else torch.stack(data)

    return images


def _plain(source: Source, views: Views) -> Iterable[Tensor]:
    for at in range(0, len(source), 256):
        data: Any = views.plain(source.read(np.arange(at, min(at + 256, len(source))))).views["image"].data
        yield data if isinstance(data, Tensor) else torch.stack(data)


def _benchmark(found: targets.Target, test: Source) -> str:
    kind = found.recipe.data.kind
    return "digits@1" if kind == "digits" else f"{kind}-{Path(str(getattr(test, 'path', 'data'))).name}@1"


def _export(found: targets.Target, encoder: nn.Module, folder: Path) -> Path:
    spec = found.recipe.system["encoder"]
    facts = found.built.views.facts if found.built else found.views.facts
    return store.export(spec, facts, encoder.cpu(), folder)
