"""Features of a whole source by a frozen model, and their cache on disk.

cache/features/<weights>/<samples>/<layer>.safetensors holds the features, ids and labels of one layer, written beside and
renamed into place. A file that cannot be read or does not fit is computed again with a warning; it is never trusted blindly:
a few rows are computed anew and compared, because other code can give other features under the same weights.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.protocols import Source, Views
from tacit.core.values import Features
from tacit.models.store import weights_digest

__all__ = ["POOLED", "Extracted", "cached", "extract", "source_digest"]

POOLED = "pooled"  # the name of the model's own output
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extracted:
    """Features [n d] by layer in the order of the source, the samples' ids [n], and their labels [n] if known; on the CPU."""

    layers: dict[str, Tensor]
    ids: Tensor
    labels: Tensor | None = None


def extract(
    model: Callable[[Tensor], Any],
    source: Source,
    views: Views,
    *,
    batch: int = 256,
    device: torch.device | str = "cpu",
    layers: Sequence[str] | None = None,
    indices: Sequence[int] | NDArray[np.int64] | None = None,
) -> Extracted:
    """Run `model` over the plain views of all samples (or those at `indices`), without gradients and in evaluation mode.

    `layers` None takes the model's output, a tensor [n d] or Features, whose pooled part is used, under the name 'pooled'; names ask
    `model.layers`. Half precision becomes float32. Each submodule's training flag is put back afterwards.
    """
    at = np.arange(len(source)) if indices is None else np.asarray(indices, dtype=np.int64)
    if not len(at):
        raise DataError("features need at least one sample, the source is empty")
    held: dict[str, list[Tensor]] = {}
    ids, labels = [], []
    with _evaluating(model), torch.no_grad():
        for start in range(0, len(at), batch):
            read = source.read(at[start : start + batch])
            data = views.plain(read).views["image"].data
            if not isinstance(data, Tensor):
                raise DataError(
                    "the evaluation view must give one tensor for a batch, found a list: its views do not resize"
                )
            for name, z in _run(model, data.to(device), layers).items():
                if z.ndim != 2 or len(z) != len(read):
                    raise DataError(
                        f"layer {name!r} gave {list(z.shape)} for {len(read)} samples: features must be [samples width]"
                    )
                held.setdefault(name, []).append(z.float().cpu())
            ids.append(read.ids.cpu())
            if "label" in read.facts:
                labels.append(read.facts["label"].cpu())
    return Extracted(
        {name: torch.cat(parts) for name, parts in held.items()}, torch.cat(ids), torch.cat(labels) if labels else None
    )


def _run(model: Callable[[Tensor], Any], x: Tensor, layers: Sequence[str] | None) -> dict[str, Tensor]:
    if layers is not None:
        outputs = model.layers(x, layers)  # type: ignore[attr-defined]
        return dict(zip(layers, outputs, strict=True))
    out = model(x)
    return {POOLED: out.pooled if isinstance(out, Features) else out}


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    owner = getattr(model, "__self__", model)  # system.embed is a method of the module
    training = {m: m.training for m in owner.modules()} if isinstance(owner, nn.Module) else {}
    if isinstance(owner, nn.Module):
        owner.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag


def source_digest(source: Source, views: Views) -> str:
    """Sixteen hexadecimal digits of the samples and of their evaluation view: its facts and its pixels on three samples.

    The pixels stand for every setting that matters (size, crop, interpolation, normalisation), whatever it is called.
    """
    found = hashlib.sha256(source.digest().encode())
    found.update(repr(views.facts).encode())
    n = len(source)
    data = views.plain(source.read(np.unique([0, n // 2, n - 1]))).views["image"].data
    for image in data:
        pixels = (
            (image.double() * 4096).round().to(torch.int32).cpu().contiguous()
        )  # the last bits may differ by machine
        found.update(f"{image.dtype} {tuple(image.shape)}".encode())
        found.update(pixels.numpy().tobytes())
    return found.hexdigest()[:16]


def cached(
    model: nn.Module,
    source: Source,
    views: Views,
    *,
    root: str | Path,
    layers: Sequence[str] | None = None,
    batch: int = 256,
    device: torch.device | str = "cpu",
    call: Callable[[Tensor], Any] | None = None,
) -> Extracted:
    """`extract`, read from `root`/features/<weights>/<samples>/<layer>.safetensors where it was computed before.

    `model` owns the weights that name the cache; `call` is what is run if it is not the module itself (`system.embed`), and
    its name then becomes part of the layer's file. Only the layers that are missing are computed.
    """
    run = call or model
    names = list(layers) if layers is not None else [POOLED]
    folder = Path(root) / "features" / weights_digest(model) / source_digest(source, views)
    prefix = f"{getattr(call, '__name__', 'call')}." if call is not None else ""
    files = {name: folder / f"{_file_safe(prefix + name)}.safetensors" for name in names}
    n = len(source)
    some = np.unique([0, n // 2, n - 1])
    held: dict[str, dict[str, Tensor]] = {}
    present = [name for name in names if files[name].exists()]
    if present:
        fresh = extract(
            run, source, views, batch=batch, device=device, layers=present if layers is not None else None, indices=some
        )
        for name in present:
            found = _read(files[name], fresh, name, some, n)
            if found is not None:
                held[name] = found
    missing = [name for name in names if name not in held]
    if missing:
        new = extract(run, source, views, batch=batch, device=device, layers=missing if layers is not None else None)
        for name in missing:
            held[name] = {"features": new.layers[name], "ids": new.ids}
            if new.labels is not None:
                held[name]["labels"] = new.labels
            _write(files[name], held[name])
    first = held[names[0]]
    return Extracted({name: held[name]["features"] for name in names}, first["ids"], first.get("labels"))


def _file_safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _read(file: Path, fresh: Extracted, name: str, some: NDArray[np.int64], n: int) -> dict[str, Tensor] | None:
    """The cached tensors if they are whole and agree with the rows computed anew; otherwise None and a warning."""
    try:
        found = load_file(file)
        z, ids = found["features"], found["ids"]
    except (SafetensorError, OSError, KeyError) as error:
        _log.warning("cached features %s cannot be read (%s): computing them again", file, error)
        return None
    rows, at = fresh.layers[name], torch.from_numpy(some)
    if (
        z.ndim != 2
        or len(z) != n
        or ids.shape != (n,)
        or z.shape[1] != rows.shape[1]
        or not torch.equal(ids[at], fresh.ids)
    ):
        _log.warning("cached features %s do not fit the samples: computing them again", file)
        return None
    if not torch.allclose(z[at], rows, rtol=1e-3, atol=1e-3 * float(rows.abs().max())):
        _log.warning(
            "cached features %s are not what the model gives now (its code changed): computing them again", file
        )
        return None
    return found


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)
        os.replace(beside, file)
    finally:
        Path(beside).unlink(missing_ok=True)
