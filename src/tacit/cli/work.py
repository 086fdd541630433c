"""Verbs that do work: demo, train, check, sweep, embed, judge, probe, report, launch, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tacit.cli.look import Json, Overrides, With, emit, use

RecipeName = Annotated[
    str, typer.Argument(help="A shipped name (`tacit recipes list`), a YAML file, or a run folder to continue.")
]
Root = Annotated[Path, typer.Option("--root", help="Where run folders are made.")]
Target = Annotated[
    Path,
    typer.Argument(
        help="A run folder, an export, timm or transformers folder, or a file of features (.npy, .npz, .safetensors)."
    ),
]
Devices = Annotated[
    str, typer.Option("--devices", help="Number of processes on this machine, or auto: one per accelerator.")
]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    for verb in (demo, train, check, sweep, embed, judge, probe, evaluate, report, launch):
        app.command(verb.__name__)(verb)
    weights_app = typer.Typer(help="Encoders as files: list, import, export.", no_args_is_help=True)
    weights_app.command("list")(weights_list)
    weights_app.command("import")(weights_import)
    weights_app.command("export")(weights_export)
    app.add_typer(weights_app, name="weights")


def demo(root: Root = Path("runs"), as_json: Json = False) -> None:
    """Train, judge and probe on handwritten digits that come with scikit-learn: about two minutes, no download."""
    from tacit import runs

    finish(runs.demo(root=root, quiet=as_json), as_json)


def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the recipe's name by default.")] = None,
    root: Root = Path("runs"),
    new: Annotated[
        bool, typer.Option("--new", help="Start afresh even if an unfinished run of this recipe exists.")
    ] = False,
    devices: Devices = "1",
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Train a recipe. An unfinished run of the same recipe is continued where it stopped."""
    from tacit import runs

    use(with_)
    finish(
        runs.train(
            recipe, overrides or (), name=name, root=root, new=new, devices=devices, modules=with_ or (), quiet=as_json
        ),
        as_json,
    )


def finish(run: Any, as_json: bool) -> None:
    """Print where the run lies and leave with the code of how it ended."""
    emit(run.to_plain(), as_json, run.text())
    raise typer.Exit(0 if run.status == "finished" else 130)


def check(recipe: RecipeName, overrides: Overrides = None, with_: With = None, as_json: Json = False) -> None:
    """Two steps of a recipe on its data: parameters, memory, time estimate; nothing is kept."""
    from tacit import runs

    use(with_)
    found = runs.check(recipe, overrides or ())
    emit(found.to_plain(), as_json, found.text())


