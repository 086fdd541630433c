"""Where a run is carried out: device, number format, threads, processes. Entered once, and left as it was found."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tacit.core.errors import RunError, TacitError
from tacit.core.ranks import ALONE, Ranks, here
from tacit.core.recipe import Machine
from tacit.training.batchnorm import share_batchnorm

__all__ = ["Runtime", "choose_device", "enter_runtime", "memory_kept", "narrowed"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_NOTHING = contextlib.nullcontext()
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h
_OTHER_DOORS = ("embed", "project", "energy", "imagine")  # methods of a system that are called beside `forward`


@dataclass(frozen=True)
class Runtime:
    """The device and the processes of a run, and how a system is laid over them."""

    device: torch.device
    machine: Machine
    ranks: Ranks = ALONE

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.ranks.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether the weights are spread over the processes."""
        return self.ranks.size > 1 and self.machine.sharding == "fsdp"

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass in the machine's number format."""
        return _autocast(self.device, self.machine.precision)

    def scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler that float16 needs, None for the wider formats."""
        return torch.amp.GradScaler(self.device.type) if self.machine.precision == "fp16" else None

    def seed(self, number: int) -> None:
        """Seed torch's generators of the CPU and of this device."""
        torch.default_generator.manual_seed(number)
        kind = self.device.type
        if kind == "cuda":
            torch.cuda.manual_seed(number)
        elif kind == "mps":
            torch.mps.manual_seed(number)

    def generators_kept(self) -> contextlib.AbstractContextManager[Any]:
        """A context at whose end torch's generators are as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        return torch.random.fork_rng(devices=devices, device_type="cuda")

    def lay_out(self, system: nn.Module) -> Callable[..., dict[str, Tensor]]:
        """Move `system` to the device, share or shard it, and return what to call in its place to get the loss.

        With several processes BatchNorm counts the samples of all. DDP keeps all weights everywhere; FSDP shards each block
        (an entry of a ModuleList) by itself and then the rest. The optimiser must be built afterwards. On CUDA, filters of convolutions
        lie with their channels last where a narrow format is computed in: its matrix units want them so.
        """
        system.to(self.device)
        if self.device.type == "cuda" and self.machine.precision in _DTYPES and not self.sharded:
            for p in system.parameters():
                if p.ndim == 4:
                    p.data = p.data.contiguous(memory_format=torch.channels_last)
        call: Any = system
        if self.ranks.size > 1:
            share_batchnorm(system, self.ranks, self.device)
            call = self._shard(system) if self.sharded else self._copy(system)
        return torch.compile(call) if self.machine.compile else call  # type: ignore[no-any-return]

    def _copy(self, system: nn.Module) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        ids = [self.device.index] if self.device.type == "cuda" else None
        # buffers come from statistics of all ranks and are equal already: nothing to send at each forward pass
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        spare: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
        }
        return DistributedDataParallel(system, device_ids=ids, gradient_as_bucket_view=True, **spare)

    def _shard(self, system: nn.Module) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(self.device.type, (self.ranks.size,))
        for module in reversed(list(system.modules())):  # inner blocks before those around them
            if isinstance(module, nn.ModuleList):
                for block in module:
                    if not isinstance(block, nn.ModuleList | nn.ModuleDict):  # containers have no forward to hook
                        fully_shard(block, mesh=mesh)
        fully_shard(system, mesh=mesh)
        for door in _OTHER_DOORS:
            if hasattr(system, door):
                register_fsdp_forward_method(system, door)
        return system

    def accumulating(self, call: Any, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """The context of one micro-batch's backward pass: gradients cross processes with the last one alone."""
        if self.ranks.size > 1:
            inner = getattr(call, "_orig_mod", call) if self.machine.compile else call
            if self.sharded:
                inner.set_requires_gradient_sync(last)
            elif not last:
                return inner.no_sync()  # type: ignore[no-any-return]
        return _NOTHING

    def tell(self, number: int) -> int:
        """The leading process's number, in every process."""
        if self.ranks.size == 1:
            return number
        return int(self.ranks.total(torch.tensor(number if self.leads else 0, device=self.device)).item())

    def by_leader(self, work: Callable[[], int]) -> int:
        """Let the leading process alone do `work`, and give its result (>= 0) to all; where it fails, all raise."""
        result, fault = -1, None
        if self.leads:
            try:
                result = work()
            except (TacitError, OSError) as error:
                fault = error
        result = self.tell(result)
        if fault is not None:
            raise fault
        if result < 0:
            raise RunError("the leading process (rank 0) had to stop: its message says why")
        return result


