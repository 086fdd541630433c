"""Evaluation of features with labels: several models under several protocols, one Record per test item; and their summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.values import Record
from tacit.ops.intervals import Interval, paired_interval, t_interval, wilson
from tacit.probing.arrays import as_features, as_labels, check_pair, check_unseen
from tacit.probing.knn import knn
from tacit.probing.linear import Fitted, fit_logistic, fit_sgd
from tacit.probing.logistic import fit_strengths
from tacit.probing.protocols import DEFAULT, Protocol, Published, protocol
from tacit.probing.published import fit_published
from tacit.probing.records import Records
from tacit.probing.ridge import fit_ridge
from tacit.probing.subsets import as_ids, low_shot, share

__all__ = ["Row", "bank", "evaluate", "fit_head", "recorded", "summary"]


def evaluate(
    features: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, Any],
    ids: Mapping[str, Any] | None = None,
    *,
    protocols: Sequence[str | Protocol | Published] = DEFAULT,
    seeds: int = 10,
    run: str = "",
    benchmark: str = "features@1",
) -> Records:
    """One Record per test item, protocol, seed and model.

    features: model name -> {'train': [n d], 'test': [m d]}; the models may differ in d. labels and ids: {'train': [n], 'test':
    [m]}, shared by all models; without ids samples are counted. Protocols that draw labels per class run under seeds 0 ..
    seeds - 1, the same labels for every model; the others once, under seed 0. Record.score is the share of votes (k-NN), the
    probability (linear, sgd) or the fitted value (ridge) of the predicted class.
    """
    if not features:
        raise DataError("evaluate needs the features of at least one model, found none")
    if seeds < 1:
        raise DataError(f"evaluate needs at least one seed, found {seeds}")
    asked = [protocol(name) for name in protocols]
    y = {split: as_labels(labels.get(split), split) for split in ("train", "test")}
    check_unseen(y["train"], y["test"])
    item = {split: as_ids(ids.get(split) if ids else None, len(y[split]), split) for split in y}
    classes = int(y["train"].max()) + 1
    words = pa.array([str(c) for c in range(classes)])
    answer = pa.DictionaryArray.from_arrays(pa.array(y["test"].cpu().numpy().astype(np.int32)), words)
    items = pa.array(item["test"]).cast(pa.string())
    tables = []
    for model, splits in features.items():
        z = {}
        for split in y:
            if split not in splits:
                raise DataError(f"model {model!r} has no {split} features: give 'train' and 'test'")
            z[split] = as_features(splits[split], f"{model}: {split}")
            check_pair(z[split], y[split], f"{model}: {split}")
        for how, seed, prediction, score in _predictions(z, y, item["train"], asked, classes, seeds):
            made = prediction.cpu().numpy().astype(np.int32)
            tables.append(
                Records.of(
                    len(made),
                    run=run,
                    model=model,
                    benchmark=benchmark,
                    protocol=how.name,
                    item=items,
                    prediction=pa.DictionaryArray.from_arrays(pa.array(made), words),
                    answer=answer,
                    score=pa.array(score.double().cpu().numpy()),
                    correct=pa.array(made == y["test"].cpu().numpy()),
                    seed=seed,
                )
            )
    return Records.joined(tables)


def _predictions(
    z: dict[str, Tensor],
    y: dict[str, Tensor],
    ids: NDArray[np.int64],
    asked: Sequence[Protocol | Published],
    classes: int,
    seeds: int,
) -> list[tuple[Protocol | Published, int, Tensor, Tensor]]:
    """(protocol, seed, prediction [m], score [m]) for one model; all k of one bank and temperature from one search."""
    found: list[tuple[Protocol | Published, int, Tensor, Tensor]] = []
    searches: dict[Protocol, list[int]] = {}
    for how in asked:
        if isinstance(how, Protocol) and how.probe == "knn":
            searches.setdefault(replace(how, k=1), []).append(how.k)
    for how in asked:
        for seed in range(seeds if how.drawn else 1):
            if how.probe == "knn":
                continue
            x, t, i = bank(z, y, ids, how, seed)
            fitted = fit_head(how, x, t, i, classes, seed)
            logits = fitted.logits(z["test"])
            best = (logits if how.probe == "ridge" else logits.softmax(dim=1)).max(dim=1)
            found.append((how, seed, logits.max(dim=1).indices, best.values))
    for shared, ks in searches.items():
        for seed in range(seeds if shared.drawn else 1):
            x, t, _ = bank(z, y, ids, shared, seed)
            for k, result in knn(x, t, z["test"], k=ks, temperature=shared.temperature).items():
                found.append((replace(shared, k=k), seed, result.prediction, result.score))
    place = {how.name: at for at, how in enumerate(asked)}
    return sorted(found, key=lambda one: (place[one[0].name], one[1]))


def recorded(
    made: Tensor, answer: Tensor, item: NDArray[np.int64], *, score: Tensor | None = None, **names: Any
) -> Records:
    """Records of predictions [m] beside answers [m]; `names`: run, model, benchmark, protocol, seed."""
    guess, right = made.cpu().numpy(), answer.cpu().numpy()
    scored = {} if score is None else {"score": pa.array(score.double().cpu().numpy())}
    return Records.of(
        len(guess),
        item=pa.array(item).cast(pa.string()),
        prediction=pa.array(guess).cast(pa.string()),
        answer=pa.array(right).cast(pa.string()),
        correct=pa.array(guess == right),
        **scored,
        **names,
    )


def fit_head(how: Protocol | Published, x: Tensor, t: Tensor, ids: Any, classes: int, seed: int) -> Fitted:
    """The linear classifier of a protocol that is not k-NN, fitted to features x [n d] and labels t [n]."""
    if isinstance(how, Published):
        if not how.cached:
            raise DataError(
                f"protocol {how.name!r} augments the pictures anew each epoch, and these are features: use "
                f"{replace(how, cached=True).name!r}, or probe a run or a model folder"
            )
        return fit_published(x, t, how, ids=ids, classes=classes, seed=seed)
    if how.probe == "attentive":
        raise DataError(
            f"protocol {how.name!r} reads tokens, and these are pooled features: probe a run or a model folder"
        )
    if how.probe == "linear":
        return fit_logistic(x, t, ids=ids, classes=classes, seed=seed)
    if how.probe == "logistic":
        return fit_strengths(x, t, ids=ids, classes=classes, seed=seed)
    if how.probe == "sgd":
        return fit_sgd(x, t, ids=ids, classes=classes, seed=seed)
    return fit_ridge(x, t, classes=classes)


def bank(
    z: Mapping[str, Tensor], y: Mapping[str, Tensor], ids: NDArray[np.int64], how: Protocol | Published, seed: int
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Features, labels and ids of the training samples that a protocol learns from under a seed."""
    if not isinstance(how, Protocol) or not how.drawn:
        return z["train"], y["train"], ids
    known = y["train"].cpu().numpy()
    chosen = low_shot(known, ids, how.per_class, seed) if how.per_class else share(known, ids, how.percent or 100, seed)
    at = torch.as_tensor(chosen)
    return z["train"][at.to(z["train"].device)], y["train"][at.to(y["train"].device)], ids[chosen]


