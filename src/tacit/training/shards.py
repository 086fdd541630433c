"""Tensors that are spread over processes, as safetensors: every process writes its own shards and reads what it needs.

A folder holds one file a process, `shard-00001-model-00001-of-00001.safetensors` and so on, written and read by
torch.distributed.checkpoint. A file's header says in JSON where in the whole tensor its pieces begin; there is no other
metadata and no pickle. Tensors that are whole everywhere (buffers) are written by one process.
Any number of processes reads what any number wrote, and one process without a process group reads whole tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.training.trees import is_sharded

__all__ = ["Like", "apart", "laid_out", "read", "write"]

Like = Callable[
    [str], Any
]  # name -> the tensor whose layout over the processes the one of that name shall have, or None


def laid_out(whole: Tensor, like: Any) -> Tensor:
    """A copy of `whole` [...], in torch's own memory, spread as `like` where that is sharded and of its shape."""
    if is_sharded(like) and whole.shape == like.shape:
        from torch.distributed.tensor import distribute_tensor

        # every process can read the whole tensor, so none needs to be sent; the copy lets go of the rest of it
        shards = distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
        return shards.clone()
    return whole.clone()


def write(path: Path, tensors: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """Write the tensors into the folder `path`; all processes call it together, with the same names.

    Returns this process's file ('' if it had nothing to write) and, in the leading process, those of all by rank. Where one
    process fails, all raise its fault.
    """
    from torch.distributed import checkpoint as dcp

    class Writer(dcp.HuggingFaceStorageWriter):
        """Says which files it has written: torch leaves no list of them."""

        own: tuple[str, ...] = ()
        files: tuple[str, ...] = ()

        def write_data(self, plan: Any, planner: Any) -> Any:
            future = super().write_data(plan, planner)
            self.own = _names(future.value())
            return future

        def finish(self, metadata: Any, results: Any) -> None:
            super().finish(metadata, results)
            self.files = tuple("".join(_names(of_rank)) for of_rank in results)

    writer = Writer(str(path), save_distributed=True)
    try:
        dcp.save(apart(tensors), storage_writer=writer)
    except dcp.CheckpointException as error:  # a BaseException, raised in all processes
        raise _fault(error) from error
    return "".join(writer.own), list(writer.files)


def read(path: Path, like: Like, *, together: bool) -> dict[str, Tensor]:
    """The tensors of a folder, each laid out as `like(name)`; whole and on the CPU where that is None.

    together: all processes call it, and where one fails all raise its fault.
    """
    from torch.distributed import checkpoint as dcp

    reader = dcp.HuggingFaceStorageReader(str(path))
    stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
    tensors: dict[str, Any] = {}
    for name, facts in stored.items():
        shape, dtype, wanted = facts.size, facts.properties.dtype, like(name)
        fits = is_sharded(wanted) and wanted.shape == shape
        tensors[name] = torch.empty_like(wanted.detach(), dtype=dtype) if fits else torch.empty(shape, dtype=dtype)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process alone is meant
            dcp.load(tensors, storage_reader=reader, no_dist=not together)
    except dcp.CheckpointException as error:
        raise _fault(error) from error
    return tensors


def _names(results: Any) -> tuple[str, ...]:
    """The files that hold what was written; one a process, as the writer is set up here."""
    return tuple(sorted({result.storage_data.relative_path for result in results}))


def _fault(error: Any) -> Exception:
    """The first process's fault, the same in all processes; a fault of the disk says where it was."""
    rank, (fault, _) = min(error.failures.items(), key=lambda item: item[0])
    return OSError(f"rank {rank}: {fault.strerror or fault}") if isinstance(fault, OSError) else fault


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory, as the file format wants; tied weights are stored twice."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        flat: Any = tensor.detach()
        local = flat.to_local() if is_sharded(flat) else flat
        memory = local.untyped_storage().data_ptr()
        if memory in seen or not local.is_contiguous():
            flat = flat.clone(memory_format=torch.contiguous_format)
        seen.add(memory)
        separate[name] = flat
    return separate