def sweep(
    recipe: RecipeName,
    grid: Annotated[
        list[str],
        typer.Argument(help="path=v1,v2,... one per axis; path=value fixes a setting.", metavar="PATH=V1,V2..."),
    ],
    select: Annotated[str, typer.Option(help="The label-free score that chooses: rankme.")] = "rankme",
    engine: Annotated[str, typer.Option(help="serial, local, local:N, dask://host:port or ray.")] = "local",
    root: Root = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the sweep; the same name continues it.")] = None,
    elsewhere: Annotated[
        list[str] | None, typer.Option(help="Other data to probe every run on, data=glyphs; once for each override.")
    ] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Train a grid, rank it without labels, and report beside it what labels would have chosen."""
    from tacit import runs

    use(with_)
    found = runs.sweep(
        recipe, grid, select=select, engine=engine, root=root, name=name, modules=with_ or (), quiet=as_json,
        elsewhere=elsewhere or (),
    )  # fmt: skip
    emit(found.to_plain(), as_json, found.text())
    raise typer.Exit(0 if not found.failed else 1)


def embed(
    target: Target,
    out: Annotated[Path, typer.Argument(help="File to write: .npz or .parquet.")],
    overrides: Overrides = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Write the features, ids and labels of a data set: `tacit embed RUN out.npz data.split=test`."""
    from tacit import runs

    use(with_)
    found = runs.embed(target, out, overrides or ())
    emit(found, as_json, f"{found['rows']} rows of {found['dim']} features -> {found['path']}")


def judge(
    target: Target,
    overrides: Overrides = None,
    augmentations: Annotated[
        int | None,
        typer.Option(help="Augmented views of a sample for LiDAR: 10 of a run by default, 0 for none; the paper: 50."),
    ] = None,
    count: Annotated[
        int, typer.Option(help="Samples to embed at most, evenly spaced; RankMe's paper: 25,600.", min=2)
    ] = 25_600,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Judge a representation without labels: RankMe, LiDAR, CLID's halves, collapse, and what the same spectrum tells."""
    from tacit import runs

    use(with_)
    found = runs.judge(target, overrides or (), augmentations=augmentations, count=count)
    emit(found.to_plain(), as_json, found.text())


def probe(
    target: Target,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(help="Draws of the few labelled samples.", min=1)] = 10,
    protocol: Annotated[
        list[str] | None,
        typer.Option("--protocol", help="Only this one, e.g. linear/1%, dino/knn, mae/linear; may be repeated."),
    ] = None,
    factor: Annotated[
        list[str] | None, typer.Option("--factor", help="A named factor to probe beside the label; may be repeated.")
    ] = None,
    head: Annotated[
        Path | None, typer.Option(help="A published attentive probe to score as it is, with one --protocol.")
    ] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Probe a representation with labels: k-NN and linear, with all and with 1, 5 and 10 labels a class, beside baselines.

    Of solutions of differential equations the coefficients are regressed instead, with all, 200 and 50 labels.
    """
    from tacit import runs

    use(with_)
    found = runs.probe(target, overrides or (), seeds=seeds, protocols=protocol, factors=factor or (), head=head)
    emit(found.to_plain(), as_json, found.text())


def evaluate(
    runs_: Annotated[list[Path], typer.Argument(help="Run folders, seen side by side.", metavar="RUN...")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="path=value of data or machine; nothing is kept then.")
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Test items, from the first on.")] = 256,
    plot: Annotated[
        Path | None, typer.Option(help="File to draw the error against the horizon into, .png or .svg.")
    ] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Evaluate runs on the benchmark of their system, side by side: errors of time-steppers beside persistence."""
    from tacit import runs

    use(with_)
    found = runs.evaluate_runs(runs_, change or (), count=count, plot=plot)
    emit(found.to_plain(), as_json, found.text())


def report(target: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Write report/index.html of a run again from what lies in its folder."""
    from tacit import runs

    path = runs.report(target)
    emit({"report": str(path)}, as_json, str(path))


def launch(
    command: Annotated[
        list[str], typer.Argument(help="The verb with its arguments, after `--`: -- train ssl.vicreg optim.lr=0.1")
    ],
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Submit to SLURM through submitit, requeued on preemption.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="The same job as a process of this machine, to try it out.")
    ] = False,
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="Accelerators a node.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Cores a task.")] = 8,
    minutes: Annotated[int, typer.Option(min=1)] = 60 * 24,
    partition: Annotated[str | None, typer.Option()] = None,
    folder: Annotated[Path, typer.Option(help="Where the scheduler's logs go.")] = Path("runs/jobs"),
    as_json: Json = False,
) -> None:
    """Submit a verb as a cluster job that continues after preemption: tacit launch --slurm --gpus 8 -- train ssl.vicreg."""
    from tacit import runs

    found = runs.launch(
        command,
        slurm=slurm,
        local=local,
        nodes=nodes,
        gpus=gpus,
        cpus=cpus,
        minutes=minutes,
        partition=partition,
        folder=folder,
    )
    emit(found, as_json, f"job {found['job']} submitted; its log: {found['log']}")


def weights_list(root: Root = Path("runs"), as_json: Json = False) -> None:
    """List the exported encoders below a folder."""
    from tacit import runs

    rows = runs.weights_list(root)
    emit(
        rows,
        as_json,
        "\n".join(f"{row['path']}  {row['kind']}  {row['parameters']} parameters" for row in rows) or "none found",
    )


def weights_import(
    file: Annotated[Path, typer.Argument(help=".safetensors, .pth, .pt or .ckpt of a known encoder.")],
    out: Annotated[Path, typer.Argument(help="Export folder to write.")],
    encoder: Annotated[
        str | None, typer.Option(help="Kind of encoder, for example resnet or timm. I-JEPA and V-JEPA files need none.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Setting of the encoder, name=value.")] = None,
    channels: Annotated[int, typer.Option(min=1)] = 3,
    size: Annotated[int, typer.Option(min=1, help="Side of the images it was trained on.")] = 224,
    release: Annotated[
        str | None, typer.Option(help="Family that wrote it, where it is not recognised: moco, solo-learn, dinov2, ...")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(help="student or teacher; by default what the authors evaluate.")
    ] = None,
    edition: Annotated[
        str | None, typer.Option(help="JEPA edition, where its shapes do not tell: vjepa2-vitg-384, ...")
    ] = None,
    part: Annotated[str, typer.Option(help="Of a JEPA file: encoder, or system with its predictor.")] = "encoder",
    as_json: Json = False,
) -> None:
    """Turn a published checkpoint into an export folder; every tensor must find its place."""
    from tacit import runs

    if encoder is None:
        found = runs.edition_import(file, out, edition=edition, part=part, branch=branch)
    else:
        found = runs.weights_import(
            file,
            out,
            encoder=encoder,
            settings=settings or (),
            channels=channels,
            size=size,
            release=release,
            branch=branch,
        )
    emit(found, as_json, f"{found['tensors']} tensors -> {found['path']}")


def weights_export(
    source: Annotated[Path, typer.Argument(help="A run or export folder.")],
    out: Annotated[Path, typer.Argument(help="File to write: a plain state dict as .safetensors or .pth.")],
    release: Annotated[
        str | None,
        typer.Option(
            help="Write it as a checkpoint of this family: moco, solo-learn, dino, ..., jepa, or as a transformers folder."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write an encoder's weights as a plain state dict under the names of torchvision or timm, or as another family's file."""
    from tacit import runs

    if release in ("jepa", "transformers"):
        found = runs.edition_export(source, out, form="jepa" if release == "jepa" else "transformers")
    else:
        found = runs.weights_export(source, out, release=release)
    emit(found, as_json, f"{found['tensors']} tensors -> {found['path']}")