@dataclass(frozen=True)
class Row:
    """A number with its card: accuracy in [0, 1] with its interval, over n test items and some seeds, beside chance.

    `difference` is accuracy minus that of `baseline` on the same items and seeds, with its interval; None for the baseline
    itself or without one.
    """

    model: str
    benchmark: str
    protocol: str
    accuracy: float
    low: float
    high: float
    n: int
    seeds: int
    chance: float
    baseline: str = ""
    difference: Interval | None = None


def summary(records: Sequence[Record], *, baseline: str | None = None, level: float = 0.95) -> list[Row]:
    """One row per benchmark, protocol and model.

    Interval: Wilson's over the items for one seed; Student's over the seeds' accuracies for several. Difference to `baseline`
    (a model's name): paired over the items for one seed, over the seeds for several. Chance: always naming the most frequent
    answer of the test items.
    """
    table = records if isinstance(records, Records) else Records(records)
    if not len(table):
        raise DataError("a summary needs records, found none")
    cells = {names: _cell(part) for names, part in table.groups("benchmark", "protocol", "model").items()}
    models = list(dict.fromkeys(model for _, _, model in cells))
    if baseline is not None and baseline not in models:
        raise UnknownNameError(unknown("model", baseline, models, "The baseline must be among the records."))
    rows = []
    for (benchmark, how, model), (right, items, chance) in cells.items():
        by_seed = right.mean(axis=1)
        if len(by_seed) == 1:
            value = wilson(int(right.sum()), right.shape[1], level)
        else:
            value = t_interval(by_seed, level)
        other = cells.get((benchmark, how, baseline or ""))
        difference = None
        if other is not None and model != baseline:
            if right.shape != other[0].shape or items != other[1]:
                raise DataError(
                    f"{benchmark} {how}: {model!r} and {baseline!r} have different items or seeds: evaluate both on one test set"
                )
            pairs = (right[0], other[0][0]) if len(by_seed) == 1 else (by_seed, other[0].mean(axis=1))
            difference = paired_interval(*pairs, level)
        rows.append(
            Row(
                model, benchmark, how, *value, n=right.shape[1], seeds=len(by_seed), chance=chance,
                baseline=(baseline or "") if difference else "", difference=difference,
            )
        )  # fmt: skip
    return rows


def _cell(part: Records) -> tuple[NDArray[np.float64], list[str], float]:
    """Right or wrong [seeds, items] with seeds and items in order, the items, and the share of the most frequent answer."""
    item = np.asarray(part.column("item").to_pylist())
    seed = part.table["seed"].to_numpy()
    if part.table["correct"].null_count:
        raise DataError(
            f"{part.table['correct'].null_count} records do not say whether they are correct: they have no accuracy"
        )
    right = part.table["correct"].to_numpy().astype(np.float64)
    names, place = np.unique(item, return_inverse=True)
    found, row = np.unique(seed, return_inverse=True)
    if len(item) != len(names) * len(found) or len(set(zip(place.tolist(), row.tolist(), strict=True))) != len(item):
        raise DataError("every item must have one record per seed: some are missing or occur twice")
    grid = np.empty((len(found), len(names)))
    grid[row, place] = right
    answers = part.only(seed=int(found[0])).column("answer").to_pylist()
    chance = max(answers.count(a) for a in set(answers)) / len(answers)
    return grid, names.tolist(), chance
