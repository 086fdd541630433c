"""What two gloo processes do for test_ranks.py: one spawn for all of it, results in files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import warnings
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from standins import DieAfter, Interrupt, Noisy, Pictures, Tiny, recipe
from torch import nn

from tacit.core.errors import RunError
from tacit.core.ranks import here
from tacit.core.recipe import Machine
from tacit.core.spec import Spec
from tacit.training import checkpoint
from tacit.training.batchnorm import share_batchnorm
from tacit.training.loop import fit
from tacit.training.runtime import enter_runtime

OPTIMIZERS = {
    "adamw": Spec("optimizer", "adamw", lr=0.01),
    "sgd": Spec("optimizer", "sgd", lr=0.05),
    "lars": Spec("optimizer", "lars", lr=0.5, eta=0.1),
    "bolts": Spec("optimizer", "lars", lr=0.5, eta=0.1, definition="bolts", clip=True),
}


def train(folder, *hooks, sharding="ddp", kind="adamw", accumulate=1, poison=None):
    """A run in float64 without dropout: what it computes does not depend on the number of processes but for rounding."""
    wanted = recipe(optim=OPTIMIZERS[kind], accumulate=accumulate, clip=0.5, machine={"sharding": sharding}, keep=9)
    system = Tiny(dropout=0.0, blocks=2).double()
    return fit(wanted, system, Pictures(), Noisy(dtype=torch.float64, poison=poison), folder, hooks=hooks)


def norms():
    """Layers and joined batches [n c ...] on which processes together must do what one alone does."""
    generator = torch.Generator().manual_seed(1)
    for layer, shape in (
        (nn.BatchNorm1d(3), (8, 3)),
        (nn.BatchNorm2d(2, momentum=None), (4, 2, 3, 3)),
        (nn.BatchNorm1d(3, affine=False, track_running_stats=False), (6, 3)),
    ):
        torch.manual_seed(2)
        yield (
            nn.Sequential(layer, nn.Conv2d(2, 2, 1) if len(shape) == 4 else nn.Linear(3, 3)).double(),
            torch.randn(*shape, generator=generator, dtype=torch.float64),
        )


def norm_results(layer, x):
    """Output, gradients of input and parameters, and running statistics after two training steps and one evaluation."""
    x = x.clone().requires_grad_()
    for _ in range(2):
        y = layer(x)
    (y**3).sum().backward()
    out = {"y": y.detach(), "x": x.grad}
    out.update({name: p.grad for name, p in layer.named_parameters()})
    out.update({name: b.double() for name, b in layer.named_buffers()})
    with torch.no_grad():
        out["evaluated"] = layer.eval()(x)
    return out


class Send:
    def __call__(self, step, terms, context):
        if step == 3 and context.runtime.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self, status):
        pass


class Break:
    """Makes one weight of one shard infinite after the last gradient, as an update that overflows would."""

    def __call__(self, step, terms, context):
        if context.last and context.runtime.ranks.rank == 1:
            with torch.no_grad():
                context.system.student.head.weight.to_local()[0, 0] = torch.inf

    def close(self, status):
        pass


def watch_gathering():
    """The sizes of all tensors that are gathered whole from now on."""
    from torch.distributed.tensor import DTensor

    sizes, gather = [0], DTensor.full_tensor

    def watched(tensor, **how):
        sizes.append(tensor.numel())
        return gather(tensor, **how)

    DTensor.full_tensor = watched
    return sizes


def damage(folder, rank):
    """Cut a run, spoil the shards of one process in its newest checkpoint, and go on."""
    with contextlib.suppress(Interrupt):
        train(folder, DieAfter(4), sharding="fsdp")
    dist.barrier()
    if rank == 0:
        file = sorted((folder / "steps/00000003/optimizer").iterdir())[1]
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    dist.barrier()
    train(folder, sharding="fsdp")


def die_between_writing_and_renaming(folder):
    """SIGKILL when all shards of step 4 are written and its checkpoint is not in its place; the last act of this process."""
    rename = os.rename

    def kill(source, target):
        if str(target).endswith("00000004"):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.rename = kill
    train(folder, sharding="fsdp")


def main(rank, world, port, root):
    root = Path(root)
    warnings.simplefilter("error")
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK="0"
    )
    found: dict[str, object] = {}
    threads = torch.get_num_threads()
    with enter_runtime(Machine(device="cpu", threads=1)) as runtime:
        found["entered"] = [runtime.ranks.size, runtime.ranks.rank, runtime.leads, torch.get_num_threads()]
    found["left"] = [dist.is_initialized(), torch.get_num_threads() == threads]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{root}/meet", rank=rank, world_size=world)

    for i, (layer, x) in enumerate(norms()):
        shared = share_batchnorm(layer, here(), torch.device("cpu"))
        mine = norm_results(shared, x[rank * len(x) // world : (rank + 1) * len(x) // world])
        torch.save(mine, root / f"norm-{i}-{rank}.pt")

    gathered = watch_gathering()
    for kind in OPTIMIZERS:
        for sharding in ("ddp", "fsdp"):
            train(root / f"{sharding}-{kind}", sharding=sharding, kind=kind)
    for sharding in ("ddp", "fsdp"):
        train(root / f"{sharding}-accumulated", sharding=sharding, kind="sgd", accumulate=2)
        for name in (f"{sharding}-2-2", f"{sharding}-2-1"):
            try:
                train(root / name, DieAfter(4), sharding=sharding)
            except Interrupt:
                found[name] = checkpoint.saved_steps(root / name)[0]
        train(root / f"{sharding}-2-2", sharding=sharding)
        train(root / f"{sharding}-1-2", sharding=sharding)  # begun by one process
    found["gathered"] = max(gathered)
    damage(root / "damaged", rank)

    try:
        train(root / "poisoned", poison=int(os.environ["POISON"]))
    except RunError as error:
        found["poisoned"] = str(error)
    result = train(root / "signalled", Send())
    found["signalled"] = [result.status, result.step, result.reason]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    save_file, checkpoint.save_file = checkpoint.save_file, full
    try:
        train(root / "full")
    except RunError as error:
        found["full"] = str(error)
    checkpoint.save_file = save_file
    save = safetensors.torch.save
    safetensors.torch.save = full if rank == 1 else save
    try:
        train(root / "full-shard", sharding="fsdp")
    except RunError as error:
        found["full-shard"] = str(error)
    safetensors.torch.save = save
    try:
        train(root / "broken", Break(), sharding="fsdp")
    except RunError as error:
        found["broken"] = str(error)
    try:
        fit(recipe(machine={"sharding": "fsdp", "precision": "fp16"}), Tiny(), Pictures(), Noisy(), root / "refused")
    except RunError as error:
        found["refused"] = str(error)
    (root / f"found-{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    die_between_writing_and_renaming(root / "killed")
