"""Walking the values that hold tensors, and telling sharded tensors from whole ones."""

from __future__ import annotations

import dataclasses
import functools
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
    kind: Any = type(value)
    if kind is dict:  # before the abstract class, which takes longer to ask
        return {key: _map(item, change) for key, item in value.items()}
    if (names := _fields(kind)) is not None:
        return kind(**{name: _map(getattr(value, name), change) for name in names})
    if isinstance(value, list | tuple):
        return kind(_map(item, change) for item in value)
    if isinstance(value, Mapping):
        return {key: _map(item, change) for key, item in value.items()}
    return value


@functools.cache
def _fields(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass, None of any other class."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def is_sharded(value: Any) -> bool:
    """Whether it is a DTensor. Its module takes a second to import, so it is asked only where something has loaded it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)
