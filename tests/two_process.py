"""Run as one of two gloo processes: `python two_process.py RANK FOLDER`. Rank 0 writes FOLDER/found.json.

For each case: the gradient that DDP averages over two processes with `here()` ranks, against the gradient of one process on the
joined batch, in float64. A new objective is one more line in OBJECTIVES. Under 'judges': how far the label-free criteria, merged from
unequal shares of rows, are from those of all rows, by protocol.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tacit.core.ranks import ALONE, here
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.judging import Panel, ViewPanel

# name of the case -> objective, samples on each rank, width of the embedding
OBJECTIVES = {
    "simclr": (Spec("objective", "simclr", temperature=0.5), 6, 8),
    "simclr-cold": (Spec("objective", "simclr", temperature=0.01), 6, 8),
    "vicreg-gram": (Spec("objective", "vicreg"), 4, 12),
    "vicreg-covariance": (Spec("objective", "vicreg"), 12, 5),
    "dcl": (Spec("objective", "dcl"), 6, 8),
    "dclw": (Spec("objective", "dclw"), 6, 8),
    "dcl-abs": (Spec("objective", "dcl-abs"), 6, 8),
    "dcl-sq": (Spec("objective", "dcl-sq"), 6, 8),
    "simclr-abs": (Spec("objective", "simclr-abs"), 6, 8),
    "simclr-sq": (Spec("objective", "simclr-sq"), 6, 8),
    "spectral-contrastive-gram": (Spec("objective", "spectral-contrastive"), 4, 12),
    "spectral-contrastive-covariance": (Spec("objective", "spectral-contrastive"), 12, 5),
    "alignment-uniformity": (Spec("objective", "alignment-uniformity"), 6, 8),
    "barlow-twins-gram": (Spec("objective", "barlow-twins"), 4, 12),
    "barlow-twins-covariance": (Spec("objective", "barlow-twins"), 12, 5),
    "vicreg-exp": (Spec("objective", "vicreg-exp"), 6, 5),
    "vicreg-ctr": (Spec("objective", "vicreg-ctr"), 6, 5),
    "vibcreg-gram": (Spec("objective", "vibcreg"), 4, 12),
    "vibcreg-covariance": (Spec("objective", "vibcreg", block=3), 12, 5),
    "w-mse": (Spec("objective", "w-mse"), 12, 5),
    "w-mse-shuffled": (Spec("objective", "w-mse", sub_batch=8), 12, 5),
    "tico": (Spec("objective", "tico"), 6, 5),
    "emp-gram": (Spec("objective", "emp"), 4, 12),
    "emp-covariance": (Spec("objective", "emp"), 12, 5),
    "frossl-gram": (Spec("objective", "frossl"), 4, 12),
    "frossl-covariance": (Spec("objective", "frossl"), 12, 5),
    "mmcr-gram": (Spec("objective", "mmcr", local=0.1), 4, 12),
    "mmcr-covariance": (Spec("objective", "mmcr", local=0.1), 12, 5),
    "lejepa": (Spec("objective", "lejepa", directions=32), 6, 5),
    "bcs": (Spec("objective", "bcs", directions=32), 6, 5),
    "visreg": (Spec("objective", "visreg", slices=33), 6, 5),
    "duality-sample-gram": (Spec("objective", "duality", side="sample", sets="joint"), 4, 12),
    "duality-sample-covariance": (Spec("objective", "duality", side="sample"), 12, 5),
    "duality-absolute": (Spec("objective", "duality", repulsion="absolute", sets="cross"), 6, 5),
    "byol": (Spec("objective", "byol"), 6, 5),
    "simsiam": (Spec("objective", "simsiam"), 6, 5),
    "moco": (Spec("objective", "moco", keys=32), 6, 5),
    "moco-v3": (Spec("objective", "moco-v3"), 6, 5),
    "nnclr": (Spec("objective", "nnclr", support=32), 6, 5),
    "dino": (Spec("objective", "dino"), 6, 5),
    "dino-sinkhorn": (Spec("objective", "dino", balance="sinkhorn"), 6, 5),
    "swav": (Spec("objective", "swav"), 6, 5),
    "msn": (Spec("objective", "msn"), 6, 5),
    "msn-sinkhorn": (Spec("objective", "msn", balance="sinkhorn"), 6, 5),
    "deepcluster": (Spec("objective", "deepcluster", prototypes=(4, 3), memory=64), 6, 5),
}
_ENCODER, _NONE = Spec("encoder", "vit", patch=4, width=8, heads=2, depth=1), Spec("head", "identity")
_EMA, _TWIN = Spec("teacher", "ema", momentum=0.9), Spec("teacher", "twin")
_LINEAR = Spec("head", "mlp", widths=(8,))
SYSTEMS = {
    "system": {"projector": _NONE, "objective": Spec("objective", "vicreg")},
    "system-with-queue": {
        "projector": _NONE,
        "objective": Spec("objective", "moco", keys=32),
        "teacher": _EMA,
        "predictor": _LINEAR,
    },
    "system-with-support": {
        "projector": _NONE,
        "objective": Spec("objective", "nnclr", support=16),
        "teacher": _TWIN,
        "predictor": _LINEAR,
    },
    "system-with-centre": {
        "projector": Spec("head", "dino", hidden=8, bottleneck=4, prototypes=6),
        "objective": Spec("objective", "dino"),
        "teacher": _EMA,
    },
    "system-with-swav-queue": {
        "projector": Spec("head", "prototypes", widths=(8,), prototypes=6),
        "objective": Spec("objective", "swav", queue=8),
        "teacher": _TWIN,
    },
    "system-with-hidden-patches": {
        "projector": Spec("head", "dino", hidden=8, bottleneck=4, prototypes=6, deviation=0.5),
        "objective": Spec("objective", "dino"),
        "patch_objective": Spec("objective", "dino", balance="sinkhorn", target_temperature=0.1),
        "teacher": _EMA,
    },
    "system-with-hidden-patches-centred": {
        "projector": Spec("head", "dino", hidden=8, bottleneck=4, prototypes=6, deviation=0.5),
        "objective": Spec("objective", "dino"),
        "patch_objective": Spec("objective", "dino"),
        "teacher": _EMA,
    },
    "supcon-system": {"projector": _NONE, "objective": Spec("objective", "supcon"), "labels": "label"},
    "system-with-clusters": {
        "projector": _NONE,
        "objective": Spec("objective", "deepcluster", prototypes=(4, 3), memory=12),
        "teacher": _TWIN,
    },
}


_SEES = Spec("encoder", "perceptron", hidden=(12,), width=6)
_INSIDE = Spec("system", "world-model", encoder=_SEES, inverse=None, similarity=0.0, steps=1, starts="every")
WORLDS = {
    "world-model": Spec("system", "world-model", encoder=_SEES, steps=2),
    "world-model-first": _INSIDE.change(regulariser=Spec("regulariser", "vc", frames="first", over_time=0.5)),
    "world-model-sigreg": _INSIDE.change(regulariser=Spec("regulariser", "sigreg", directions=16)),
    "latent-action-vq": Spec(
        "system", "latent-action", world=_INSIDE, bottleneck=Spec("bottleneck", "vq", width=3, codes=4)
    ),
    "latent-action-sparse": Spec(
        "system", "latent-action", world=_INSIDE, bottleneck=Spec("bottleneck", "sparse", width=3)
    ),
}


class Criterion(nn.Module):
    """A linear network under an objective: DDP needs the loss inside its forward."""

    def __init__(self, objective: Spec, d: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Linear(7, d).double()
        self.objective = objective.build()

    def forward(self, a, b, ranks):
        return self.objective(self.net(a), self.net(b), ranks)


class System(nn.Module):
    """A whole system on batches."""

    def __init__(self, settings: dict[str, Spec | str]) -> None:
        super().__init__()
        torch.manual_seed(3)
        kind = "self-distillation" if "patch_objective" in settings else "joint-embedding"
        spec = Spec("system", kind, encoder=_ENCODER, **settings)
        self.system = spec.build(Facts(channels=1, shape=(8, 8))).double()

    def forward(self, a, b, ranks):
        ids = (100 * a.flatten(1)[:, 0]).round().long()  # of the sample, whoever has it
        hidden = {"mask": (a[:, 0, ::4, ::4] > 0.5).flatten(1)}  # another number of patches on each rank
        batch = Batch({"a": View(a, hidden), "b": View(b, hidden)}, ids, facts={"label": ids % 3})
        return self.system(batch, 0.0, ranks)


class World(nn.Module):
    """A system on clips with actions, both made from the two views."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.system = spec.build(Facts(channels=1, shape=(4, 8, 8), action_dim=2)).double()

    def forward(self, a, b, ranks):
        clip = torch.stack([a, b, a * b, a - b], 2)
        action = a.flatten(1)[:, :8].unflatten(1, (4, 2))
        return self.system(Batch({"image": View(clip)}, torch.arange(len(a)), action), 0.0, ranks)


