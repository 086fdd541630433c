"""Reading weights that others have written: never by running code, never a silent partial match."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tacit.core.errors import CheckpointError
from tacit.models.releases import read_release, recognise

__all__ = ["Match", "load_weights", "published", "read_file", "read_weights"]

_TORCH = (".pth", ".pt", ".ckpt", ".bin", ".tar")
# How frameworks wrap a network, and how they name it inside a larger one.
_PREFIXES = ("module.", "backbone.", "encoder.", "model.", "_orig_mod.", "_fsdp_wrapped_module.")
_TREES = ("state_dict", "model", "teacher", "student", "encoder", "backbone")


@dataclass(frozen=True)
class Match:
    """What a file had for a network: names loaded, missing in the file, and left over in it; the prefix that was stripped."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    prefix: str = ""


def published(module: nn.Module) -> nn.Module:
    """The module whose state-dict names the world knows: the attribute `published` of a wrapper, or the module itself."""
    inner = getattr(module, "published", module)
    return inner if isinstance(inner, nn.Module) else module


def read_weights(path: str | Path, key: str = "") -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU: safetensors, or torch's format read without running code.

    `key` names the entry of a checkpoint that holds the weights (`a.b` for nested ones); without it a flat file is taken as
    it is, and of a training checkpoint the first of state_dict, model, teacher, student, encoder, backbone.
    """
    return _tensors(read_file(path), Path(path), key)


def read_file(path: str | Path) -> Any:
    """What a file of weights holds, on the CPU; nothing in it is run."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file to read weights from")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in _TORCH:
        return _read_torch(path)
    raise CheckpointError(
        f"{path}: weights are read from .safetensors, {', '.join(_TORCH)}; found the suffix {path.suffix!r}"
    )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; a damaged one is refused in a sentence."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({_line(error)}): copy or write it again"
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(
            [argparse.Namespace]
        ):  # settings beside the weights: a record, it runs nothing
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "Unsupported" in text or "GLOBAL" in text or "not an allowed global" in text:
            raise CheckpointError(
                f"{path}: the file holds Python objects besides tensors and would run code on loading; tacit does not do that. "
                "Where you trust it, load it elsewhere, keep only the state dict, and save that as safetensors"
            ) from error
        raise CheckpointError(f"{path}: not a complete torch file ({_line(error)}): copy or write it again") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: not a complete torch file ({_line(error)}): copy or write it again") from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _tensors(content: Any, path: Path, key: str) -> dict[str, Tensor]:
    for step in key.split(".") if key else ():
        if not isinstance(content, Mapping) or step not in content:
            raise CheckpointError(f"{path}: no entry {key!r}; {_entries(content)}")
        content = content[step]
    if not key and isinstance(content, Mapping) and not _is_flat(content):
        content = next((content[name] for name in _TREES if _is_flat(content.get(name))), content)
    if not _is_flat(content):
        raise CheckpointError(f"{path}: no table of tensors; {_entries(content)}. Name the right one by `key`")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _is_flat(content: Any) -> bool:
    """A state dict: text names, tensors for most of them (some files keep a number or two beside)."""
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return False
    tensors = sum(isinstance(value, Tensor) for value in content.values())
    return 2 * tensors > len(content)


def _entries(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"found {type(content).__name__}"
    return f"found the entries {_first(map(str, content), 8)}"


def _first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def load_weights(
    module: nn.Module,
    path: str | Path,
    *,
    key: str = "",
    partial: bool = False,
    release: str | None = None,
    branch: str | None = None,
) -> Match:
    """Load a file into `module` under its published names; nothing is changed unless the match is accepted.

    A checkpoint of a known family (`releases.RELEASES`) is recognised, or named by `release`; `branch` chooses student or teacher.

    One prefix, such as `module.backbone.`, is stripped at the start of the names: the one under which most names fit. What is
    left over in the file (a projector, a classifier) is reported. A tensor that the file lacks or has in another shape is
    refused; `partial=True` accepts lacking ones. Counters of batch norms (`num_batches_tracked`) may be absent.
    """
    content = read_file(path)
    family = release or (None if key else recognise(content))
    if family is None and branch is not None:
        raise CheckpointError(
            f"{path}: has no branch {branch!r} that is known: name the family that wrote it by `release`"
        )
    if family is not None:
        return fit(module, read_release(content, Path(path), family, branch), Path(path), partial)
    return fit(module, _tensors(content, Path(path), key), Path(path), partial)


def fit(module: nn.Module, given: Mapping[str, Tensor], path: Path, partial: bool) -> Match:
    """Load named tensors into `module` as `load_weights` does; `path` is for messages."""
    own = published(module).state_dict()
    prefix = max(_prefixes(given), key=lambda p: (sum(p + name in given for name in own), -len(p)))
    found = {name: given[prefix + name] for name in own if prefix + name in given}
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if not (name.startswith(prefix) and name[len(prefix) :] in own)]
    kind = type(module).__name__
    if not found:
        raise CheckpointError(
            f"{path}: none of the {len(own)} tensors of {kind} are in the file. It has {_first(given)}; "
            f"{kind} needs {_first(own)}. Choose the encoder that the file was made with"
        )
    shapes = [
        f"{name} is {list(value.shape)} in the file and {list(own[name].shape)} in {kind}"
        for name, value in found.items()
        if value.shape != own[name].shape
    ]
    if shapes:
        raise CheckpointError(
            f"{path}: {len(shapes)} tensors have another shape: {'; '.join(shapes[:3])}. "
            "Choose the encoder settings that the file was made with"
        )
    if missing and not partial:
        raise CheckpointError(
            f"{path}: {len(missing)} of the {len(own)} tensors of {kind} are not in the file: {_first(missing)}"
            + (f"; the file has besides {_first(unexpected)}" if unexpected else "")
            + ". Choose the encoder settings that the file was made with, or accept the gap with partial=True"
        )
    published(module).load_state_dict(found, strict=False)
    return Match(tuple(found), tuple(missing), tuple(unexpected), prefix)


def _prefixes(names: Iterable[str]) -> list[str]:
    """Every chain of known prefixes that starts a name, the empty one first."""
    found = {"": None}
    for name in names:
        prefix = ""
        while (more := next((p for p in _PREFIXES if name.startswith(p, len(prefix))), None)) is not None:
            prefix += more
            found[prefix] = None
    return list(found)
