"""Probes that need more than pooled features: tokens, last blocks, augmented epochs; and leakage between the splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.protocols import Source, Views
from tacit.core.spec import Spec
from tacit.core.values import Features
from tacit.models.features import POOLED, cached, extract
from tacit.probing.attentive import fit_attentive
from tacit.probing.evaluation import bank, recorded
from tacit.probing.leakage import FEATURES, PIXELS, Leakage, find_leakage
from tacit.probing.protocols import Protocol, Published, protocol
from tacit.probing.published import fit_published
from tacit.probing.records import Records
from tacit.probing.subsets import as_ids
from tacit.runs import target as targets
from tacit.runs.tasks import test_split
from tacit.training.runtime import choose_device

__all__ = ["beyond_pooled", "leakage", "special_records"]

_SIDE = 16  # of the pictures that are compared
_KEPT = 1 << 31  # bytes of the rows of one split; more is not written to the cache


def beyond_pooled(name: str | Protocol | Published) -> bool:
    """Whether a protocol needs the network and not only its pooled features."""
    how = protocol(name)
    if isinstance(how, Published):
        return not how.cached or how.features != "pooled"
    return how.probe == "attentive"


def special_records(
    models: Mapping[str, targets.Target], sources: Mapping[str, Source], labels: Mapping[str, Tensor], ids: Mapping[str, Tensor],
    names: Iterable[str], *, seeds: int, run: str, benchmark: str,
) -> Records:  # fmt: skip
    """One record a test item for protocols that need the network, as `evaluate` gives for the others."""
    tables = []
    item = {split: as_ids(ids[split].numpy(), len(labels[split]), split) for split in sources}
    classes = int(labels["train"].max()) + 1
    for how in map(protocol, names):
        for model, found in models.items():
            reader = _reader(found, how)
            z = {split: _rows(found, source, reader) for split, source in sources.items()}
            for seed in range(seeds if how.drawn else 1):
                x, y, own = bank(z, dict(labels), item["train"], how, seed)
                if isinstance(how, Published):
                    epoch = None if how.cached else _augmented(found, sources["train"], reader)
                    linear = fit_published(
                        x, y, how, ids=own, classes=classes, seed=seed, epoch=epoch, parts=reader.parts
                    )
                    logits = linear.logits(z["test"])
                else:
                    fitted = fit_attentive(x.unflatten(1, (reader.parts, -1)), y, ids=own, classes=classes, seed=seed)
                    logits = fitted.logits(z["test"].unflatten(1, (reader.parts, -1)))
                best = logits.softmax(dim=1).max(dim=1)
                tables.append(
                    recorded(
                        best.indices, labels["test"], item["test"], score=best.values, run=run, model=model, benchmark=benchmark,
                        protocol=how.name, seed=seed,
                    )
                )  # fmt: skip
    return Records.joined(tables)


class _Reader:
    """Reads a batch into rows of `parts` features of one width, side by side; `__name__` names their file in the cache."""

    parts = 1
    __name__ = "embed"

    def __init__(self, embed: Callable[[Tensor], Features]) -> None:
        self._embed = embed

    def __call__(self, x: Tensor) -> Tensor:
        return self._embed(x).pooled


class _Tokens(_Reader):
    """All tokens of the encoder."""

    __name__ = "tokens"

    def __call__(self, x: Tensor) -> Tensor:
        tokens = self._embed(x).tokens
        if tokens is None:
            raise DataError(
                "the attentive probe reads tokens, and this encoder gives none: use a linear probe of its pooled features"
            )
        self.parts = tokens.shape[1]
        return tokens.flatten(1)


class _LastBlocks(_Reader):
    """Class tokens of the last blocks of a ViT, each after the final norm, then the mean patch of the last if `mean`.

    Without a class token the mean over tokens stands for it.
    """

    def __init__(self, network: nn.Module, blocks: list[nn.Module], norm: nn.Module, *, mean: bool) -> None:
        self._network, self._blocks, self._norm, self._mean = network, blocks, norm, mean
        self._first = getattr(network, "cls_token", None) is not None
        self._prefix = int(getattr(network, "num_prefix_tokens", self._first))
        self.parts = len(blocks) + mean
        self.__name__ = f"last{len(blocks)}{'mean' if mean else ''}"

    def __call__(self, x: Tensor) -> Tensor:
        held: list[Tensor] = []
        handles = [block.register_forward_hook(lambda _m, _i, out: held.append(out)) for block in self._blocks]
        try:
            self._network(x)
        finally:
            for handle in handles:
                handle.remove()
        normed = [self._norm(tokens) for tokens in held]
        found = [t[:, 0] if self._first else t.mean(dim=1) for t in normed]
        return torch.cat([*found, *([normed[-1][:, self._prefix :].mean(dim=1)] if self._mean else [])], dim=1)


def _reader(found: targets.Target, how: Protocol | Published) -> _Reader:
    """What reads a batch into the rows that a protocol asks for; networks without blocks give their pooled features."""
    embed = found.module.embed if found.built else found.module
    if not isinstance(how, Published):
        return _Tokens(embed)
    encoder: Any = found.module.encoder if found.built else found.module
    network = getattr(encoder, "model", encoder)  # timm's ViT in its wrapper
    blocks, norm = getattr(network, "blocks", None), getattr(network, "norm", None)
    if (
        how.features == "pooled"
        or not isinstance(blocks, nn.Sequential | nn.ModuleList)
        or not isinstance(norm, nn.Module)
    ):
        return _Reader(embed)
    last = list(blocks)[-1:] if how.features == "mean" else list(blocks)[-4:]
    return _LastBlocks(network, last, norm, mean=how.features != "last4")


def _rows(found: targets.Target, source: Source, reader: _Reader) -> Tensor:
    """Rows of all samples in the evaluation view, from the cache where they were computed before and are not too many to keep."""
    if type(reader) is _Reader:
        return found.features(source).layers[POOLED]
    one = extract(reader, source, found.views, device=_ready(found), indices=[0]).layers[POOLED]
    if one.numel() * one.element_size() * len(source) > _KEPT:
        return _read(found, source, found.views, reader)
    device = _ready(found)
    return cached(
        found.module, source, found.views, root=targets.cache_of(found.folder), device=device, call=reader
    ).layers[POOLED]


def _ready(found: targets.Target) -> torch.device:
    """The device, with the module there in evaluation mode."""
    device = choose_device(found.recipe.machine.device)
    found.module.to(device).eval()
    return device


def _read(found: targets.Target, source: Source, views: Views, call: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows of all samples."""
    return extract(call, source, views, device=_ready(found)).layers[POOLED]


