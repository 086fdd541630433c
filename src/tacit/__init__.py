"""tacit: learn by predicting in representation space; judge, probe and plan with what was learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. Loaded on first use: `import tacit` imports neither torch nor numpy.
_WHERE = {
    "Recipe": "tacit.core.recipe",
    "Spec": "tacit.core.spec",
    "check_encoder": "tacit.core.laws",
    "check_objective": "tacit.core.laws",
    "check_source": "tacit.core.laws",
    "demo": "tacit.runs",
    "judge": "tacit.runs",
    "load": "tacit.models.store",
    "part": "tacit.core.parts",
    "probe": "tacit.runs",
    "sweep": "tacit.runs",
    "train": "tacit.runs",
}

__all__ = ["__version__", *_WHERE]

if TYPE_CHECKING:
    from tacit.core.laws import check_encoder as check_encoder
    from tacit.core.laws import check_objective as check_objective
    from tacit.core.laws import check_source as check_source
    from tacit.core.parts import part as part
    from tacit.core.recipe import Recipe as Recipe
    from tacit.core.spec import Spec as Spec
    from tacit.models.store import load as load
    from tacit.runs import demo as demo
    from tacit.runs import judge as judge
    from tacit.runs import probe as probe
    from tacit.runs import sweep as sweep
    from tacit.runs import train as train


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tacit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
