"""From a resolved recipe to the objects of a run, and from a run folder back to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tacit import recipes
from tacit.core.errors import CheckpointError
from tacit.core.protocols import Source, Views
from tacit.core.random import torch_seed
from tacit.core.recipe import Recipe
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models import store
from tacit.training import checkpoint, state

__all__ = ["Built", "build", "embeds", "exports", "restore", "split_of"]


@dataclass(frozen=True)
class Built:
    """The objects a recipe describes. `system` is an nn.Module that satisfies core.protocols.System."""

    recipe: Recipe
    source: Source
    views: Views
    system: Any


def build(recipe: Recipe, source: Source | None = None) -> Built:
    """Build source, views and system. The first weights are a function of the recipe's seed; torch's generator is left alone."""
    source = recipe.data.build() if source is None else source
    views = recipe.views.build(source.facts)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(torch_seed(recipe.seed, "weights"))
        system = recipe.system.build(views.facts)
    return Built(recipe, source, views, system)


def split_of(recipe: Recipe, split: str) -> Source:
    """The source of the recipe at another split; a DataError says which there are."""
    return recipe.data.change(split=split).build()  # type: ignore[no-any-return]


def restore(folder: str | Path, step: int | None = None) -> Built:
    """The objects of a run with the weights of its newest checkpoint, or of the one after `step` updates, in eval mode on the CPU."""
    folder = Path(folder)
    if not (folder / "recipe.yaml").is_file():
        raise CheckpointError(f"{folder} is no run folder: it has no recipe.yaml. Runs lie in runs/<name>/<time>")
    built = build(recipes.load(folder))
    steps = checkpoint.saved_steps(folder)
    if not steps:
        raise CheckpointError(
            f"{folder} holds no checkpoint yet: let the run reach its first save, or set checks.save_every lower"
        )
    if step is not None and step not in steps:
        raise CheckpointError(
            f"{folder} holds no checkpoint of step {step}: it has {', '.join(map(str, sorted(steps)))}; a run keeps checks.keep of them"
        )
    path = checkpoint.place(folder, steps[0] if step is None else step)
    state.load_system(built.system, checkpoint.read(path)["system"], path)
    built.system.eval()
    return built


def embeds(system: Any) -> bool:
    """Whether a system has an embedding to judge and a representation to probe; one that steps in time has none."""
    return hasattr(system, "project") and hasattr(system, "embed")


def exports(built: Built) -> dict[str, tuple[Spec, Facts | int, torch.nn.Module]]:
    """The parts of a system that are worth keeping on their own: name -> (spec, run-time facts, module)."""
    found: dict[str, tuple[Spec, Facts | int, torch.nn.Module]] = {}
    for name, spec in built.recipe.system.items():
        module = getattr(built.system, name, None)
        if isinstance(spec, Spec) and isinstance(module, torch.nn.Module) and spec.role in ("encoder", "head"):
            before = built.system.projector if name == "predictor" else built.system.encoder  # what a head stands on
            found[name] = (spec, replace(built.views.facts) if spec.role == "encoder" else before.dim, module)
    return found


def export(built: Built, folder: Path) -> None:
    """Write `export/<part>/` of a run."""
    for name, (spec, runtime, module) in exports(built).items():
        store.export(spec, runtime, module, folder / "export" / name)