def _augmented(found: targets.Target, source: Source, call: Callable[[Tensor], Tensor]) -> Callable[[int], Tensor]:
    """Features of an epoch under random crops (0.08 to 1 of the area) and mirrors, as published linear evaluations see them."""
    size = found.views.facts.shape[0] if found.views.facts.shape else 224
    view = Spec(
        "view", "image", size=size, scale=(0.08, 1.0), flip=0.5, jitter=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0,
        grey=0.0, blur=0.0, solarise=0.0, noise=0.0,
    )  # fmt: skip
    views: Any = Spec("views", "pair", first=view).resolve("views").build(_facts(found, source))

    class Epoch:
        names, facts = views.names, views.facts

        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        def plain(self, batch: Any) -> Any:
            made = views(batch, found.recipe.seed, self.epoch)
            return type(batch)(views={"image": made.views["a"]}, ids=batch.ids, facts=batch.facts)

    def of(epoch: int) -> Tensor:
        return _read(found, source, Epoch(epoch), call)  # type: ignore[arg-type]

    return of


def _facts(found: targets.Target, source: Source) -> Any:
    """The source's facts with the normalisation that the encoder saw."""
    return dataclasses.replace(source.facts, mean=found.views.facts.mean, std=found.views.facts.std)


def leakage(
    path: str | Path, overrides: Iterable[str] = (), *, pixels: float = PIXELS, features: float = FEATURES
) -> Leakage:
    """Test samples that have a twin in train, by pictures and by features, of a run or an outside model with data, or of two files
    of features (`test=FILE`)."""
    texts = list(overrides)
    if targets.is_features(path):
        given = dict(text.partition("=")[::2] for text in texts)
        if set(given) != {"test"}:
            raise DataError(f"{path} is a file of features: name the file to test on, test=FILE, and nothing else")
        files = (targets.read_features(path), targets.read_features(given["test"]))
        both = {
            name: (files[0][name].numpy(), files[1][name].numpy()) if name in files[0] and name in files[1] else None
            for name in ("ids", "labels")
        }
        z = (files[0]["features"], files[1]["features"])
        return find_leakage(features=z, ids=both["ids"], labels=both["labels"], feature_threshold=features)
    found = targets.load(path, texts)
    parts = []
    for source in (found.source("train"), found.source(test_split(found))):
        extracted = found.features(source)
        small = extract(_small, source, found.views).layers[POOLED]
        parts.append((small, extracted.layers[POOLED], extracted.ids.numpy(), extracted.labels))
    (p0, z0, i0, y0), (p1, z1, i1, y1) = parts
    return find_leakage(
        pixels=(p0, p1), features=(z0, z1), ids=(i0, i1), labels=None if y0 is None or y1 is None else (y0, y1),
        pixel_threshold=pixels, feature_threshold=features,
    )  # fmt: skip


def _small(x: Tensor) -> Tensor:
    """The evaluation view as rows of at most 16 x 16 pixels a channel; clips by their mean picture."""
    x = x.float()
    if x.ndim == 5:
        x = x.mean(dim=2)
    side = min(_SIDE, x.shape[2], x.shape[3])
    return F.adaptive_avg_pool2d(x, side).flatten(1)
