"""The same recipe with narrow networks: what a leaf or a step does, does not depend on their width."""

from __future__ import annotations

from tacit import recipes
from tacit.core.recipe import Recipe
from tacit.core.spec import Spec


def heads(recipe: Recipe, width: int) -> list[str]:
    """Overrides that make every head of the system about `width` wide, and a stepper."""
    found = [f"system.stepper.width={width}"] if "stepper" in recipe.system else []
    if recipe.system.kind == "masked-prediction":
        found += masked(recipe)
    if recipe.data.kind == "pde":
        found += coarse(recipe)
    if recipe.system.kind in FROZEN:
        found += frozen(recipe)
    small = {"hidden": width, "heads": 2, "head_width": 4, "depth": 1}  # of the dynamics of a world model
    if recipe.views.kind == "rooms-colour":
        found.append("views.size=28")
    if recipe.system.kind == "world-model" and recipe.system["predictor"].kind != "kernel":
        own = recipe.system["predictor"].resolve()
        found += [f"system.predictor.{name}={value}" for name, value in small.items() if name in own]
    for name in ("projector", "predictor", "patch_projector", "local_projector"):
        head = recipe.system.get(name)
        if head is None:
            continue
        if "widths" in head:
            found.append(f"system.{name}.widths={[width] * len(head['widths'])}")
        if "prototypes" in head:
            found.append(f"system.{name}.prototypes={width}")
        if head.kind == "dino":
            found += [f"system.{name}.hidden={width}", f"system.{name}.bottleneck={width}"]
    return found


FROZEN = ("action-conditioned", "video-language")  # systems on a frozen encoder's tokens


def frozen(recipe: Recipe) -> list[str]:
    """Overrides that make them small: two blocks of 24 and what stands on it, pictures of a few patches."""
    found = ["system.encoder.width=24", "system.encoder.depth=2", "system.encoder.heads=2"]
    if recipe.system["encoder"]["size"] == "giant22":  # which differs from 'giant' in its heads alone
        found = ["system.encoder.width=352", "system.encoder.depth=2"]
    if recipe.system.kind == "action-conditioned":
        found += ["system.predictor.width=16", "system.predictor.depth=1", "system.predictor.heads=1"]
        found += ["data.episodes=3", "data.steps=17", f"data.side={2 * recipe.system['encoder']['patch']}"]
    else:
        found += [
            f"system.language.{name}={value}"
            for name, value in {"width": 16, "depth": 1, "heads": 2, "hidden": 16}.items()
        ]
        if recipe.system["bridge"].kind == "attentive":
            found.append("system.bridge.heads=2")
        if recipe.data["side"] > 64:
            found += ["data.side=32", "data.frames=4"]
    return found


def masked(recipe: Recipe) -> list[str]:
    """Overrides that make the networks of masked prediction small: two blocks of 24."""
    found = ["system.encoder.width=24", "system.encoder.depth=2", "system.encoder.heads=2"]
    if recipe.system["predictor"].kind == "transformer":
        found += ["system.predictor.width=16", "system.predictor.depth=1", "system.predictor.heads=2"]
    if recipe.system["target"].get("layers", 1) > 1:
        found.append("system.target.layers=2")
    if recipe.data.kind == "clips" and recipe.views["view"]["size"] > 128:
        found += ["data.frames=4", "data.side=128", "views.view.size=128"]
    return found


def coarse(recipe: Recipe) -> list[str]:
    """Overrides that make the larger fields of differential equations small."""
    world, views = recipe.data["world"], recipe.views.kind
    if views == "lie-plane" and world["points"] > 32:
        return ["data.world.points=32", "data.world.frames=16", "views.crop=[8, 32, 32]"]
    if views == "lie-line" and world["stored"] > 200:
        finer = f"data.world.substeps={8 * world['substeps']}"  # frames lie farther apart, and a scheme of few steps would blow up
        return ["data.world.frames=80", "data.world.stored=64", "views.crop=[48, 64]", finer]
    return []


def narrow(recipe: Recipe, width: int = 8) -> Recipe:
    """Narrow heads and a tiny convolutional encoder."""
    small = recipes.load(recipe, heads(recipe, width))
    if "encoder" not in small.system or small.system.kind in ("masked-prediction", *FROZEN):
        return small
    if small.system.kind == "world-model" and small.system["predictor"].kind == "kernel":
        return small  # it moves pixels, and is small
    tiny = Spec("encoder", "convnet", widths=(4, 8))
    if small.system["encoder"].kind == "vit":  # methods on patches need them, of the size that the views hide
        patch = small.system["encoder"]["patch"]
        tiny = Spec("encoder", "vit", patch=patch, width=12, heads=3, depth=1, positions="learned")
    if small.system.get("norm") == "tied":  # a world model whose predictor shares the encoder's norm
        tiny = Spec("encoder", "perceptron", hidden=(8,), width=8)
    return small.change(system=small.system.change(encoder=tiny.resolve()))
