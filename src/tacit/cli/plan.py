"""`tacit plan`: act in a world with the world model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.look import Json, Overrides, With, emit, use
from tacit.core.errors import RecipeError


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("plan")(plan)
    app.command("capacity")(capacity)


def plan(
    run: Annotated[Path, typer.Argument(help="A run folder of a world model.")],
    world: Annotated[str, typer.Argument(help="Where to act: rooms, camera, arm, or a gymnasium id.")] = "rooms",
    settings: Overrides = None,
    episodes: Annotated[int, typer.Option(min=1, help="Tasks, all played at once.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of tasks and plans.")] = 0,
    references: Annotated[
        bool, typer.Option(help="Beside it the scripted policies and the same planner with the true dynamics.")
    ] = True,
    beside: Annotated[Path | None, typer.Option(help="Another run folder whose model plays the same tasks.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; RUN/plans/... by default.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Steps of checkpoints, 1000,3000,10000 or all: success against training time.", metavar="STEPS"
        ),
    ] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Plan with a world model and print success beside baselines: tacit plan RUN rooms planner=cem planner.samples=200 horizon=90."""
    from tacit.runs.planning import plan as act

    use(with_)
    if at is not None:
        from tacit.runs.plan_curve import plan_curve

        if beside is not None:
            raise RecipeError("--at: several checkpoints of one run are planned with, without --beside")
        curve = plan_curve(
            run, world, settings or (), at=_steps(at), episodes=episodes, seed=seed, references=references, out=out,
            quiet=as_json,
        )  # fmt: skip
        emit(curve.to_plain(), as_json, curve.text())
        return
    found = act(run, world, settings or (), episodes=episodes, seed=seed, references=references, beside=beside, out=out)
    emit(found.to_plain(), as_json, found.text())


def _steps(text: str) -> list[int]:
    """The numbers of a text 1000,3000; none of 'all'."""
    if text == "all":
        return []
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise RecipeError(f"--at {text}: needs steps of checkpoints, for example 1000,3000,10000, or all")
    return [int(part) for part in parts]


def capacity(
    recipe: Annotated[str, typer.Argument(help="A recipe of latent actions, for example latents.noisy.")],
    axis: Annotated[
        list[str],
        typer.Argument(
            help="path=v1,v2,... the constraint to go through; path=value fixes a setting.", metavar="PATH=V1,V2..."
        ),
    ],
    root: Annotated[Path, typer.Option("--root", help="Where run folders are made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the sweep; the same name continues it.")] = None,
    count: Annotated[int, typer.Option(min=2, help="Test clips each point is measured on.")] = 256,
    plot: Annotated[Path | None, typer.Option(help="File to draw into; ROOT/NAME/capacity.png by default.")] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Train latent actions under constraints of every strength and measure each.

    tacit capacity latents.noisy system.bottleneck.beta=1e-3,1e-4
    """
    from tacit.runs.capacity import capacity as go

    use(with_)
    found = go(recipe, axis, root=root, name=name, count=count, plot=plot, modules=with_ or (), quiet=as_json)
    emit(found.to_plain(), as_json, found.text())
