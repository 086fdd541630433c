"""Features and encoders as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import save_file

from tacit.core.errors import CheckpointError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models import store
from tacit.models.features import POOLED
from tacit.models.releases import wrap
from tacit.models.weights import load_weights, published
from tacit.runs import target as targets
from tacit.training.disk import replace

__all__ = ["embed", "weights_export", "weights_import", "weights_list"]


def embed(path: str | Path, out: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Write features, ids and labels of a data set to a .npz or .parquet file."""
    out = Path(out)
    if out.suffix not in (".npz", ".parquet"):
        raise RecipeError(f"{out}: features are written as .npz or .parquet, found {out.suffix or 'no ending'!r}")
    found = targets.load(path, overrides)
    extracted = found.features(found.source())
    z = extracted.layers[POOLED].numpy()
    columns: dict[str, Any] = {"ids": extracted.ids.numpy()}
    if extracted.labels is not None:
        columns["labels"] = extracted.labels.numpy()
    out.parent.mkdir(parents=True, exist_ok=True)

    def write(beside: Path) -> None:
        if out.suffix == ".npz":
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, features=z, **columns)
        else:
            rows = pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), z.shape[1])
            pq.write_table(
                pa.table({**{name: pa.array(values) for name, values in columns.items()}, "features": rows}), beside
            )

    replace(out, write)
    return {"path": str(out), "rows": int(z.shape[0]), "dim": int(z.shape[1]), "arrays": ["features", *columns]}


def weights_list(root: str | Path) -> list[dict[str, Any]]:
    """The exported encoders below a folder."""
    rows = []
    for config in sorted(Path(root).glob("**/export/encoder/config.json")):
        card = store.card(config.parent)
        module = card.spec.build(card.runtime)
        rows.append(
            {
                "path": str(config.parent),
                "kind": card.spec.kind,
                "parameters": sum(p.numel() for p in module.parameters()),
                "weights": card.digest,
            }
        )
    return rows


def weights_import(
    file: str | Path,
    out: str | Path,
    *,
    encoder: str,
    settings: Sequence[str] = (),
    channels: int = 3,
    size: int = 224,
    release: str | None = None,
    branch: str | None = None,
) -> dict[str, Any]:
    """Turn a published checkpoint into an export folder; every tensor must find its place."""
    given = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text}: reads name=value, for example --set depth=50")
        given[name] = yaml.safe_load(value)
    spec = Spec("encoder", encoder, **given).resolve("encoder")
    mean, std = (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else ((), ())
    )  # ImageNet's, as published
    facts = Facts(channels=channels, shape=(size, size), mean=mean, std=std)
    module = spec.build(facts)
    match = load_weights(module, file, release=release, branch=branch)
    store.export(spec, facts, module, Path(out))
    return {"path": str(out), "tensors": len(match.loaded), "left": list(match.unexpected)}


def weights_export(source: str | Path, out: str | Path, *, release: str | None = None) -> dict[str, Any]:
    """Write an encoder's weights as a plain state dict under its published names, or as the checkpoint of a known family."""
    out = Path(out)
    if release is not None and out.suffix == ".safetensors":
        raise CheckpointError(f"{out}: checkpoints of {release} are torch files: write .pth or .ckpt")
    tensors = {name: value.contiguous() for name, value in published(store.load(source)).state_dict().items()}
    if out.suffix == ".safetensors":
        replace(out, lambda beside: save_file(tensors, beside))
    elif out.suffix in (".pth", ".pt", ".ckpt"):
        content = wrap(tensors, release) if release else tensors
        replace(out, lambda beside: torch.save(content, beside))
    else:
        raise CheckpointError(
            f"{out}: weights are written as .safetensors or .pth, found {out.suffix or 'no ending'!r}"
        )
    return {"path": str(out), "tensors": len(tensors)}