def compare(make, shape) -> dict[str, float]:
    """Relative difference of loss and gradient between two processes and one, and of what they remember afterwards.

    `shape` is that of one rank's share.
    """
    generator = torch.Generator().manual_seed(1)
    n, rank = shape[0], dist.get_rank()
    a, b = torch.randn(2, 2 * n, *shape[1:], dtype=torch.float64, generator=generator)
    mine = slice(rank * n, (rank + 1) * n)
    alone, shared = make(), DistributedDataParallel(make())
    torch.manual_seed(5)  # a criterion may draw: alone and on rank 0 the same, on the other rank something else
    expected = alone(a, b, ALONE)
    expected["loss"].backward()
    torch.manual_seed(5 + rank)
    found = shared(a[mine], b[mine], here())
    found["loss"].backward()
    one = torch.cat([p.grad.flatten() for p in alone.parameters() if p.requires_grad])
    two = torch.cat([p.grad.flatten() for p in shared.parameters() if p.requires_grad])
    loss = max(float((found[name] - expected[name]).detach().abs() / expected["loss"].detach()) for name in expected)
    kept = zip(alone.buffers(), shared.module.buffers(), strict=True)
    memory = max((float((x - y).abs().max()) for x, y in kept if x.numel()), default=0.0)
    return {"loss": loss, "gradient": float((one - two).norm() / one.norm()), "memory": memory}


