"""Errors that people can act on: what was asked, what was found, what to do."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType

__all__ = [
    "CheckpointError",
    "DataError",
    "MissingExtraError",
    "RecipeError",
    "RunError",
    "TacitError",
    "UnknownNameError",
    "need",
    "unknown",
]


class TacitError(Exception):
    """Base of every error that tacit raises on purpose."""


class UnknownNameError(TacitError, LookupError):
    """A part, recipe, metric, file or split was named that does not exist."""


class RecipeError(TacitError, ValueError):
    """A recipe, override or setting is wrong. `faults` holds one sentence per fault, each beginning with its path."""

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class DataError(TacitError, ValueError):
    """Data on disk or in memory cannot be read as asked."""


class CheckpointError(TacitError, ValueError):
    """Saved weights or a run folder cannot be used as asked."""


class RunError(TacitError, RuntimeError):
    """A run had to stop (loss not finite, disk full, data gone). Earlier checkpoints stay usable."""


class MissingExtraError(TacitError, ImportError):
    """An optional package is not installed."""


def unknown(what: str, name: str, known: Iterable[str], remedy: str = "") -> str:
    """One sentence for a name that is not there: what was asked, the nearest known one, the choices, the way out."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return (
        f"no {what} named {name!r}."
        + (f" Did you mean {near[0]!r}?" if near else "")
        + f" Known: {', '.join(names) or '(none)'}."
        + (f" {remedy}" if remedy else "")
    )


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra of tacit brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top:
            raise
        raise MissingExtraError(
            f"{purpose} needs the package {top!r}, which is not installed: pip install 'tacit[{extra}]'"
        ) from error
