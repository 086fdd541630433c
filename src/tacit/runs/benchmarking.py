"""`evaluate`: the benchmark that belongs to a system, over one or several runs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tacit import recipes
from tacit.core.errors import CheckpointError, RecipeError
from tacit.runs.action_report import evaluate_actions
from tacit.runs.answering import evaluate_answers
from tacit.runs.imagining import evaluate_world_models
from tacit.runs.latents import evaluate_latents
from tacit.runs.reporting import report
from tacit.runs.stepping import evaluate_steppers

__all__ = ["evaluate"]

BENCHMARKS: dict[str, Callable[..., Any]] = {
    "time-stepping": evaluate_steppers,
    "world-model": evaluate_world_models,
    "latent-action": evaluate_latents,
    "action-conditioned": evaluate_actions,
    "video-language": evaluate_answers,
}
"""By kind of system: (paths, count=..., overrides=...) -> a value with text(), to_plain() and plot(path)."""


def evaluate(
    paths: Sequence[str | Path], overrides: Iterable[str] = (), *, count: int = 256, plot: str | Path | None = None
) -> Any:
    """Evaluate runs side by side on `count` items of their test data, keep one row an item in each, and renew their reports.

    Runs that differ in their seed alone are one model. plot: a file to draw into.
    """
    kinds = {path: _kind(Path(path)) for path in paths}
    if len(set(kinds.values())) > 1:
        raise RecipeError(f"runs of different systems share no benchmark: {', '.join(sorted(set(kinds.values())))}")
    kind = next(iter(kinds.values()), "time-stepping")
    if kind not in BENCHMARKS:
        raise RecipeError(
            f"system {kind!r} has no benchmark here, {', '.join(sorted(BENCHMARKS))} have one. `tacit probe` and `tacit judge` look at"
            " representations"
        )
    texts = list(overrides)
    found = BENCHMARKS[kind](paths, count=count, overrides=texts)
    if plot is not None:
        found.plot(plot)
    if not texts:
        for path in paths:
            report(path)
    return found


def _kind(path: Path) -> str:
    if not (path / "recipe.yaml").is_file():
        raise CheckpointError(f"{path} is no run folder: it has no recipe.yaml. Runs lie in runs/<name>/<time>")
    return recipes.load(path).system.kind
