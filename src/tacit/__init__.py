"""tacit: learn by predicting in representation space; judge, probe and plan with what was learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. Loaded on first use: `import tacit` imports neither torch nor numpy.
_WHERE = {
    "Recipe": "tacit.core.recipe",
    "Spec": "tacit.core.spec",
    "part": "tacit.core.parts",
}

__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from tacit.core.parts import part as part
    from tacit.core.recipe import Recipe as Recipe
    from tacit.core.spec import Spec as Spec


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tacit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
