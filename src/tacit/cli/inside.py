"""Verbs that look into a network or train it on: layers, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.look import Json, Overrides, With, emit, use

Network = Annotated[Path, typer.Argument(help="A run folder, or an export, timm or transformers folder with data=...")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("layers")(layers)
    app.command("finetune")(finetune)
    app.command("leakage")(leakage)


def layers(
    target: Network,
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None, typer.Option("--layers", help="Modules by name or glob: encoder.blocks.*; ** crosses dots.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Predict this: label or a factor by name, continuous ones in 4 classes."),
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", help="Probe under this protocol; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Draws of few labelled samples.", min=1)] = 5,
    plot: Annotated[
        Path | None, typer.Option(help="File to draw into, .png or .svg; layers.png in the run by default.")
    ] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Probe every layer of encoder and projector in one pass over the data and say where to cut (Guillotine)."""
    from tacit import runs

    use(with_)
    more = {"protocols": protocol} if protocol else {}
    found = runs.layers(target, overrides or (), globs=only or (), tasks=task or (), seeds=seeds, plot=plot, **more)
    emit(found.to_plain(), as_json, found.text())


def finetune(
    target: Network,
    overrides: Overrides = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="That of a paper by name: mae/finetune, vicreg/finetune,1%; other settings do not count."),
    ] = None,
    labels: Annotated[
        str, typer.Option(help="all, a share (1%, 10%) or k-per-class; drawn anew for each seed.")
    ] = "all",
    epochs: Annotated[int, typer.Option(min=1)] = 100,
    rate: Annotated[float, typer.Option(help="Peak rate of the classifier's layer.")] = 1e-3,
    layer_decay: Annotated[float, typer.Option(help="Rate of a layer over that of the layer above it.")] = 0.65,
    head: Annotated[float, typer.Option(help="Rate of the classifier over that of the encoder's end.")] = 1.0,
    weight_decay: Annotated[float, typer.Option()] = 0.05,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    batch: Annotated[int, typer.Option(min=2)] = 256,
    mixup: Annotated[float, typer.Option(min=0, help="Images blended by a share from Beta(a, a); MAE: 0.8.")] = 0.0,
    cutmix: Annotated[float, typer.Option(min=0, help="Rectangles pasted, the same law; MAE: 1.")] = 0.0,
    smoothing: Annotated[float, typer.Option(min=0, max=1, help="Of the labels.")] = 0.1,
    drop_path: Annotated[float, typer.Option(min=0, max=1, help="Of the last block of a ViT; MAE: 0.1.")] = 0.0,
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    scratch: Annotated[bool, typer.Option(help="Beside it the same network from its first weights.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for the fine-tuned encoder.")] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Fine-tune the encoder on labels with layer-wise decay of the rates, beside the same network from scratch."""
    from tacit import runs
    from tacit.probing import FineTune

    use(with_)
    how = FineTune(
        optimizer=optimizer,
        rate=rate,
        head=head,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
        epochs=epochs,
        batch=batch,
        mixup=mixup,
        cutmix=cutmix,
        smoothing=smoothing,
        drop_path=drop_path,
    )
    found = runs.finetune(
        target, overrides or (), how=how, protocol_name=protocol, labels=labels, seeds=seeds, scratch=scratch, out=out
    )
    emit(found.to_plain(), as_json, found.text())


def leakage(
    target: Annotated[
        Path, typer.Argument(help="A run or model folder, or a file of training features with test=FILE.")
    ],
    overrides: Overrides = None,
    pixels: Annotated[float, typer.Option(help="Correlation of pictures from which two are twins.")] = 0.98,
    features: Annotated[float, typer.Option(help="Cosine of centred features from which two are twins.")] = 0.995,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """List test samples that have a twin in the training split, by pictures and by features, with their ids."""
    from tacit import runs

    use(with_)
    found = runs.leakage(target, overrides or (), pixels=pixels, features=features)
    emit(found.to_plain(), as_json, found.text())
