"""The same recipe with narrow networks: what a leaf or a step does, does not depend on their width."""

from __future__ import annotations

from tacit import recipes
from tacit.core.recipe import Recipe
from tacit.core.spec import Spec


def heads(recipe: Recipe, width: int) -> list[str]:
    """Overrides that make every head of the system about `width` wide."""
    found = []
    for name in ("projector", "predictor"):
        head = recipe.system[name]
        if head is None:
            continue
        if "widths" in head:
            found.append(f"system.{name}.widths={[width] * len(head['widths'])}")
        if "prototypes" in head:
            found.append(f"system.{name}.prototypes={width}")
        if head.kind == "dino":
            found += [f"system.{name}.hidden={width}", f"system.{name}.bottleneck={width}"]
    return found


def narrow(recipe: Recipe, width: int = 8) -> Recipe:
    """Narrow heads and a tiny convolutional encoder."""
    small = recipes.load(recipe, heads(recipe, width))
    return small.change(system=small.system.change(encoder=Spec("encoder", "convnet", widths=(4, 8)).resolve()))
