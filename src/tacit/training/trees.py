"""Walking the values that hold tensors, and telling sharded tensors from whole ones."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

__all__ = ["is_sharded", "map_tensors"]

T = TypeVar("T")


def map_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same value (a Batch, View, dict, list or tuple) with `change` applied to every tensor in it."""
    return _map(value, change)  # type: ignore[no-any-return]


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(item, change) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _map(getattr(value, f.name), change) for f in dataclasses.fields(value)}
        return type(value)(**fields)
    return value


def is_sharded(value: Any) -> bool:
    """Whether it is a DTensor. Its module takes a second to import, so it is asked only where something has loaded it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)
