"""What a video-language model answers, question by question, beside the most frequent answer and its own answers about another clip.

An answer counts if it is the right one letter by letter, case, surrounding space and a final stop aside. The answer about another clip
tells what the model would have said without looking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.recipe import resolve
from tacit.core.values import Record
from tacit.ops.intervals import wilson
from tacit.ops.text import unpacked
from tacit.probing import write_records
from tacit.reports import Result, Table
from tacit.runs.build import Built, restore, split_of
from tacit.training.runtime import choose_device

__all__ = ["Answered", "answered", "evaluate_answers"]

_MODEL, _OTHER, _MAJORITY = "answers", "answers about another clip", "most frequent answer"
_BATCH, _TOLD = 64, 4096  # clips at once; training answers of which the most frequent is taken
Given = dict[
    str, list[tuple[str, str, str]]
]  # model -> (question, its answer, the right one), in the order of the clips


@dataclass(frozen=True)
class Answered:
    """The share of right answers of every model, all together and question by question."""

    table: Table
    given: Given

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**vars(r), "differences": [vars(d) for d in r.differences]} for r in self.table.results]
        return {"results": rows, "answers": [list(one) for one in self.given[_MODEL]]}

    def text(self) -> str:
        """For people."""
        shown = "\n".join(
            f"{question} {answer!r}, right: {right!r}" for question, answer, right in self.given[_MODEL][:8]
        )
        return f"{self.table.to_text().rstrip()}\n\n{shown}"

    def plot(self, path: str | Path) -> Path:
        """There is no horizon here."""
        raise RecipeError(f"{path}: answers have no curve to draw: leave out the plot")


def evaluate_answers(paths: Sequence[str | Path], *, count: int = 256, overrides: Iterable[str] = ()) -> Answered:
    """Ask one run of system 'video-language' the questions of the first `count` clips of its test split."""
    if len(paths) != 1:
        raise RecipeError(f"video-language models are evaluated one at a time, found {len(paths)} run folders")
    path, texts = Path(paths[0]), list(overrides)
    built = restore(path)
    recipe = resolve(built.recipe, texts)
    if (recipe.system, recipe.views) != (built.recipe.system, built.recipe.views):
        raise RecipeError(f"{path} holds the system it was trained with: only data and machine can be changed here")
    given = answered(Built(recipe, built.source, built.views, built.system), count)
    if not texts:
        write_records(path / "answers", list(_records(given, str(path))))
    return Answered(_table(given), given)


@torch.no_grad()
def answered(built: Built, count: int = 256) -> Given:
    """All answers about the first clips of the test split."""
    device = choose_device(built.recipe.machine.device)
    system = built.system.to(device).eval()
    source, train = split_of(built.recipe, "test"), split_of(built.recipe, "train")
    count = min(count, len(source))
    if count < 2:
        raise DataError(f"answers are judged beside those about another clip: at least 2 are needed, found {count}")
    told = [train.read(range(at, min(at + _BATCH, len(train)))) for at in range(0, min(_TOLD, len(train)), _BATCH)]
    usual: dict[str, Counter[str]] = {}
    for batch in told:
        for question, answer in zip(unpacked(batch.facts["question"]), unpacked(batch.facts["answer"]), strict=True):
            usual.setdefault(question, Counter())[answer] += 1
    everything = sum(usual.values(), Counter[str]())
    found: Given = {_MODEL: [], _OTHER: [], _MAJORITY: []}
    for at in range(0, count, _BATCH):
        batch = built.views.plain(source.read(range(at, min(at + _BATCH, count)))).to(device)
        x: Any = batch.views["image"].data
        questions, right = unpacked(batch.facts["question"]), unpacked(batch.facts["answer"])
        said = {
            _MODEL: system.answers(x, questions),
            _OTHER: system.answers(x.roll(1, 0), questions),
            _MAJORITY: [usual.get(question, everything).most_common(1)[0][0] for question in questions],
        }
        for model, answers in said.items():
            found[model] += zip(questions, answers, right, strict=True)
    return found


def same(answer: str, right: str) -> bool:
    """Whether an answer is the right one."""
    return answer.strip().rstrip(".").casefold() == right.strip().rstrip(".").casefold()


def _records(given: Given, run: str) -> Iterable[Record]:
    for model, rows in given.items():
        for i, (question, answer, right) in enumerate(rows):
            yield Record(
                run=run, model=model, benchmark="answers@1", protocol="exact@1", item=str(i), group=question, prediction=answer,
                answer=right, correct=same(answer, right),
            )  # fmt: skip


def _table(given: Given) -> Table:
    results = []
    for asked in ("all", *dict.fromkeys(question for question, _, _ in given[_MODEL])):
        for model, rows in given.items():
            own = [same(answer, right) for question, answer, right in rows if asked in ("all", question)]
            at = wilson(sum(own), len(own))
            results.append(
                Result(
                    model=model,
                    protocol=f"{asked}, exact@1",
                    value=at.value,
                    low=at.low,
                    high=at.high,
                    n=len(own),
                    seeds=1,
                )
            )
    return Table(results, title="Answers", percent=True, intervals="95 %, Wilson over clips")
