"""The state of a system and an optimiser as plain named tensors, and back: the same whether weights are whole or sharded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tacit.core.errors import CheckpointError, RunError
from tacit.training.trees import is_sharded

__all__ = ["check_finite", "load_optimizer", "load_system", "of_optimizer"]


def check_finite(weights: Mapping[str, Tensor], system: nn.Module, step: int, left: str) -> None:
    """Refuse to save learning weights that are not finite: a gradient can break where the loss was still a number."""
    names = [name for name, p in system.named_parameters() if p.requires_grad]
    odd = [name for name in names if not torch.isfinite(weights[name]).all()]
    if odd:
        raise RunError(
            f"step {step}: weights are not finite though the loss was: {', '.join(odd[:3])}"
            + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
            + f". {left} Lower optim.lr or bound the gradient with clip=1.0"
        )


def of_optimizer(optimizer: torch.optim.Optimizer, system: nn.Module) -> dict[str, dict[str, Any]]:
    """What the optimiser remembers, by the name of the parameter; rates and settings come from the recipe again."""
    names = {id(p): name for name, p in system.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return {names[id(p)]: dict(optimizer.state[p]) for p in params if p in optimizer.state}


def load_system(system: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Load whole tensors into a system, sharded or not; every name and shape must fit."""
    own = system.state_dict()
    odd = sorted(own.keys() ^ weights.keys())
    if odd:
        listed = ", ".join(
            f"{name} ({'not in the checkpoint' if name in own else 'not in the system'})" for name in odd[:3]
        )
        raise CheckpointError(
            f"{path} does not fit the system: {listed}: build the system from the run's own recipe.yaml"
        )
    try:
        system.load_state_dict({name: _as(value, own[name]) for name, value in weights.items()})
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{path} does not fit the system: {text}") from error


def load_optimizer(
    optimizer: torch.optim.Optimizer, system: nn.Module, memory: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    """Load what `of_optimizer` gave, whole tensors into sharded ones too."""
    names = {id(p): name for name, p in system.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if odd := sorted(memory.keys() - {names[id(p)] for p in params}):
        raise CheckpointError(f"{path} does not fit the optimiser: it remembers {odd[0]!r}, which does not learn here")
    state = {}
    for i, p in enumerate(params):
        if names[id(p)] in memory:
            state[i] = {name: _as(value, p) for name, value in memory[names[id(p)]].items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _as(value: Any, like: Any) -> Any:
    """`value` laid out as `like` where that is sharded and of its shape."""
    if is_sharded(like) and isinstance(value, Tensor) and value.shape == like.shape:
        from torch.distributed.tensor import distribute_tensor  # loaded already, by whoever has sharded `like`

        # every process has read the whole tensor, so none needs to be sent
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return value