def narrowed(call: Callable[..., Tensor], device: torch.device, precision: str) -> Callable[..., Tensor]:
    """`call` with its products in that number format and its answer in float32."""
    if precision not in _DTYPES:
        return call

    def narrow(*given: Any) -> Tensor:
        with _autocast(device, precision):
            return call(*given).float()

    return narrow


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    dtype = _DTYPES.get(precision)
    return torch.autocast(device.type, dtype) if dtype else _NOTHING


def choose_device(name: str) -> torch.device:
    """The device of that name; 'auto' takes CUDA before MPS before the CPU. Under a launcher, CUDA means this process's card."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(f"machine.device: no device is named {name!r}: choose auto, cpu, cuda, cuda:1 or mps") from error
    here_now: dict[str, Callable[[], bool]] = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device.type in here_now and not here_now[device.type]():
        raise RunError(
            f"machine.device: {name!r} was asked for, and torch finds none here: choose device=cpu or device=auto"
        )
    if device.type == "cuda":
        index = device.index if device.index is not None else int(os.environ.get("LOCAL_RANK", 0))
        if index >= torch.cuda.device_count():
            raise RunError(
                f"machine.device: cuda:{index} was asked for, and there are {torch.cuda.device_count()} cards here: "
                "start one process a card"
            )
        return torch.device("cuda", index)
    return device


@contextlib.contextmanager
def memory_kept() -> Iterator[None]:
    """Where the C library is glibc, freed memory stays with the process, for the next step to use as it is.

    Large blocks otherwise go back to the system and come anew, cleared page by page, at every step on a processor: a twentieth to a
    quarter of its time, in training as in planning.
    """
    try:
        set_to, trim = ctypes.CDLL(None).mallopt, ctypes.CDLL(None).malloc_trim
    except (AttributeError, TypeError, OSError):  # another C library, another system
        yield
        return
    try:
        set_to(_MMAP_MAX, 0)
        set_to(_TRIM_THRESHOLD, -1)
        yield
    finally:  # the values that glibc's own rule ends at
        for name, value in ((_MMAP_MAX, 65_536), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20)):
            set_to(name, value)
        trim(0)


@contextlib.contextmanager
def enter_runtime(machine: Machine) -> Iterator[Runtime]:
    """Set threads, device and memory, join the process group that a launcher announces (WORLD_SIZE, RANK, ...); undo it all at the end.

    A process group that is already running is used and left running. gloo carries CPU tensors, NCCL those of CUDA.
    """
    device = choose_device(machine.device)
    threads = torch.get_num_threads()
    card = torch.cuda.current_device() if device.type == "cuda" else None
    joined = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    try:
        if machine.threads:
            torch.set_num_threads(machine.threads)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if joined:
            cuda = device.type == "cuda"
            dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
        ranks = here()
        if ranks.size > 1 and machine.sharding == "fsdp" and machine.precision == "fp16":
            raise RunError(
                "machine.precision: 'fp16' needs a gradient scaler, which sharding='fsdp' lacks: choose bf16"
            )
        with memory_kept() if device.type == "cpu" else _NOTHING:
            yield Runtime(device, machine, ranks)
    finally:
        if joined and dist.is_initialized():
            dist.destroy_process_group()
        if card is not None:
            torch.cuda.set_device(card)
        torch.set_num_threads(threads)
