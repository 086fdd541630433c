"""The state of a system and an optimiser as plain named tensors, and back, whole or sharded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tacit.core.errors import CheckpointError, RunError
from tacit.core.ranks import ALONE, Ranks
from tacit.training.trees import is_sharded

__all__ = ["check_finite", "layout", "load_optimizer", "load_system", "of_optimizer"]


def check_finite(system: nn.Module, step: int, left: str, ranks: Ranks = ALONE) -> None:
    """Refuse to save learning weights that are not finite: a gradient can break where the loss was still a number.

    All processes call it together, each looks at its own shards, and all raise.
    """
    learning: dict[str, Any] = {name: p for name, p in system.named_parameters() if p.requires_grad}
    if not learning:
        return
    own = [p.to_local() if is_sharded(p) else p for p in learning.values()]
    counts = ranks.total(torch.stack([(~torch.isfinite(p)).any() for p in own]).long()).tolist()
    odd = [name for name, count in zip(learning, counts, strict=True) if count]
    if odd:
        raise RunError(
            f"step {step}: weights are not finite though the loss was: {', '.join(odd[:3])}"
            + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
            + f". {left} Lower optim.lr or bound the gradient with clip=1.0"
        )


def layout(system: nn.Module) -> Callable[[str, str], Any]:
    """(part, name in a checkpoint) -> the tensor of the sharded `system` whose layout over the processes it shall have."""
    weights, params = system.state_dict(), dict(system.named_parameters())

    def like(part: str, name: str) -> Any:
        # moments are laid out as their parameter; its name ends where the path into its memory begins
        return (
            weights.get(name) if part == "system" else params.get(name.split("/")[0]) if part == "optimizer" else None
        )

    return like


def of_optimizer(optimizer: torch.optim.Optimizer, system: nn.Module) -> dict[str, dict[str, Any]]:
    """What the optimiser remembers, by the name of the parameter; rates and settings come from the recipe again."""
    names = {id(p): name for name, p in system.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return {names[id(p)]: dict(optimizer.state[p]) for p in params if p in optimizer.state}


def load_system(system: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Load tensors, laid out as the system's own, into it; every name and shape must fit."""
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
        system.load_state_dict(dict(weights))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{path} does not fit the system: {text}") from error


def load_optimizer(
    optimizer: torch.optim.Optimizer, system: nn.Module, memory: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    """Load what `of_optimizer` gave, laid out as the parameters."""
    names = {id(p): name for name, p in system.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if odd := sorted(memory.keys() - {names[id(p)] for p in params}):
        raise CheckpointError(f"{path} does not fit the optimiser: it remembers {odd[0]!r}, which does not learn here")
    state = {}
    for i, p in enumerate(params):
        if names[id(p)] in memory:
            state[i] = {name: _placed_as(p, value) for name, value in memory[names[id(p)]].items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _placed_as(p: torch.nn.Parameter, value: Any) -> Any:
    """A moment in the order of memory of its parameter: fused kernels walk through both at once."""
    if p.is_contiguous() or not isinstance(value, torch.Tensor) or value.shape != p.shape:
        return value
    return torch.empty_like(p, dtype=value.dtype).copy_(value)
