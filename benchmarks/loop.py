"""What the loop costs per step: `tacit.training.loop.fit` beside a bare torch loop and Lightning's Trainer.

    python benchmarks/loop.py [--rounds 5] [--threads 1] [--json]

All sides do the same arithmetic on the same batches with torch's own AdamW: read uint8 images, scale them, forward, backward,
update, warm-up and cosine rate. tacit also seeds each step, checks each loss, calls a hook, and logs; Lightning logs at the same
distance. The sides take turns; a number is the median over the rounds of the mean time of a step, warm-up steps left out; per cent are
medians of the ratio to bare torch in the same round. Processor time counts all threads and is steadier on a busy machine.
"""

# ruff: noqa: ARG002  (the protocols name their arguments)
from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tacit.core.random import order
from tacit.core.ranks import ALONE
from tacit.core.recipe import Checks, Machine, Recipe
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.training.loop import fit
from tacit.training.optimizers import rate_at, set_rate

LOG_EVERY, SKIP = 50, 20
OPTIM = Spec("optimizer", "adamw", lr=1e-3)


Times = np.ndarray  # of a step: wall-clock seconds, processor seconds of all threads


def now() -> Times:
    return np.array([time.perf_counter(), time.process_time()])


class Source:
    facts = Facts(channels=3, shape=(16, 16))

    def __init__(self, n: int) -> None:
        self.images = torch.randint(
            0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices) -> Batch:
        rows = torch.as_tensor(indices)
        return Batch({"image": View(self.images[rows])}, ids=rows)


class Scaled:
    names, facts = ("image",), Source.facts

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:
        return Batch({"image": View(batch.views["image"].data.float() / 255)}, batch.ids)


class Auto(nn.Module):
    """An autoencoder: `width` sets what a step costs."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        inner = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(768, width), nn.ReLU(), *inner, nn.Linear(width, 768))

    def forward(self, batch: Batch, progress: float, ranks=ALONE) -> dict[str, torch.Tensor]:
        x = batch.views["image"].data
        return {"loss": (self.net(x) - x.flatten(1)).square().mean()}

    def groups(self):
        return [{"params": list(self.parameters()), "decay": True, "scale": 1.0}]

    def after_step(self, progress: float) -> None:
        pass


def bare(size, steps: int, batch: int) -> Times:
    source, views, system = Source(1024), Scaled(), Auto(*size)
    optim = OPTIM.build()
    optimizer, per_epoch, start = optim.build(system.groups()), len(source) // batch, now()
    for step in range(steps):
        if step == SKIP:
            start = now()
        epoch, at = divmod(step, per_epoch)
        if at == 0:
            permutation = order(0, epoch, len(source))
        x = views(source.read(permutation[at * batch : (at + 1) * batch]), 0, epoch)
        set_rate(optimizer, rate_at(optim, step / steps))
        loss = system(x, step / steps)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        system.after_step(step / steps)
        if (step + 1) % LOG_EVERY == 0:
            loss.item()
    return (now() - start) / (steps - SKIP)


class Clock:
    def __call__(self, step, terms, context) -> None:
        if step == SKIP:
            self.start = now()
        if step == context.steps:
            self.end = now()

    def close(self, status) -> None:
        pass


def ours(size, steps: int, batch: int) -> Times:
    recipe = Recipe(
        system=Spec("system", "auto"), data=Spec("source", "random"), views=Spec("views", "scaled"), optim=OPTIM, steps=steps, batch=batch,
        checks=Checks(log_every=LOG_EVERY, save_every=0), machine=Machine(device="cpu", threads=torch.get_num_threads()),
    )  # fmt: skip
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        fit(recipe, Auto(*size), Source(1024), Scaled(), Path(folder) / "run", hooks=[clock])
    return (clock.end - clock.start) / (steps - SKIP)


def lightnings(size, steps: int, batch: int) -> Times:
    import lightning

    source, views, optim = Source(1024), Scaled(), OPTIM.build()

    class Batches(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return steps

        def __getitem__(self, step: int) -> torch.Tensor:
            epoch, at = divmod(step, len(source) // batch)
            if at == 0:
                self.permutation = order(0, epoch, len(source))
            return views(source.read(self.permutation[at * batch : (at + 1) * batch]), 0, epoch).views["image"].data

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.system = Auto(*size)

        def training_step(self, x, index):
            loss = (self.system.net(x) - x.flatten(1)).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            optimizer = optim.build(self.system.groups())
            rule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: optim.factor(min(step / steps, 1.0)))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rule, "interval": "step"}}

    class Timer(lightning.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            if trainer.global_step == SKIP:
                self.start = now()
            if trainer.global_step == steps:
                self.end = now()

    timer = Timer()
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=LOG_EVERY, callbacks=[timer],
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(Batches(), batch_size=None))
    return (timer.end - timer.start) / (steps - SKIP)


SIDES = {"bare torch": bare, "tacit": ours, "lightning": lightnings}
SIZES = {
    "tiny: 2 layers of 128, batch 64": ((128, 0), 64, 1500),
    "small: 6 layers of 512, batch 128": ((512, 4), 128, 200),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")  # Lightning's advice about workers and loggers
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rows = []
    for name, (size, batch, steps) in SIZES.items():
        taken: dict[str, list[Times]] = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side, run in SIDES.items():
                taken[side].append(run(size, steps, batch))
        base = np.stack(taken["bare torch"])
        for side, times in taken.items():
            wall, processor = np.median(np.stack(times), axis=0) * 1e3
            beside = np.median(np.stack(times) / base, axis=0) - 1
            row = {"size": name, "side": side, "wall_ms": wall, "cpu_ms": processor}
            rows.append({**row, "wall_beside": beside[0], "cpu_beside": beside[1]})
    if options.json:
        print(
            json.dumps(
                {"threads": options.threads, "rounds": options.rounds, "torch": str(torch.__version__), "rows": rows}
            )
        )
        return
    for row in rows:
        print(
            f"{row['size']:36s} {row['side']:12s} {row['wall_ms']:8.3f} ms a step ({100 * row['wall_beside']:+5.1f} %)"
            f"  {row['cpu_ms']:8.3f} ms of processor ({100 * row['cpu_beside']:+5.1f} %)"
        )


if __name__ == "__main__":
    main()
