"""`tacit make`: generate data of a world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.look import Json, Overrides, With, emit, use


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    make_app = typer.Typer(help="Generate data: pde, rooms, arm, episodes.", no_args_is_help=True)
    make_app.command("pde")(pde)
    make_app.command("rooms")(rooms)
    make_app.command("arm")(arm)
    make_app.command("episodes")(episodes)
    app.add_typer(make_app, name="make")


def pde(
    equation: Annotated[str, typer.Argument(help="kdv, ks, burgers, heat, transport, vortex or smoke.")],
    settings: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="Trajectories of the split.")] = 512,
    out: Annotated[Path, typer.Option(help="Folder to write; the same call continues it.")] = Path("data"),
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    layout: Annotated[
        str | None, typer.Option(help="lpsda, pdearena, well or zarr; by default the equation's own.")
    ] = None,
    shard: Annotated[
        int | None, typer.Option(min=1, help="Trajectories a shard (of a published smoke file: 32).")
    ] = None,
    engine: Annotated[str, typer.Option(help="serial, local, local:N, dask://host:port or ray.")] = "local",
    device: Annotated[str, typer.Option(help="cpu, or cuda with --engine serial.")] = "cpu",
    suffix: Annotated[str, typer.Option(help="Ending of an LPSDA file name, for example easy.")] = "",
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Solve a differential equation many times and write the trajectories: tacit make pde kdv --count 10000 horizon=50."""
    from tacit import runs

    use(with_)
    made = runs.make_pde(
        equation,
        settings or (),
        count=count,
        out=out,
        split=split,
        seed=seed,
        layout=layout,
        shard=shard,
        engine=engine,
        device=device,
        suffix=suffix,
        quiet=as_json,
    )
    emit(made.to_plain(), as_json, made.text())


def rooms(
    out: Annotated[Path, typer.Argument(help="Folder to write; the same call continues it.")],
    settings: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="Trajectories of the split, 90 actions each.")] = 10_000,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    shard: Annotated[int, typer.Option(min=1, help="Trajectories a file.")] = 1000,
    pictures: Annotated[
        bool, typer.Option(help="Write the pictures too; they can be drawn from the positions.")
    ] = False,
    engine: Annotated[str, typer.Option(help="serial, local, local:N, dask://host:port or ray.")] = "serial",
    as_json: Json = False,
) -> None:
    """Write trajectories of Two Rooms in PLDM's layout: tacit make rooms data/rooms --count 10000 crossing=0.6 layout=pldm."""
    from tacit.runs.making_rooms import make_rooms

    found = make_rooms(out, settings or (), count=count, split=split, shard=shard, pictures=pictures, engine=engine)
    emit(found.to_plain(), as_json, found.text())


def arm(
    out: Annotated[Path, typer.Argument(help="Folder to write; the same call continues it.")],
    settings: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="Episodes of the split.")] = 400,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    engine: Annotated[str, typer.Option(help="serial, local, local:N, dask://host:port or ray.")] = "serial",
    as_json: Json = False,
) -> None:
    """Write episodes of the simulated arm, one .npz each: tacit make arm data/arm --count 400 steps=20 side=64."""
    from tacit.runs.making_arm import make_arm

    found = make_arm(out, settings or (), count=count, split=split, engine=engine)
    emit(found.to_plain(), as_json, found.text())


def episodes(
    world: Annotated[str, typer.Argument(help="A gymnasium id, or camera.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; the same call continues it.")],
    settings: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="Episodes of the split.")] = 200,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Write random episodes of an environment, a Parquet row a step: tacit make episodes Pendulum-v1 data/pendulum hold=4."""
    from tacit.runs.making_episodes import make_episodes

    found = make_episodes(world, out, settings or (), count=count, split=split, seed=seed)
    emit(found.to_plain(), as_json, found.text())
