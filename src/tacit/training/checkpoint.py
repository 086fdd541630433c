"""Checkpoints: steps/00012000/ with all tensors in safetensors and everything else in JSON. Nothing is ever unpickled.

    state.json            the tree of the state, with {"tensor": name} where a tensor stands, and size and CRC-32 of each file
    system.safetensors    the weights and buffers under their own names; optimizer.safetensors, hooks.safetensors, ...
    system/shard-*.safetensors   in place of the above where the weights are sharded: every process writes its own shards

A checkpoint is written beside its place, synchronised, and renamed when all processes are done: it is complete or absent.
Any number of processes reads it, whatever number wrote it, and `read` without a process group gives whole tensors.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tacit.core.errors import CheckpointError, RunError
from tacit.core.recipe import Machine
from tacit.training import shards
from tacit.training.disk import sync
from tacit.training.runtime import Runtime
from tacit.training.trees import is_sharded, map_tensors

__all__ = ["place", "prune", "read", "saved_steps", "set_aside", "whole", "write"]

_FORMAT = 1
Like = Callable[[str, str], Any]  # part, name -> the tensor whose layout over the processes is wanted, or None


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


def write(folder: Path, step: int, state: Mapping[str, Any], runtime: Runtime | None = None) -> Path:
    """Write the checkpoint after `step` updates and return its folder; raises RunError, leaving nothing, where it cannot.

    All processes of `runtime` call it together. Parts of the state that hold sharded tensors are written by all of them; of
    the others the leading process's count.
    """
    runtime = runtime or _alone()
    target = place(folder, step)
    beside = target.with_name(f"{target.name}.partial")
    shared = [part for part, value in state.items() if _any_sharded(value)]
    tree: dict[str, Any] = dict.fromkeys(state)
    files: dict[str, dict[str, int]] = {}

    def begin() -> int:
        waits: list[Future[None]] = []
        with _named(step, target), ThreadPoolExecutor(1, "tacit-disk") as disk:  # it synchronises while sums are made
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            for part in (part for part in state if part not in shared):
                tensors: dict[str, Tensor] = {}
                tree[part] = _split(state[part], part, "", tensors)
                if tensors:
                    name = f"{part}.safetensors"
                    save_file(shards.apart(tensors), beside / name)
                    waits.append(disk.submit(sync, beside / name))
                    files[name] = dict(zip(("bytes", "crc32"), _measure(beside / name), strict=True))
            for wait in waits:
                wait.result()
        return 0

    def end() -> int:
        with _named(step, target):
            _write_tree(beside / "state.json", {"format": _FORMAT, "step": step, "files": files, "state": tree})
            for name in files:  # the writer of tensors keeps them from other users; the folder's own rules shall hold
                (beside / name).chmod((beside / "state.json").stat().st_mode)
            for path in (*(beside / part for part in shared), beside):
                sync(path)
            os.rename(beside, target)
            sync(target.parent)
        return 0

    try:
        runtime.by_leader(begin)
        for part in shared:
            tensors: dict[str, Tensor] = {}
            tree[part] = _split(state[part], part, "", tensors)
            with _named(step, target):
                files.update(_write_shards(beside, part, tensors, runtime))
        runtime.by_leader(end)
    except (CheckpointError, RunError):
        if runtime.leads:
            shutil.rmtree(beside, ignore_errors=True)
        raise
    return target


def _alone() -> Runtime:
    return Runtime(torch.device("cpu"), Machine())


@contextlib.contextmanager
def _named(step: int, target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(f"the checkpoint of step {step} could not be written to {target}: {reason}") from error


def _any_sharded(value: Any) -> bool:
    found: list[bool] = []

    def look(tensor: Tensor) -> Tensor:
        found.append(is_sharded(tensor))
        return tensor

    map_tensors(value, look)
    return any(found)


def _write_shards(
    beside: Path, part: str, tensors: Mapping[str, Tensor], runtime: Runtime
) -> dict[str, dict[str, int]]:
    """Write the shards of all processes. In the leading one: what `state.json` says of each file."""
    own, names = shards.write(beside / part, tensors)
    mine = torch.tensor([_measure(beside / part / own) if own else (0, 0)], device=runtime.device)
    rows = runtime.ranks.gather(mine).tolist()  # by rank, as the names
    for size, _ in rows:
        if size < 0:
            raise OSError(-size, os.strerror(-size))
    listed = [(name, row) for name, row in zip(names, rows, strict=True) if name] if runtime.leads else []
    return {f"{part}/{name}": {"bytes": size, "crc32": crc} for name, (size, crc) in listed}


def _write_tree(path: Path, body: Mapping[str, Any]) -> None:
    text = json.dumps(body)
    path.write_text(f'{{"crc32": {zlib.crc32(text.encode())}, "body": {text}}}\n', encoding="utf-8")
    sync(path)


def read(path: Path, like: Like | None = None, runtime: Runtime | None = None) -> dict[str, Any]:
    """The state that `write` was given. Every file is checked first; a fault is a CheckpointError, the same in all processes.

    All processes of `runtime` call it together. Tensors are whole and on the CPU, but for those to which `like(part, name)`
    gives a sharded tensor of the same shape: of these each process gets its own shards.
    """
    runtime = runtime or _alone()
    wanted = like or (lambda part, name: None)  # noqa: ARG005  (the protocol's names)
    body = _checked(path, runtime)
    try:
        return {
            part: _join(value, _tensors(path, part, body["files"], wanted, runtime))
            for part, value in body["state"].items()
        }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _tensors(path: Path, part: str, files: Mapping[str, Any], like: Like, runtime: Runtime) -> dict[str, Tensor]:
    if f"{part}.safetensors" in files:
        with safe_open(path / f"{part}.safetensors", framework="pt") as file:  # one whole tensor at a time in memory
            return {name: shards.laid_out(file.get_tensor(name), like(part, name)) for name in file.keys()}  # noqa: SIM118
    if any(name.startswith(f"{part}/") for name in files):
        return shards.read(path / part, lambda name: like(part, name), together=runtime.ranks.size > 1)
    return {}


def _checked(path: Path, runtime: Runtime) -> dict[str, Any]:
    """What state.json says, once every file is as it says. The processes share the reading, and reach the same verdict."""
    try:
        outer = json.loads((path / "state.json").read_text(encoding="utf-8"))
        body: dict[str, Any] = outer["body"]
        if zlib.crc32(json.dumps(body).encode()) != outer["crc32"]:
            raise CheckpointError(f"{path / 'state.json'} is damaged: its checksum does not match")
        if body["format"] != _FORMAT:
            raise CheckpointError(f"{path} has format {body['format']}; this version of tacit reads format {_FORMAT}")
        files = {name: (facts["bytes"], facts["crc32"]) for name, facts in body["files"].items()}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    rank, size = runtime.ranks.rank, runtime.ranks.size
    found = [_measure(path / name) if i % size == rank else (0, 0) for i, name in enumerate(files)]
    # shards are found by listing their folder, so nothing else may lie there
    others = sum(str(file.relative_to(path)) not in files for file in path.glob("*/*")) if runtime.leads else 0
    table = runtime.ranks.total(torch.tensor([*found, (others, 0)], device=runtime.device)).tolist()
    for (name, (bytes_, crc32)), (size_, crc) in zip(files.items(), table[:-1], strict=True):
        if size_ < 0:
            raise CheckpointError(f"{path / name} is damaged: {os.strerror(-size_)}")
        if size_ != bytes_:
            raise CheckpointError(f"{path / name} is damaged: it has {size_} bytes of {bytes_}")
        if crc != crc32:
            raise CheckpointError(f"{path / name} is damaged: its checksum does not match")
    if table[-1][0]:
        raise CheckpointError(f"{path} is damaged: it holds {table[-1][0]} files that its state.json does not know")
    return body


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


def _measure(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file, or minus the error's number and 0: two integers, which cross processes easily."""
    crc = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                crc = zlib.crc32(block, crc)
            return file.tell(), crc
    except OSError as error:
        return -(error.errno or errno.EIO), 0


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
    tensor = tensors[item]
    return tensor if kind == "tensor" else tensor.numpy()
