"""Time and memory of the objectives beside their textbook forms: `python benchmarks/objectives.py [--device cuda]`.

Forward and backward in float32, median of repeated runs. 'textbook' is the equation in plain tensor operations: concatenated logits
for NT-Xent, a d x d covariance with a boolean mask for VICReg. lightly's losses are timed beside them where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time

import torch
import torch.nn.functional as F

from tacit.objectives.simclr import SimCLR
from tacit.objectives.vicreg import VICReg

SHAPES = {
    "simclr": ((256, 128), (1024, 128), (2048, 128)),
    "vicreg": ((256, 2048), (256, 8192), (1024, 2048), (2048, 512)),
}


def textbook_simclr(a, b):
    u = F.normalize(torch.cat([a, b]), dim=1)
    n = len(a)
    logits = (u @ u.T / 0.1).masked_fill(torch.eye(2 * n, dtype=torch.bool, device=a.device), -torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * n, device=a.device).roll(n))


def textbook_vicreg(a, b):
    d = a.shape[1]
    off = ~torch.eye(d, dtype=torch.bool, device=a.device)
    loss = 25 * F.mse_loss(a, b)
    for z in (a, b):
        z = z - z.mean(0)
        c = z.T @ z / (len(z) - 1)
        loss = loss + 25 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() / 2 + c[off].square().sum() / d
    return loss


def contenders(kind):
    ours = {"simclr": SimCLR(), "vicreg": VICReg()}[kind]
    found = {
        "tacit": lambda a, b: ours(a, b)["loss"],
        "textbook": {"simclr": textbook_simclr, "vicreg": textbook_vicreg}[kind],
    }
    if importlib.util.find_spec("lightly") is not None:
        from lightly.loss import NTXentLoss, VICRegLoss

        found["lightly"] = NTXentLoss(temperature=0.1) if kind == "simclr" else VICRegLoss()
    return found


def seconds(loss, a, b, repeats):
    taken = []
    for _ in range(repeats + 1):
        a.grad = b.grad = None
        if a.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        loss(a, b).backward()
        if a.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's own number")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.device}, {torch.get_num_threads()} threads")
    for kind, shapes in SHAPES.items():
        for n, d in shapes:
            a, b = (torch.randn(n, d, device=given.device, requires_grad=True) for _ in range(2))
            row = {name: seconds(loss, a, b, given.repeats) for name, loss in contenders(kind).items()}
            told = "  ".join(
                f"{name} {1e3 * value:8.1f} ms ({value / row['tacit']:.1f}x)" for name, value in row.items()
            )
            print(f"{kind:7} n={n:5} d={d:5}  {told}")


if __name__ == "__main__":
    main()
