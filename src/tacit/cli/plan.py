"""`tacit plan`: act in a world with the world model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.look import Json, Overrides, With, emit, use


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("plan")(plan)


def plan(
    run: Annotated[Path, typer.Argument(help="A run folder of a world model.")],
    world: Annotated[str, typer.Argument(help="Where to act: rooms.")] = "rooms",
    settings: Overrides = None,
    episodes: Annotated[int, typer.Option(min=1, help="Tasks, all played at once.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of tasks and plans.")] = 0,
    references: Annotated[
        bool, typer.Option(help="Beside it the scripted policies and the same planner with the true dynamics.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Folder to write; RUN/plans/... by default.")] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Plan with a world model and print success beside baselines: tacit plan RUN rooms planner=cem planner.samples=200 horizon=90."""
    from tacit.runs.planning import plan as act

    use(with_)
    found = act(run, world, settings or (), episodes=episodes, seed=seed, references=references, out=out)
    emit(found.to_plain(), as_json, found.text())
