"""What the loop costs per step: `tacit.training.loop.fit` beside a bare torch loop and Lightning's Trainer.

    python benchmarks/loop.py [--rounds 5] [--threads 1] [--json]

All sides do the same arithmetic on the same batches with torch's own AdamW: read uint8 images, scale them, forward, backward,
update, warm-up and cosine rate; the bare loop calls the same source, views, system and optimiser part. tacit also seeds each step,
checks each loss, calls a hook, and logs; Lightning logs at the same distance. tacit drops gradients itself, without
`optimizer.zero_grad`, whose bookkeeping pays for most of that.

A busy machine changes its speed by more than what is measured here, so the sides take turns every BLOCK steps within one process:
from a hook, the bare loop goes on by as many steps as the side has just made. Each block of a side is compared with the mean of the
bare blocks right before and after it. Per cent and microseconds are medians over all blocks, times too, the first two of each side
left out. Processor time counts all threads. The units are tanh: those of ReLU die, their moments decay to denormal numbers, and the
optimiser's step, which has nothing to do with the loop, then takes six times as long.
"""

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

LOG_EVERY, BLOCK = 20, 20  # a block holds one logging step; 20 is the distance that recipes have by default
OPTIM = Spec("optimizer", "adamw", lr=1e-3)


Times = np.ndarray  # of steps: wall-clock seconds, processor seconds of all threads


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
        inner = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.Tanh())]
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(768, width), nn.Tanh(), *inner, nn.Linear(width, 768))

    def forward(self, batch: Batch, progress: float, ranks=ALONE) -> dict[str, torch.Tensor]:
        x = batch.views["image"].data
        return {"loss": (self.net(x) - x.flatten(1)).square().mean()}

    def groups(self):
        return [{"params": list(self.parameters()), "decay": True, "scale": 1.0}]

    def after_step(self, progress: float) -> None:
        pass


def bare(size, steps: int, batch: int):
    """A plain loop that stops after every block."""
    source, views, system = Source(1024), Scaled(), Auto(*size)
    optim = OPTIM.build()
    optimizer, per_epoch = optim.build(system.groups()), len(source) // batch
    for step in range(steps):
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
        if (step + 1) % BLOCK == 0:
            yield


class Turns:
    """Called after every step of a side: lets the bare loop make its block of steps, and times both."""

    def __init__(self, size, steps: int, batch: int) -> None:
        self.bare, self.pairs = bare(size, steps, batch), []
        self.start: Times = now()

    def __call__(self, step, terms=None, context=None) -> None:
        if step % BLOCK == 0:
            middle = now()
            next(self.bare)
            end = now()
            self.pairs.append((middle - self.start, end - middle))
            self.start = now()

    def close(self, status) -> None:
        pass

    def per_step(self) -> np.ndarray:
        """Seconds a step [blocks 2 2]: of the side and of the bare loop around it, wall-clock and processor."""
        own, beside = np.array(self.pairs).swapaxes(0, 1) / BLOCK
        return np.stack([own[2:], (beside[1:-1] + beside[2:]) / 2], axis=1)


def ours(size, steps: int, batch: int) -> Turns:
    recipe = Recipe(
        system=Spec("system", "auto"), data=Spec("source", "random"), views=Spec("views", "scaled"), optim=OPTIM, steps=steps, batch=batch,
        checks=Checks(log_every=LOG_EVERY, save_every=0), machine=Machine(device="cpu", threads=torch.get_num_threads()),
    )  # fmt: skip
    turns = Turns(size, steps, batch)
    with tempfile.TemporaryDirectory() as folder:
        fit(recipe, Auto(*size), Source(1024), Scaled(), Path(folder) / "run", hooks=[turns])
    return turns


def lightnings(size, steps: int, batch: int) -> Turns:
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

    class TakeTurns(lightning.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            turns(trainer.global_step)

    turns = Turns(size, steps, batch)
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=LOG_EVERY, callbacks=[TakeTurns()],
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(Batches(), batch_size=None))
    return turns


SIDES = {"tacit": ours, "lightning": lightnings}
SIZES = {
    "tiny: 2 layers of 128, batch 64": ((128, 0), 64, 1000),
    "3 layers of 256, batch 64": ((256, 1), 64, 600),
    "6 layers of 512, batch 128": ((512, 4), 128, 200),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")  # Lightning's advice about workers and loggers
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rows = []
    for name, (size, batch, steps) in SIZES.items():
        taken: dict[str, list[np.ndarray]] = {side: [] for side in options.sides}
        for _ in range(options.rounds):
            for side in taken:
                taken[side].append(SIDES[side](size, steps, batch).per_step())
        blocks = {side: np.concatenate(times) for side, times in taken.items()}
        base = np.concatenate(list(blocks.values()))[:, 1]
        for side, (times, beside) in {
            "bare torch": (base, base),
            **{side: (pairs[:, 0], pairs[:, 1]) for side, pairs in blocks.items()},
        }.items():
            wall, processor = np.median(times, axis=0) * 1e3
            more, added = np.median(times / beside, axis=0) - 1, np.median(times - beside, axis=0) * 1e6
            row = {"size": name, "side": side, "wall_ms": wall, "cpu_ms": processor, "added_us": added[0]}
            rows.append({**row, "wall_beside": more[0], "cpu_beside": more[1]})
    if options.json:
        print(
            json.dumps(
                {"threads": options.threads, "rounds": options.rounds, "torch": str(torch.__version__), "rows": rows}
            )
        )
        return
    for row in rows:
        print(
            f"{row['size']:34s} {row['side']:12s} {row['wall_ms']:8.3f} ms a step"
            f" ({100 * row['wall_beside']:+5.1f} %, {row['added_us']:+5.0f} us)"
            f"  {row['cpu_ms']:8.3f} ms of processor ({100 * row['cpu_beside']:+5.1f} %)"
        )


if __name__ == "__main__":
    main()
