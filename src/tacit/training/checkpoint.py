"""Checkpoints: steps/00012000/ with all tensors in safetensors and everything else in JSON. Nothing is ever unpickled.

    state.json            the tree of the state, with {"tensor": name} where a tensor stands, and size and CRC-32 of each file
    system.safetensors    the weights and buffers under their own names; optimizer.safetensors, hooks.safetensors, ...

A checkpoint is written beside its place, synchronised, and renamed: it is complete or absent. Sharded tensors are gathered
and the leading process writes them whole, so a checkpoint does not know how many processes made it, and any number reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tacit.core.errors import CheckpointError, RunError
from tacit.training.disk import sync
from tacit.training.trees import is_sharded, map_tensors

__all__ = ["place", "prune", "read", "saved_steps", "set_aside", "whole", "write"]

_FORMAT = 1


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` updates lives in a run folder."""
    return folder / "steps" / f"{step:08d}"


def saved_steps(folder: Path) -> list[int]:
    """The steps of the complete checkpoints of a run folder, newest first."""
    return sorted((int(p.name) for p in (folder / "steps").glob("*") if p.name.isdigit() and p.is_dir()), reverse=True)


def whole(value: Any) -> Any:
    """The same tree with every tensor whole and detached. Gathers shards, so all processes must call it together."""

    def gathered(tensor: Any) -> Tensor:
        return (tensor.full_tensor() if is_sharded(tensor) else tensor).detach()  # type: ignore[no-any-return]

    return map_tensors(value, gathered)


def write(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write the checkpoint after `step` updates and return its folder; raises RunError, leaving nothing, where it cannot."""
    target = place(folder, step)
    beside = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        tree: dict[str, Any] = {}
        files = {}
        for part, value in state.items():
            tensors: dict[str, Tensor] = {}
            tree[part] = _split(value, part, "", tensors)
            if tensors:
                name = f"{part}.safetensors"
                save_file(_apart(tensors), beside / name)
                sync(beside / name)
                files[name] = {"bytes": (beside / name).stat().st_size, "crc32": _crc32(beside / name)}
        body = {"format": _FORMAT, "step": step, "files": files, "state": tree}
        text = json.dumps(body)
        (beside / "state.json").write_text(
            f'{{"crc32": {zlib.crc32(text.encode())}, "body": {text}}}\n', encoding="utf-8"
        )
        sync(beside / "state.json")
        for name in files:  # the writer of tensors keeps them from other users; the folder's own rules shall hold
            (beside / name).chmod((beside / "state.json").stat().st_mode)
        sync(beside)
        os.rename(beside, target)
        sync(target.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(f"the checkpoint of step {step} could not be written to {target}: {reason}") from error
    return target


def read(path: Path) -> dict[str, Any]:
    """The state that `write` was given, tensors on the CPU. Every file is checked first; a fault is a CheckpointError."""
    try:
        outer = json.loads((path / "state.json").read_text(encoding="utf-8"))
        body = outer["body"]
        if zlib.crc32(json.dumps(body).encode()) != outer["crc32"]:
            raise CheckpointError(f"{path / 'state.json'} is damaged: its checksum does not match")
        if body["format"] != _FORMAT:
            raise CheckpointError(f"{path} has format {body['format']}; this version of tacit reads format {_FORMAT}")
        tensors = {}
        for name, facts in body["files"].items():
            size = (path / name).stat().st_size
            if size != facts["bytes"]:
                raise CheckpointError(f"{path / name} is damaged: it has {size} bytes of {facts['bytes']}")
            if _crc32(path / name) != facts["crc32"]:
                raise CheckpointError(f"{path / name} is damaged: its checksum does not match")
            tensors[name.removesuffix(".safetensors")] = load_file(path / name)
    except (OSError, SafetensorError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return {part: _join(value, tensors.get(part, {})) for part, value in body["state"].items()}


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what interrupted saves have left."""
    for step in saved_steps(folder)[keep:]:
        old = place(folder, step)
        os.rename(old, old.with_name(f"{old.name}.partial"))  # a half-deleted checkpoint must not look like one
    for rest in (folder / "steps").glob("*.partial"):
        shutil.rmtree(rest, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint so that it is no longer found and its place is free."""
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    return aside


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors of which no two share memory, as the file format wants; tied weights are stored twice."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        flat = tensor.cpu().contiguous()
        if (memory := flat.untyped_storage().data_ptr()) in seen:
            flat = flat.clone()
        seen.add(memory)
        apart[name] = flat
    return apart


def _split(value: Any, part: str, path: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved to `tensors` under their paths."""
    if isinstance(value, Tensor | np.ndarray):
        array = isinstance(value, np.ndarray)
        tensors[path] = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        return {"array" if array else "tensor": path}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    below = f"{path}/" if path else ""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _split(item, part, below + key, tensors) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        items = [_split(item, part, f"{below}{i}", tensors) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    raise CheckpointError(
        f"{part}.{path}: a {type(value).__name__} cannot be saved; a state holds tensors, arrays, None, bool, int, float and "
        "str, in lists, tuples and dicts with text as keys"
    )


def _join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, item),) = value.items()
    if kind == "dict":
        return {key: _join(entry, tensors) for key, entry in item.items()}
    if kind in ("list", "tuple"):
        entries = [_join(entry, tensors) for entry in item]
        return entries if kind == "list" else tuple(entries)
    # a copy: memory that torch allocates is aligned, so the arithmetic on it is the same as before the interruption
    tensor = tensors[item].clone()
    return tensor if kind == "tensor" else tensor.numpy()
