"""Frozen evaluation of encoders of clips: attentive heads on tokens of several segments and spatial views. Legend: n samples, T tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.protocols import Source
from tacit.core.spec import Spec
from tacit.core.values import Batch
from tacit.data.video import VideoSource
from tacit.data.video_sampling import Sampling
from tacit.models.attentive import AttentiveProbe
from tacit.models.probes import probe_of
from tacit.models.store import weights_digest
from tacit.models.token_store import TokenStore
from tacit.models.tubelets import Tubelets
from tacit.models.weights import read_file
from tacit.probing.arrays import check_unseen
from tacit.probing.evaluation import recorded
from tacit.probing.frozen import Frozen, frozen
from tacit.probing.frozen_heads import fit_heads
from tacit.probing.records import Records
from tacit.probing.subsets import as_ids, folds
from tacit.runs import target as targets
from tacit.training.runtime import choose_device
from tacit.views.spatial import spatial_views

__all__ = ["Reader", "encoder_of", "frozen_records", "head_records", "labels_of", "pixels_of"]

_AT_ONCE = 8  # videos whose clips are held decoded and encoded together
_MOST, _NUMBERS = 256, 1 << 21  # more of them, where they are small: the number of clips, and of pixels in them
_TAPS = {24: (17, 19, 21, 23), 32: (25, 27, 29, 31), 40: (24, 29, 34, 39)}  # as published for ViT-L, H and g


def encoder_of(found: targets.Target) -> Any:
    """The encoder that is evaluated: of a run with a teacher the averaged one, as published; otherwise the run's or the export's own."""
    if not found.built:
        return found.module
    averaged = getattr(getattr(found.module, "target", None), "encoder", None)
    return found.module.encoder if averaged is None else averaged


def pixels_of(found: targets.Target) -> targets.Target | None:
    """The tubelets themselves in the place of the encoder; None where the encoder reads no clips of one size."""
    encoder, facts = encoder_of(found), found.views.facts
    if getattr(encoder, "tubelet", None) is None or facts.shape is None:
        return None
    return replace(found, module=Tubelets(facts, patch=int(encoder.patch), tubelet=int(encoder.tubelet)), built=None)


class Reader:
    """Tokens [n T d] of the samples of a source under a protocol: all segments of a video side by side, of one spatial view."""

    def __init__(self, found: targets.Target, how: Frozen) -> None:
        self.found, self.how = found, how
        self.encoder: Any = encoder_of(found)
        facts = found.views.facts
        if getattr(self.encoder, "tubelet", None) is None:
            raise RecipeError(
                f"protocol {how.name!r} reads clips, and this encoder takes images: evaluate one of clips (encoder=vit with a tubelet)"
            )
        if facts.shape is None:
            raise DataError(
                f"protocol {how.name!r} needs the size that the encoder was trained for, and its views have none: crop in the views"
            )
        self.size = int(facts.shape[-1])
        mean, std = facts.mean or (0.0,) * facts.channels, facts.std or (1.0,) * facts.channels
        self._mean, self._std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (mean, std))
        self.device = choose_device(found.recipe.machine.device)
        found.module.to(self.device).eval()

    def clips(
        self, source: Source, rows: Sequence[int] | NDArray[np.int64], epoch: int | None = None
    ) -> tuple[list[Tensor], Batch]:
        """The clips [c s*t h w] of some samples, uint8 or in [0, 1], and their batch; images stand still."""
        how = self.how
        if isinstance(source, VideoSource):
            position = "random" if epoch is not None else "uniform"
            videos = source.sampled(Sampling(how.frames, how.step, how.fps, None, how.segments, position))  # type: ignore[arg-type]
            videos = videos if epoch is None else videos.at(self.found.recipe.seed, epoch)
            batch = videos.read(rows)
        else:
            batch = source.read(rows)
        made = []
        for clip in batch.views["image"].data:
            still = clip[:, None].expand(-1, how.frames, -1, -1) if clip.ndim == 3 else clip
            if (clip.ndim == 3) != (how.task == "image") or still.shape[1] != how.frames * how.segments:
                raise DataError(
                    f"protocol {how.name!r} takes {how.segments} clips of {how.frames} frames of a video, or images for the task 'image', "
                    f"and the samples are {'images' if clip.ndim == 3 else f'clips of {clip.shape[1]} frames'}: choose a protocol that fits"
                )
            made.append(still)
        return made, batch

    @torch.no_grad()
    def tokens(self, seen: Tensor) -> Tensor:
        """[n T d] of views [n c s*t s s] in [0, 1]."""
        how, n = self.how, len(seen)
        x = ((seen - self._mean) / self._std).to(self.device)
        x = x.unflatten(2, (how.segments, how.frames)).transpose(1, 2).flatten(0, 1)
        if how.taps:
            depth = len(self.encoder.blocks)
            found = torch.cat(
                self.encoder.layer_tokens(x, _TAPS.get(depth, tuple(range(max(0, depth - 4), depth)))), dim=1
            )
        else:
            found = self.encoder(x).tokens
        return found.unflatten(0, (n, how.segments)).flatten(1, 2)

    def views(self, source: Source, count: int, rows: NDArray[np.int64]) -> Iterator[tuple[list[Tensor], Batch]]:
        """For a few samples at a time: their tokens under each of `count` spatial views, and their batch."""
        each = self.how.segments * self.how.frames * len(self._mean) * self.size**2
        at_once = max(_AT_ONCE, min(_MOST, _NUMBERS // each))
        for start in range(0, len(rows), at_once):
            clips, batch = self.clips(source, rows[start : start + at_once])
            seen = torch.stack([spatial_views(clip, self.size, count) for clip in clips])
            yield [self.tokens(seen[:, view]) for view in range(count)], batch

    def store(self, source: Source) -> TokenStore:
        """The tokens of all samples, of the central view, kept in the cache beside the runs."""
        how, n = self.how, len(source)
        said = f"{source.digest()}{how.frames}x{how.segments}{how.step}{how.fps}{how.taps}{self.size}{self._mean}{self._std}"
        name = hashlib.sha256(said.encode()).hexdigest()[:16]
        folder = targets.cache_of(self.found.folder) / "tokens" / weights_digest(self.encoder) / name
        kept = TokenStore.opened(folder, n)
        if kept is not None:
            return kept
        return TokenStore.written(folder, n, (views[0] for views, _ in self.views(source, 1, np.arange(n))))

    def crops(self, source: Source, epoch: int, rows: NDArray[np.int64]) -> Tensor:
        """Tokens of an epoch under random crops of 0.08 to 1 of the area, the same in every frame of a video."""
        clips, batch = self.clips(source, rows, epoch)
        view: Any = (
            Spec("view", "clip", size=self.size, scale=(0.08, 1.0), ratio=(0.75, 1.333), flip=0.0)
            .resolve()
            .build(source.facts)
        )
        how = view(clips, batch.ids, self.found.recipe.seed, epoch, 0).how
        cut = []
        for clip, (top, left, height, width) in zip(clips, how["box"].tolist(), strict=True):
            part = clip[:, :, top : top + height, left : left + width].float()
            part = part / 255 if clip.dtype == torch.uint8 else part
            cut.append(
                torch.nn.functional.interpolate(part, size=(self.size, self.size), mode="bilinear", align_corners=False)
            )
        return self.tokens(torch.stack(cut))


def labels_of(source: Source) -> tuple[Tensor, Tensor]:
    """Labels and ids [n] of all samples, without decoding videos."""
    known, ids = getattr(source, "labels", None), getattr(source, "ids", None)
    if known is not None and ids is not None:
        return torch.from_numpy(np.asarray(known)), torch.from_numpy(np.asarray(ids))
    batch = source.read(np.arange(len(source)))
    if "label" not in batch.facts:
        raise DataError("the data have no labels: probing needs them; `tacit judge` does without")
    return batch.facts["label"], batch.ids


def frozen_records(
    models: Mapping[str, targets.Target],
    sources: Mapping[str, Source],
    names: Sequence[str | Frozen],
    *,
    run: str,
    benchmark: str,
) -> Records:
    """One record a test sample for each protocol and model; classes are those of train."""
    labels, ids = {}, {}
    for split, source in sources.items():
        labels[split], found = labels_of(source)
        ids[split] = as_ids(found.numpy(), len(source), split)
    check_unseen(labels["train"], labels["test"])
    classes, rows = int(labels["train"].max()) + 1, np.arange(len(sources["train"]))
    tables = []
    for how in map(frozen, names):
        part = (
            None if how.best or len(how.pairs) == 1 else folds(labels["train"].numpy(), ids["train"], seed=0, rounds=1)
        )
        for model, one in models.items():
            reader = Reader(one, how)
            tokens_of, dim = _training_tokens(reader, sources["train"], labels["train"])
            pairs = how.pairs
            if part is not None:
                inside = np.flatnonzero(part == 0)
                grid = fit_heads(tokens_of, np.flatnonzero(part != 0), classes, dim, how)
                right = torch.cat(
                    [_right(grid, *tokens_of(0, inside[at : at + 64])) for at in range(0, len(inside), 64)], dim=1
                )
                pairs = (how.pairs[int(right.double().mean(dim=1).argmax())],)
            elif not how.best:
                pairs = how.pairs[:1]  # too few labels to hold some out
            grid = fit_heads(tokens_of, rows, classes, dim, how, pairs=None if how.best else pairs)
            probability = _scored(reader, sources["test"], grid)
            at = int((probability.argmax(dim=2) == labels["test"]).double().mean(dim=1).argmax())
            best = probability[at].max(dim=1)
            tables.append(
                recorded(
                    best.indices, labels["test"], ids["test"], score=best.values, run=run, model=model, benchmark=benchmark,
                    protocol=how.name, seed=0,
                )
            )  # fmt: skip
    return Records.joined(tables)


def _training_tokens(reader: Reader, source: Source, labels: Tensor) -> tuple[Any, int]:
    """What gives tokens and labels of rows of an epoch, and the width of a token."""
    if reader.how.streamed:

        def of(epoch: int, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            return reader.crops(source, epoch, rows), labels[torch.from_numpy(rows)].to(reader.device)

        return of, int(reader.encoder.dim)
    kept = reader.store(source)

    def held(_: int, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        return kept.rows(rows).to(reader.device), labels[torch.from_numpy(rows)].to(reader.device)

    return held, kept.tokens.shape[2]


@torch.no_grad()
def _right(grid: Any, x: Tensor, y: Tensor) -> Tensor:
    return (grid(x).argmax(dim=-1) == y).cpu()  # type: ignore[no-any-return]


@torch.no_grad()
def _scored(reader: Reader, source: Source, heads: Any) -> Tensor:
    """Softmax of every head averaged over spatial views [g n c], in the order of the source."""
    found = []
    for views, _ in reader.views(source, reader.how.views, np.arange(len(source))):
        each = [heads(tokens.float()).softmax(dim=-1) for tokens in views]
        found.append(torch.stack(each).mean(dim=0).cpu())
    return torch.cat(found, dim=1)


def head_records(
    found: targets.Target,
    source: Source,
    name: str | Frozen,
    file: str | Path,
    *,
    number: int = 0,
    run: str,
    benchmark: str,
) -> Records:
    """Records of a published head, scored as it is: nothing is trained. Its classes must be numbered as those of the data are."""
    how, path = frozen(name), Path(file)
    head: AttentiveProbe = probe_of(read_file(path), path, number=number)
    reader = Reader(found, how)
    if head.pooler.dim != reader.encoder.dim:
        raise CheckpointError(
            f"{path}: the head reads tokens of {head.pooler.dim} numbers, and the encoder gives {reader.encoder.dim}: take its own head"
        )
    if head.tasks:
        raise CheckpointError(
            f"{path}: the head has the tasks {', '.join(head.tasks)}: score it with vjepa2/anticipation,official"
        )
    labels, ids = labels_of(source)
    classes = head.linear.out_features
    if int(labels.max()) >= classes:
        raise DataError(
            f"{path}: the head knows {classes} classes, and the data have a label {int(labels.max())}: "
            "give the list that it was trained with"
        )
    head.to(reader.device)
    best = _scored(reader, source, lambda x: head(x)[None])[0].max(dim=1)
    return recorded(
        best.indices, labels, as_ids(ids.numpy(), len(labels), "test"), score=best.values, run=run, model="trained", benchmark=benchmark,
        protocol=f"{how.name}, head {path.name}", seed=0,
    )  # fmt: skip
