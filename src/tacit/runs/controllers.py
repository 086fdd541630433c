"""The small network that steers a latent action model by known actions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tacit.core.errors import DataError
from tacit.core.random import torch_seed
from tacit.runs.build import Built, split_of

__all__ = ["Controlled", "Controller", "fit_controller", "states_of"]

_BATCH, _FIT = 128, 4096  # clips at once; clips that the controller learns from


def states_of(system: Any, built: Built, split: str, count: int, device: Any) -> tuple[Tensor, Tensor | None]:
    """States [n t s] and the actions [n t - 1 a] between them, of the first clips of a split."""
    source = split_of(built.recipe, split)
    states, actions = [], []
    for at in range(0, min(count, len(source)), _BATCH):
        batch = built.views.plain(source.read(range(at, min(at + _BATCH, count, len(source))))).to(device)
        data: Any = batch.views["image"].data
        states.append(system.encode(data))
        if batch.action is not None:
            actions.append(batch.action[:, : data.shape[2] - 1])
    return torch.cat(states), torch.cat(actions) if actions else None


class Controller(nn.Module):
    """From a known action and the state it is taken in to the latent it stands for: a perceptron over both.

    Without the state it cannot know whether a wall is in the way. LAWM's is an attention block over patch tokens; states of tokens are laid
    end to end here.
    """

    def __init__(self, actions: int, dim: int, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(actions + dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, action: Tensor, state: Tensor) -> Tensor:
        """The latent [n d]."""
        return self.net(torch.cat([action, state.flatten(action.ndim - 1)], -1))  # type: ignore[no-any-return]


def fit_controller(built: Built, *, steps: int = 1000, batch: int = 256, lr: float = 1e-3, seed: int = 0) -> Controller:
    """Learn the controller on train clips by mean squared error to the inferred latents (AdamW, cosine); the model stays as it is."""
    system = built.system.eval()
    device = next(system.parameters()).device
    with torch.no_grad():
        states, actions = states_of(system, built, "train", _FIT, device)
        if actions is None:
            raise DataError("a controller learns from recorded actions, and these data have none")
        z, _ = system.infer(states[:, :-1], states[:, 1:])
    s, a, z = states[:, :-1].flatten(0, 1).flatten(1), actions.flatten(0, 1), z.flatten(0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "controller"))
        controller = Controller(a.shape[1], s.shape[1], z.shape[1]).to(device)
        optimizer = torch.optim.AdamW(controller.parameters(), lr=lr, weight_decay=0.04)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = torch.randint(len(s), (batch,)).to(device)
            loss = (controller(a[rows], s[rows]) - z[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return controller.eval()


class Controlled:
    """A latent action model steered by known actions: what planners plan with."""

    def __init__(self, system: Any, controller: Controller) -> None:
        self.system, self.controller = system, controller

    def encode(self, x: Tensor) -> Tensor:
        """States of pictures."""
        return self.system.encode(x)  # type: ignore[no-any-return]

    def imagine(self, z0: Tensor, actions: Tensor) -> Tensor:
        """The states after each known action, through the controller."""
        states = []
        for action in actions.unbind(1):
            z0 = self.system.imagine(z0, self.controller(action, z0).unsqueeze(1))[:, 0]
            states.append(z0)
        return torch.stack(states, 1)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of the model."""
        return self.system.parameters()  # type: ignore[no-any-return]

    def to(self, device: Any) -> Controlled:
        """On another device."""
        self.system.to(device)
        self.controller.to(device)
        return self

    def eval(self) -> Controlled:
        """In evaluation mode."""
        self.system.eval()
        self.controller.eval()
        return self
