"""A deep probe: a small network on frozen features, for what they hold but not in a linear form."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tacit.core.random import torch_seed
from tacit.probing.linear import Scale

__all__ = ["fit_mlp"]

_HIDDEN, _EPOCHS, _STEPS, _PATIENCE, _BATCH = 128, 200, 4000, 25, 128
_LEAST = 20  # samples; with fewer nothing is held out


def fit_mlp(
    x: Tensor, y: Tensor, *, seed: int = 0, rate: float = 1e-3, decay: float = 1e-2, group: int = 1
) -> Callable[[Tensor], Tensor]:
    """A network d -> 128 -> 128 -> k fitted to targets y [n k] by squared error; a function from features [m d] to [m k].

    Features and targets are standardised. AdamW, at most 200 epochs of batches of 128, stopped 25 epochs after the best error
    on a held-out fifth (below 20 samples nothing is held out and it runs to the end), and after 4,000 steps. group: so many rows in a
    row are views of one sample, held out together. A function of (x, y, seed).
    """
    into, out = Scale.of(x), Scale.of(y)
    x, y = into(x.float()), out(y.float())
    generator = torch.Generator().manual_seed(torch_seed(seed, "mlp probe"))
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(torch_seed(seed, "mlp weights"))
        net = nn.Sequential(
            nn.Linear(x.shape[1], _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, y.shape[1]),
        )
    samples = len(x) // group
    order = torch.randperm(samples, generator=generator)
    split = samples // 5 if samples >= _LEAST else 0
    rows = (order[:, None] * group + torch.arange(group)).flatten()
    held, learn = rows[: split * group], rows[split * group :]
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
    best, lowest, since = copy.deepcopy(net.state_dict()), float("inf"), 0
    for _ in range(min(_EPOCHS, max(1, _STEPS * _BATCH // len(learn)))):
        for at in learn[torch.randperm(len(learn), generator=generator)].split(_BATCH):
            loss = (net(x[at]) - y[at]).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if not len(held):
            continue
        with torch.no_grad():
            error = float((net(x[held]) - y[held]).square().mean())
        since += 1
        if error < lowest:
            best, lowest, since = copy.deepcopy(net.state_dict()), error, 0
        if since >= _PATIENCE:
            break
    if len(held):
        net.load_state_dict(best)

    def predict(z: Tensor) -> Tensor:
        with torch.no_grad():
            return net(into(z.float())).double() * out.std + out.mean  # type: ignore[no-any-return]

    return predict