def judged() -> dict[str, float]:
    """Relative difference of every criterion between two processes and one; the shares are 300 and 420 rows, 0 and 40 samples of views."""
    z = 1 + torch.randn(720, 24, generator=torch.Generator().manual_seed(2)) * torch.arange(1, 25).rsqrt()
    views = z[:120].unflatten(0, (40, 3))
    rank, gaps = dist.get_rank(), dict[str, float]()
    for make, rows, first in ((Panel, z, 300), (ViewPanel, views, 0)):
        alone, shared = make(), make()
        alone.update(rows)
        for part in (rows[:first], rows[first:])[rank].split(64):
            shared.update(part)
        shared.merge(here())
        for mine, one in zip(shared.scores(), alone.scores(), strict=True):
            assert (mine.protocol, mine.n) == (one.protocol, one.n)
            gaps[mine.protocol] = 0.0 if mine.value == one.value else abs(mine.value - one.value) / abs(one.value)
    return gaps


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    found = {
        name: compare(lambda spec=spec, d=d: Criterion(spec, d), (n, 7)) for name, (spec, n, d) in OBJECTIVES.items()
    }
    found |= {
        name: compare(lambda settings=settings: System(settings), (6, 1, 8, 8)) for name, settings in SYSTEMS.items()
    }
    found |= {name: compare(lambda spec=spec: World(spec), (6, 1, 8, 8)) for name, spec in WORLDS.items()}
    found["judges"] = judged()
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    # all is said; torch's own threads may abort a process that ends by itself ("terminate called"), seen once in many runs
    os._exit(0)
