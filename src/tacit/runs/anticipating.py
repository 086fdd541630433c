"""EPIC-KITCHENS-100 anticipation: verb, noun and action of what comes next, by heads on seen and predicted tokens.

Legend: n samples, T tokens, d features. The encoder sees frames that end `ahead` seconds before an anchor; the predictor says what stands
there at the anchor; one attentive probe with three queries reads both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.random import key, uniform
from tacit.core.recipe import from_plain
from tacit.data.video import VideoSource
from tacit.data.video_decoding import Video
from tacit.models import store
from tacit.models.probes import probe_of
from tacit.models.store import weights_digest
from tacit.models.token_store import TokenStore
from tacit.models.weights import read_file
from tacit.probing.evaluation import recorded
from tacit.probing.frozen import Frozen, frozen, is_frozen
from tacit.probing.frozen_heads import class_mean_recall, fit_heads
from tacit.probing.records import Records
from tacit.probing.subsets import folds
from tacit.reports import Result
from tacit.runs import target as targets
from tacit.runs.frozen import Reader
from tacit.runs.tasks import test_split
from tacit.views.spatial import spatial_views

__all__ = ["anticipate", "frames_before", "is_anticipation"]

_RATE, _AHEAD = 8.0, 1.0  # frames a second that the encoder sees; seconds of anticipation in the evaluation
_TRAINED = (
    (0.25, 1.75),
    (0.0, 0.25),
)  # seconds of anticipation, and shares of the action that the anchor moves into it
_AT_ONCE, _ROUNDS = 8, 200
TASKS = ("verb", "noun", "action")


def is_anticipation(name: str | Frozen) -> bool:
    """Whether a protocol anticipates actions."""
    return is_frozen(name) and frozen(name).task == "anticipation"


def frames_before(
    video: Video,
    how: Frozen,
    seconds: tuple[float, float],
    frames: tuple[int, int],
    ahead: float = _AHEAD,
    share: float = 0.0,
) -> NDArray[np.int64]:
    """The frames [1 t] that end `ahead` seconds before an action that lasts from seconds[0] to [1], as frames from frames[0] to [1].

    anchor 'start': before its start, moved by `share` of its length into it. 'official': before share start + (1 - share) stop, so that
    with a share of 0 it is the stop that is anticipated (facebookresearch/vjepa2 issue 173); frames by whole steps of int(rate / 8).
    Frames before the video's first are its first.
    """
    if how.anchor == "official":
        step = int(video.rate / _RATE)
        end = int(share * frames[0] + (1 - share) * frames[1] - ahead * video.rate)
        found = np.arange(end - how.frames * max(1, step), end, max(1, step))
    else:
        end_time = seconds[0] + share * (seconds[1] - seconds[0]) - ahead
        wanted = end_time - np.arange(how.frames, 0, -1) / _RATE
        found = np.searchsorted(video.times, wanted + 1e-6, side="right") - 1
    return found.clip(0, len(video.times) - 1)[None]


class _Reader(Reader):
    """Tokens [n T d] that are seen and that are predicted for the anchor, side by side."""

    def __init__(self, found: Any, how: Frozen, mask_index: int) -> None:
        super().__init__(found, how)
        self.predictor: Any = getattr(found.module, "predictor", None)
        if self.predictor is None or not hasattr(self.encoder, "grid_of"):
            raise RecipeError(
                f"protocol {how.name!r} asks a predictor what comes next, and {found.folder} has none: take a run of masked prediction, or "
                "a published model imported with --part system"
            )
        self._index = mask_index

    def _draws(self, i: int, epoch: int | None) -> tuple[float, float]:
        """Seconds of anticipation and share of the action, of a sample in an epoch; those of the evaluation for None."""
        if epoch is None:
            return _AHEAD, 0.0
        state = key(self.found.recipe.seed, "anticipate", epoch, i)
        (low, high), (first, last) = _TRAINED
        return low + (high - low) * uniform(state, 0), first + (last - first) * uniform(state, 1)

    def seen(self, source: VideoSource, rows: NDArray[np.int64], epoch: int | None) -> Tensor:
        """Tokens of samples `rows` of `source`."""
        windows, held = source.items.windows, source.factors  # type: ignore[attr-defined]

        def choose(i: int, video: Video) -> NDArray[np.int64]:
            ahead, share = self._draws(i, epoch)
            frames = int(held["start_frame"][i]), int(held["stop_frame"][i])
            return frames_before(video, self.how, (float(windows[i, 0]), float(windows[i, 1])), frames, ahead, share)

        clips = source.choosing(choose).read(rows).views["image"].data
        x = torch.stack([spatial_views(clip, self.size, 1)[0] for clip in clips])
        return self.with_future(x, [self._draws(int(i), epoch)[0] for i in rows])

    @torch.no_grad()
    def with_future(self, x: Tensor, ahead: Sequence[float]) -> Tensor:
        """Tokens of clips [n c f s s] in [0, 1], and one tubelet that is predicted `ahead` seconds later."""
        tokens = self.tokens(x)
        frames, rows, columns = self.encoder.grid_of(*x.shape[2:])
        plane, total = rows * columns, frames * rows * columns
        later = torch.tensor([int(one * _RATE / self.encoder.tubelet) for one in ahead], device=tokens.device)
        at = torch.arange(total, device=tokens.device).expand(len(x), -1)
        to = total + plane * later[:, None] + torch.arange(plane, device=tokens.device)
        grid = (frames + int(later.max()) + 1, rows, columns)
        index = min(self._index, len(self.predictor.mask_tokens) - 1)
        return torch.cat([tokens, self.predictor(tokens, at, to, grid=grid, mask_index=index)], dim=1)

    def kept(self, source: VideoSource) -> TokenStore:
        """The tokens of all samples at the anticipation of the evaluation, kept in the cache."""
        said = f"{source.digest()}{self.how.anchor}{self.how.frames}{self.size}{self._index}"
        name = hashlib.sha256(said.encode()).hexdigest()[:16]
        folder = targets.cache_of(self.found.folder) / "tokens" / weights_digest(self.found.module) / name
        n = len(source)
        chunks = (np.arange(at, min(at + _AT_ONCE, n)) for at in range(0, n, _AT_ONCE))
        return TokenStore.opened(folder, n) or TokenStore.written(
            folder, n, (self.seen(source, rows, None) for rows in chunks)
        )


def anticipate(
    path: str | Path, overrides: Iterable[str], protocols: Sequence[str | Frozen], *, head: str | Path | None = None
) -> tuple[list[Result], Records]:
    """Class-mean recall at 5 of verb, noun and action under each protocol, with a bootstrap over test samples; nothing is kept."""
    found, results, tables = _target(Path(path), list(overrides)), [], []
    for how in map(frozen, protocols):
        if how.task != "anticipation":
            raise DataError(f"protocol {how.name!r} classifies: name it apart from those that anticipate")
        sources = {"train": _videos(found.source("train")), "test": _videos(found.source(test_split(found)))}
        reader = _Reader(found, how, mask_index=0 if head is None else 1)
        known, maps = _labels(sources)
        scores = _published(reader, sources, maps, Path(head)) if head else _trained(reader, sources, known, maps, how)
        for task in TASKS:
            y = known["test"][task]
            recall = [class_mean_recall(one, y)[0] for one in scores[task]]
            best = int(np.argmax(recall))
            hit = class_mean_recall(scores[task][best], y)[1]
            low, high = _bootstrap(hit, y)
            name = f"{how.name}#{task}" + (f", head {Path(head).name}" if head else "")
            chance = min(1.0, 5 / len(maps[task]))
            results.append(
                Result(model="trained", protocol=name, value=recall[best], low=low, high=high, n=len(y), chance=chance)
            )
            item = np.arange(len(y))
            table = recorded(
                scores[task][best].argmax(dim=1), y, item, run=str(found.folder), model="trained", benchmark=f"epic-kitchens-100#{task}@1",
                protocol=how.name, seed=0,
            )  # fmt: skip
            tables.append(table)
    return results, Records.joined(tables)


def _target(path: Path, texts: list[str]) -> Any:
    """A run, or the export of a whole system with data named by overrides."""
    if (path / "recipe.yaml").is_file():
        return targets.load(path, texts)
    card = store.card(path)
    if card.spec.role != "system":
        raise RecipeError(
            f"{path} holds the {card.spec.role} {card.spec.kind!r}: anticipation needs the predictor too, import with --part system"
        )
    frame = {
        "system": {"kind": "masked-prediction"}, "views": {"kind": "context-target", "view": {"kind": "clip", "size": 16}, "masks": []},
        "optim": "sgd", "steps": 1, "batch": 2,
    }  # fmt: skip
    texts = [*texts, "views.masks=[{kind: random}]"]
    recipe: Any = from_plain(frame, texts)
    module = store.load(path)

    def source(split: str | None = None) -> Any:
        return (recipe.data.change(split=split) if split else recipe.data).build()

    return SimpleNamespace(
        folder=path, recipe=recipe, views=SimpleNamespace(facts=card.runtime), module=module, built=True, source=source
    )


def _videos(source: Any) -> VideoSource:
    lacking = [name for name in ("verb", "noun", "start_frame", "stop_frame") if name not in source.facts.factors]
    if not isinstance(source, VideoSource) or lacking:
        raise DataError(
            "anticipation reads EPIC-KITCHENS-100 as published: data=video data.path=FOLDER with EPIC_100_train.csv in it"
        )
    return source


def _labels(sources: dict[str, VideoSource]) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[Any]]]:
    """Numbers of classes by split and task, and the classes of each task: those that training has."""
    train = sources["train"]
    maps: dict[str, list[Any]] = {task: sorted(set(train.factors[task].tolist())) for task in ("verb", "noun")}
    found: dict[str, dict[str, Tensor]] = {}
    for split, source in sources.items():
        found[split] = {"action": torch.from_numpy(np.asarray(source.labels))}
        for task, classes in maps.items():
            place = {value: i for i, value in enumerate(classes)}
            found[split][task] = torch.tensor([place[value] for value in source.factors[task].tolist()])
    return found, {**maps, "action": list(train.classes)}


def _trained(
    reader: _Reader,
    sources: dict[str, VideoSource],
    known: dict[str, dict[str, Tensor]],
    maps: dict[str, list[Any]],
    how: Frozen,
) -> dict[str, Tensor]:
    """Scores [g n c] of each task on the test set: of the head chosen on held-out training samples, or of all heads for 'best'."""
    labels, n = known["train"], len(sources["train"])
    classes = {task: len(maps[task]) for task in TASKS}
    kept = None if how.streamed else reader.kept(sources["train"])

    def of(epoch: int, rows: NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
        x = reader.seen(sources["train"], rows, epoch) if kept is None else kept.rows(rows).to(reader.device)
        return x, {task: labels[task][torch.from_numpy(rows)].to(x.device) for task in TASKS}

    dim, rows, pairs = int(reader.encoder.dim), np.arange(n), None
    part = None if how.best else folds(labels["action"].numpy(), None, seed=0, rounds=1)
    if part is not None:
        inside = np.flatnonzero(part == 0)
        grid = fit_heads(of, np.flatnonzero(part != 0), classes, dim, how)
        with torch.no_grad():
            held = torch.cat(
                [grid(of(0, inside[at : at + 64])[0].float())["action"] for at in range(0, len(inside), 64)], dim=1
            )
        recall = [class_mean_recall(one, labels["action"][torch.from_numpy(inside)].to(one.device))[0] for one in held]
        pairs = (how.pairs[int(np.argmax(recall))],)
    grid = fit_heads(of, rows, classes, dim, how, pairs=pairs if part is not None or how.best else how.pairs[:1])
    return _scores(reader, sources["test"], grid)


def _published(
    reader: _Reader, sources: dict[str, VideoSource], maps: dict[str, list[Any]], path: Path
) -> dict[str, Tensor]:
    """Scores of a released head, whose classes must be as many as the data have."""
    head = probe_of(read_file(path), path)
    sizes = {task: getattr(head, f"{task}_classifier").out_features for task in head.tasks}
    wanted = {task: len(maps[task]) for task in TASKS}
    if sizes != wanted:
        raise CheckpointError(
            f"{path}: the head has the classes {sizes or 'of one task'}, the training list has {wanted}: take the published list with "
            "data.actions=official"
        )
    head.to(reader.device)
    return _scores(reader, sources["test"], lambda x: {task: one[None] for task, one in head(x).items()})


@torch.no_grad()
def _scores(reader: _Reader, source: VideoSource, heads: Any) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {task: [] for task in TASKS}
    for at in range(0, len(source), _AT_ONCE):
        logits = heads(reader.seen(source, np.arange(at, min(at + _AT_ONCE, len(source))), None).float())
        for task in TASKS:
            parts[task].append(logits[task].cpu())
    return {task: torch.cat(found, dim=1) for task, found in parts.items()}


def _bootstrap(hit: Tensor, labels: Tensor) -> tuple[float, float]:
    """A 95 % interval of the class-mean recall over drawings of the samples with replacement."""
    draw = np.random.Generator(np.random.Philox(key=key("bootstrap")))
    right, y, n = hit.double().numpy(), labels.numpy(), len(labels)
    found = []
    for _ in range(_ROUNDS):
        rows = draw.integers(n, size=n)
        _, place = np.unique(y[rows], return_inverse=True)
        found.append(float((np.bincount(place, right[rows]) / np.bincount(place)).mean()))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
