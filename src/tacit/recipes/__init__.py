"""Functions that return Recipe values, one file per paper or family; importing them imports no torch. May import core."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tacit.core.errors import RecipeError, UnknownNameError, unknown
from tacit.core.recipe import Recipe, from_yaml, resolve

__all__ = ["find", "load", "names"]


def _functions() -> dict[str, Callable[[], Recipe]]:
    found: dict[str, Callable[[], Recipe]] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):  # what recipes share
            continue
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and f"{function.__module__}.".startswith(f"{module.__name__}.")
            if own and not name.startswith("_"):  # a package hands on what its modules define
                found[f"{info.name}.{name}"] = function
    return found


def names() -> dict[str, str]:
    """The shipped recipes, `module.function`, each with the first sentence of its docstring."""
    return {
        name: (function.__doc__ or "").strip().partition("\n")[0] for name, function in sorted(_functions().items())
    }


def find(name: str) -> Recipe:
    """A shipped recipe as its function returns it, not yet resolved."""
    functions = _functions()
    if name not in functions:
        raise UnknownNameError(unknown("recipe", name, functions, "A file's name must end in .yaml."))
    return functions[name]()


def load(name: Recipe | str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The resolved recipe of a value, a shipped name, a YAML file, or a run folder, with `path=value` overrides."""
    if isinstance(name, Recipe):
        return resolve(name, overrides)
    path = Path(name)
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(
                f"recipe file {path} does not exist. `tacit recipes show NAME > {path}` writes one to start from"
            )
        return from_yaml(path.read_text(encoding="utf-8"), overrides)
    return resolve(find(str(name)), overrides)
