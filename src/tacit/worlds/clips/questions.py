"""Questions about generated clips, with their answers: what a language model is taught to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.parts import part
from tacit.core.random import key, uniform
from tacit.core.values import Batch
from tacit.ops.text import packed
from tacit.worlds.clips.source import DIRECTIONS, ClipSource, Grey

__all__ = ["QUESTIONS", "ClipQuestions", "answer"]

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
QUESTIONS = {
    "direction": "Which way does the digit move?",
    "identity": "Which digit moves?",
    "count": "How many shapes are behind it?",
    "place": "Where is the digit at first?",
    "caption": "What happens?",
}
_LONGEST = {"question": max(map(len, QUESTIONS.values())), "answer": 96}


def answer(kind: str, facts: dict[str, Tensor], i: int, side: int) -> str:
    """The answer to a question of this kind about clip i."""
    way, digit, shapes = (
        DIRECTIONS[int(facts["direction"][i])],
        _NUMBERS[int(facts["identity"][i])],
        _NUMBERS[int(facts["count"][i])],
    )
    y, x = (float(v) for v in facts["position"][i])
    place = f"{'top' if y < side / 2 else 'bottom'} {'left' if x < side / 2 else 'right'}"
    if kind == "caption":
        return f"The digit {digit} moves {way} from the {place}, {shapes} behind it."
    return {"direction": way, "identity": digit, "count": shapes, "place": place}[kind]


@part("source", "clip-questions")
class ClipQuestions:
    """The clips of the source 'clips', each with a question about it and the answer.

    View 'image' as there. Facts beside its: question and answer, texts as bytes (`tacit.ops.text`), and `asked`, the number of the
    question in QUESTIONS. `about` 'caption' asks what happens, the others are asked by chance, a function of (seed, split, sample), from
    direction, identity, count and place (the quarter of the picture where the digit starts). ground: as there.
    """

    def __init__(
        self,
        *,
        about: Literal["caption", "questions"] = "questions",
        count: Annotated[int, Ge(1)] = 20_000,
        frames: Annotated[int, Ge(2)] = 8,
        side: Annotated[int, Ge(24)] = 24,
        shapes: Annotated[int, Ge(0)] = 2,
        channels: Literal[1, 3] = 1,
        ground: tuple[Grey, Grey] = (0.35, 0.65),
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self._clips = ClipSource(
            count=count,
            frames=frames,
            side=side,
            shapes=shapes,
            channels=channels,
            ground=ground,
            split=split,
            seed=seed,
        )
        self._about, self._split, self._seed, self._side = about, split, seed, side
        self.facts = replace(
            self._clips.facts, classes=(), factors=(*self._clips.facts.factors, "question", "answer", "asked")
        )

    def __len__(self) -> int:
        return len(self._clips)

    def digest(self) -> str:
        """Changes with every setting."""
        return f"{self._clips.digest()}{'c' if self._about == 'caption' else 'q'}"

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices with a question each."""
        batch = self._clips.read(indices)
        facts = {name: value for name, value in batch.facts.items() if name != "label"}
        names = list(QUESTIONS)
        asked = [self._asked(int(i)) for i in batch.ids]
        answers = [answer(names[kind], facts, i, self._side) for i, kind in enumerate(asked)]
        facts |= {
            "question": packed([QUESTIONS[names[kind]] for kind in asked], _LONGEST["question"]),
            "answer": packed(answers, _LONGEST["answer"]),
            "asked": torch.tensor(asked),
        }
        return Batch(batch.views, batch.ids, facts=facts)

    def _asked(self, i: int) -> int:
        if self._about == "caption":
            return list(QUESTIONS).index("caption")
        return int(uniform(key(self._seed, "questions", self._split, i), 0) * (len(QUESTIONS) - 1))
