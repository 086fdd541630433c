"""Questions and answers about videos on disk: a file of JSON lines beside the videos, what a language model is taught to see with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.data.video_decoding import open_video
from tacit.ops.text import packed

__all__ = ["VideoQuestions"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _Line:
    video: Path
    question: str
    answer: str


@part("source", "video-questions")
class VideoQuestions:
    """A line {"video": "a.mp4", "question": "What happens?", "answer": "..."} a sample; videos lie beside the file, or where it says.

    path: a file of JSON lines, or a folder with `<split>.jsonl`. A caption is an answer to any question. Of a video `frames` pictures are
    taken at even distances from its first to its last, the middle square of each, `side` wide: view 'image' is uint8 [n 3 t side side].
    Facts: question and answer, texts as bytes (`tacit.ops.text`). Every line is checked when the file is opened, videos when they are read.
    """

    def __init__(
        self, *, path: str, frames: Annotated[int, Ge(1)] = 16, side: Annotated[int, Ge(16)] = 256, split: str = "train"
    ) -> None:
        place = Path(path) / f"{split}.jsonl" if Path(path).is_dir() else Path(path)
        if not place.is_file():
            raise DataError(
                f"{place}: there is no such file of questions; a line reads "
                + '{"video": ..., "question": ..., "answer": ...}'
            )
        self._frames, self._side = frames, side
        self._lines = [
            _read(line, number, place)
            for number, line in enumerate(place.read_text("utf-8").splitlines(), 1)
            if line.strip()
        ]
        if not self._lines:
            raise DataError(f"{place} holds no questions")
        self._longest = {
            name: max(len(getattr(one, name).encode()) for one in self._lines) for name in ("question", "answer")
        }
        self._digest = hashlib.sha256(place.read_bytes() + repr((frames, side)).encode()).hexdigest()[:16]
        self.facts = Facts(channels=3, shape=(frames, side, side), mean=_MEAN, std=_STD, factors=("question", "answer"))

    def __len__(self) -> int:
        return len(self._lines)

    def digest(self) -> str:
        """Changes with the file of questions and the settings."""
        return self._digest

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices with a question each."""
        ids = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(ids) and (ids.min() < 0 or ids.max() >= len(self)):
            raise DataError(f"questions are numbered from 0 to {len(self) - 1}, found {ids.min()} to {ids.max()}")
        lines = [self._lines[i] for i in ids.tolist()]
        clips = torch.stack([self._clip(line.video) for line in lines])
        facts = {
            name: packed([getattr(line, name) for line in lines], self._longest[name])
            for name in ("question", "answer")
        }
        return Batch({"image": View(clips)}, torch.from_numpy(ids), facts=facts)

    def _clip(self, video: Path) -> Tensor:
        """uint8 [3 t side side]."""
        try:
            with open_video(video) as opened:
                at = np.linspace(0, len(opened.times) - 1, self._frames).round().astype(np.int64)
                frames = opened.frames(at)
        except DataError as error:
            raise DataError(f"{video}: {error}") from error
        height, width = frames.shape[-2:]
        own = min(height, width)
        top, left = (height - own) // 2, (width - own) // 2
        square = frames[..., top : top + own, left : left + own].transpose(0, 1).float()
        small = F.interpolate(square, (self._side, self._side), mode="bilinear", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8).transpose(0, 1)


def _read(line: str, number: int, place: Path) -> _Line:
    try:
        given = json.loads(line)
        texts = [given[name] for name in ("video", "question", "answer")]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place}, line {number}: needs video, question and answer as JSON ({error!r})") from error
    if not all(isinstance(text, str) and "\0" not in text for text in texts) or not texts[2]:
        raise DataError(f"{place}, line {number}: video, question and answer are texts, and the answer is not empty")
    return _Line(place.parent / texts[0], texts[1], texts[2])
