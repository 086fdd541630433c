"""A trained part on disk: `config.json` and `model.safetensors`, which load without the run and without the recipe.

The tensors have their published names, so that `model.safetensors` of a 'resnet' also loads into torchvision's ResNet, and
one of a 'vit' or 'timm' into timm's model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tacit import __version__
from tacit.core.errors import CheckpointError, RecipeError, UnknownNameError
from tacit.core.spec import Spec, plain
from tacit.core.values import Facts
from tacit.models.weights import fit, published, read_safetensors

__all__ = ["Card", "card", "export", "load", "weights_digest"]

_FORMAT = 1  # rises when a config.json can no longer be read by the code before it
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Card:
    """What `config.json` says: the part, what it was built with at run time, and how its input is normalised.

    `runtime` is the Facts of an encoder or system, the input width of a head. `digest` names the weights.
    """

    spec: Spec
    runtime: Facts | int
    digest: str
    version: str

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, of values in [0, 1]; empty if the input was not normalised."""
        return self.runtime.mean if isinstance(self.runtime, Facts) else ()

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel, of values in [0, 1]; empty if the input was not normalised."""
        return self.runtime.std if isinstance(self.runtime, Facts) else ()


def weights_digest(module: nn.Module) -> str:
    """Sixteen hexadecimal digits of names, types, shapes and bits of all weights and buffers; the same on every device."""
    return _digest(_tensors(module))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    state = published(module).state_dict()
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return found.hexdigest()[:16]


def export(spec: Spec, runtime: Facts | int, module: nn.Module, folder: str | Path) -> Path:
    """Write the part `spec`, built with `runtime`, with the weights of `module`. The folder is complete or absent."""
    folder, tensors = Path(folder), _tensors(module)
    resolved = spec.resolve()
    facts = dataclasses.asdict(runtime) if isinstance(runtime, Facts) else None
    settings = plain(resolved)
    config = {
        "format": _FORMAT,
        "tacit": __version__,
        "role": resolved.role,
        "kind": settings.pop("kind"),
        "facts": facts,
        "dim": runtime if facts is None else None,
        "normalisation": {"mean": facts["mean"], "std": facts["std"]} if facts else None,
        "weights": _digest(tensors),
        "settings": settings,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        save_file(tensors, beside / _WEIGHTS, metadata={"format": "pt"})
        (beside / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        _replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _replace(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`, moving an older export out of the way first."""
    old = new.with_name(new.name + "-old")
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    elif folder.exists():
        if not (folder / _CONFIG).is_file():
            raise CheckpointError(f"{folder}: exists and is no export; choose another folder or remove it")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def card(path: str | Path) -> Card:
    """Read what an export says of itself, without its weights. `path`: the export's folder, a file in it, or a run folder."""
    config = _config_file(Path(path))
    try:
        given = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{config}: not valid JSON ({error}): export again") from error
    if isinstance(given, dict) and isinstance(given.get("format"), int) and given["format"] > _FORMAT:
        raise CheckpointError(
            f"{config}: written by tacit {given.get('tacit')} in format {given['format']}; this is tacit {__version__}, "
            f"which reads up to format {_FORMAT}: upgrade tacit"
        )
    try:
        runtime = _facts(given["facts"]) if given["facts"] is not None else int(given["dim"])
        spec = Spec(given["role"], given["kind"], **given["settings"])
        return Card(spec.resolve(), runtime, given["weights"], given["tacit"])
    except UnknownNameError as error:
        raise CheckpointError(f"{config}: {error}") from error
    except RecipeError as error:
        raise CheckpointError(
            f"{config}: this tacit {__version__} cannot build the part: {error} (a part from outside must be imported first)"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{config}: not the config.json of an export (format, role, kind, settings, facts or dim, weights): {error!r}"
        ) from error


def _facts(given: Mapping[str, Any]) -> Facts:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Facts(**fields)


def _config_file(path: Path) -> Path:
    if path.name in (_CONFIG, _WEIGHTS):
        path = path.parent
    for folder in (path, path / "export" / "encoder"):
        if (folder / _CONFIG).is_file():
            return folder / _CONFIG
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such folder to load from")
    raise CheckpointError(
        f"{path}: neither an export (a folder with {_CONFIG} and {_WEIGHTS}) nor a run folder with export/encoder in it. "
        "A run writes its export when it ends"
    )


def load(path: str | Path) -> nn.Module:
    """The exported part, built and filled, in eval mode on the CPU. `path`: the export's folder, a file in it, or a run folder.

    `card(path)` tells how its input is normalised.
    """
    found = card(path)
    weights = _config_file(Path(path)).with_name(_WEIGHTS)
    if not weights.is_file():
        raise CheckpointError(f"{weights}: there is no such file beside {_CONFIG}: copy the whole export")
    tensors = read_safetensors(weights)
    if _digest(tensors) != found.digest:
        raise CheckpointError(
            f"{weights}: the weights are not those that {_CONFIG} names "
            f"({_digest(tensors)} instead of {found.digest}): copy both files again"
        )
    module: nn.Module = found.spec.build(found.runtime)
    fit(module, tensors, weights, partial=False)
    return module.eval()
