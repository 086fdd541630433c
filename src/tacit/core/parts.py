"""The part registry: which class answers to a role and a kind.

A part is declared once, where it is written, by `@part("objective", "vicreg")`. The parts of tacit itself are found by
reading its source files for that line, so listing them imports nothing (no torch). Parts from outside come from a module
that was imported (`--with my.module`) or from an entry point of the group `tacit.parts` named `role.kind`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tacit.core.errors import RecipeError, UnknownNameError, unknown

__all__ = ["Part", "find", "kinds", "name_of", "part", "parts", "roles", "use_module"]

C = TypeVar("C", bound=type)
_DECLARED = re.compile(r'^@part\("([\w-]+)", "([\w.-]+)"\)$', re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parents[1]
_imported: dict[
    tuple[str, str], type
] = {}  # what decorators declared in this process; a part is a fact, not a run's state


@dataclass(frozen=True)
class Part:
    """Where a part is defined: `module:name`, and the first sentence of its docstring when it is cheap to know."""

    role: str
    kind: str
    target: str
    summary: str = ""


def part(role: str, kind: str) -> Callable[[C], C]:
    """Declare the decorated class as the part `kind` of `role`. A second class under the same name is an error."""

    def declare(cls: C) -> C:
        target = f"{cls.__module__}:{cls.__qualname__}"
        earlier = _imported.get((role, kind))
        known = f"{earlier.__module__}:{earlier.__qualname__}" if earlier else _builtin_target(role, kind)
        if known is not None and known != target:
            raise RecipeError(f"{role} {kind!r} is declared twice, by {known} and by {target}: rename one of them")
        _imported[role, kind] = cls
        return cls

    return declare


def _builtin_target(role: str, kind: str) -> str | None:
    found = _builtin().get((role, kind))
    return found.target if found else None


@functools.cache
def _builtin() -> dict[tuple[str, str], Part]:
    """The parts declared in tacit's own source files, found without importing them."""
    found: dict[tuple[str, str], Part] = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not _DECLARED.search(text):
            continue
        module = ".".join(("tacit", *path.relative_to(_PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.parse(text).body:
            if not isinstance(node, ast.ClassDef):
                continue
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "part":
                    role, kind = (str(ast.literal_eval(argument)) for argument in call.args)
                    if (role, kind) in found:
                        other = found[role, kind].target
                        raise RecipeError(f"{role} {kind!r} is declared twice, by {other} and by {module}:{node.name}")
                    found[role, kind] = Part(role, kind, f"{module}:{node.name}", summary)
    return found


@functools.cache
def _entry_points() -> dict[tuple[str, str], Part]:
    """Parts that installed packages announce in the entry-point group `tacit.parts`, as `role.kind = module:Class`."""
    found: dict[tuple[str, str], Part] = {}
    for point in importlib.metadata.entry_points(group="tacit.parts"):
        role, dot, kind = point.name.partition(".")
        if not dot or ":" not in point.value:
            raise RecipeError(
                f"entry point {point.name!r} = {point.value!r} of group 'tacit.parts' must read role.kind = module:Class"
            )
        target = point.value.replace(" ", "")
        other = found.get((role, kind)) or _builtin().get((role, kind))
        if other is not None and other.target != target:
            raise RecipeError(
                f"{role} {kind!r} is declared twice, by {other.target} and by {target}: rename one of them"
            )
        found[role, kind] = Part(role, kind, target)
    return found


def parts(role: str | None = None) -> list[Part]:
    """Every known part, sorted by role and kind; imports none of those that are not imported yet."""
    known = {**_builtin(), **_entry_points()}
    for key, cls in _imported.items():
        if key not in known:
            summary = (cls.__doc__ or "").strip().partition("\n")[0]
            known[key] = Part(*key, f"{cls.__module__}:{cls.__qualname__}", summary)
    return [known[key] for key in sorted(known) if role is None or key[0] == role]


def roles() -> list[str]:
    """The names of all roles that have a part."""
    return sorted({entry.role for entry in parts()})


def kinds(role: str) -> list[str]:
    """The kinds known for `role`."""
    return [entry.kind for entry in parts(role)]


def find(role: str, kind: str) -> type:
    """The class of a part, imported now if need be. An unknown name answers with the nearest known one."""
    if (role, kind) not in _imported:
        where = _builtin().get((role, kind)) or _entry_points().get((role, kind))
        if where is None:
            raise UnknownNameError(unknown(role, kind, kinds(role)))
        module, _, name = where.target.partition(":")
        cls = getattr(importlib.import_module(module), name)
        _imported.setdefault((role, kind), cls)  # an entry point may name a class without the decorator
    return _imported[role, kind]


def name_of(cls: type) -> str | None:
    """How an imported part is called, for messages: `encoder 'resnet'`; None for a class that is no part."""
    return next((f"{role} {kind!r}" for (role, kind), known in _imported.items() if known is cls), None)


def use_module(module: str) -> None:
    """Import a module of the user's so that the parts it declares are known (`--with module`)."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise
        raise UnknownNameError(
            f"--with {module}: no such module on the import path. Run from the folder that holds it or install its package"
        ) from error
