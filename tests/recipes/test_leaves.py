"""Every leaf of every shipped recipe changes what is built, or the recipe says why not."""

import hashlib

import pytest
import torch
import yaml
from torch import nn

from tacit import recipes
from tacit.core.errors import TacitError
from tacit.core.recipe import Recipe, from_plain, idle, leaves
from tacit.core.spec import plain
from tacit.runs.build import build


def words(module: nn.Module) -> str:
    """All that a module tree holds beside its tensors: classes and plain attributes."""
    found = []
    for name, child in module.named_modules():
        kept = {
            k: v
            for k, v in sorted(vars(child).items())
            if isinstance(v, int | float | str | tuple | bool) and k != "training"
        }
        found.append(f"{name} {type(child).__name__} {child.extra_repr()} {kept}")
    return "\n".join(found)


def fingerprint(recipe: Recipe) -> str:
    """What a recipe builds: the network with its first weights, the optimiser and its rates, the data, the views, the plan."""
    built = build(recipe)
    optim = recipe.optim.build()
    optimizer = optim.build(built.system.groups())
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    found = hashlib.sha256(words(built.system).encode())
    for name, tensor in built.system.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    plain_parts = {k: v for k, v in sorted(vars(optimizer).items()) if isinstance(v, int | float | str)}
    rates = [optim.lr * optim.factor(i / 50) for i in range(50)]
    loop = (recipe.steps, recipe.batch, recipe.accumulate, recipe.clip, recipe.seed)  # what the loop itself reads
    data = (built.source.digest(), built.source.facts)
    found.update(repr((type(optimizer), groups, plain_parts, rates, loop, data)).encode())
    batch = built.source.read(range(24))
    for view in (*built.views(batch, recipe.seed, 0).views.values(), built.views.plain(batch).views["image"]):
        found.update(view.data.numpy().tobytes())
        for parameter in view.how.values():  # a hue that turns grey pictures is drawn all the same
            found.update(parameter.numpy().tobytes())
    return found.hexdigest()


def others(value: object) -> list[object]:
    """Values near `value` of the same kind; the first that a recipe accepts is tried."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, value + 2, value + 1, max(value // 2, 1), 18, 34]
    if isinstance(value, float):
        return [value * 0.5, value + 0.25, value + 0.01]
    if isinstance(value, list):
        changed = [[other, *value[1:]] for other in others(value[0])] if value else [[0.5]]
        return changed + ([[*value[:-1], other] for other in others(value[-1])] if value else [])
    if value is None:
        return [0.5, [0.5], *({"kind": "image", "size": size, **_GREY} for size in (16, 32, 224))]
    return ["bicubic", "bilinear", "cifar", "imagenet", "test", "all", "bolts", "vicreg"]


_GREY = {"saturation": 0, "hue": 0, "grey": 0}


def small(recipe: Recipe) -> Recipe:
    """The same with a narrow projector: what a leaf does, does not depend on it, and building takes a tenth of the time."""
    widths = recipe.system["projector"]["widths"]
    return recipes.load(recipe, [f"system.projector.widths={[32] * len(widths)}"])


def kinds(tree: dict, path: str) -> bool:
    return path.rpartition(".")[2] == "kind"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(recipes.names()))
def test_every_leaf_changes_what_is_built_or_says_why_not(name):
    recipe = small(recipes.load(name))
    tree, silent = plain(recipe), idle(recipe)
    base, dead, untried = fingerprint(recipe), [], []
    torch.manual_seed(0)
    for path, value in leaves(tree).items():
        if kinds(tree, path) or path in silent:
            continue
        refused = False
        for other in others(value):
            if other == value:
                continue
            try:
                changed = from_plain(tree, [f"{path}={yaml.safe_dump(other, default_flow_style=True).splitlines()[0]}"])
                found = fingerprint(changed)
            except (TacitError, ValueError) as error:
                refused |= path.rpartition(".")[2] in str(error)
                continue
            if found == base:
                dead.append(f"{path}: {value!r} -> {other!r}")
            break
        else:
            if not refused:
                untried.append(path)
    assert not dead, "settings that nobody reads"
    assert not untried, "no other value was accepted, and no refusal names the setting"


@pytest.mark.parametrize("name", list(recipes.names()))
def test_reasons_are_given_for_settings_that_exist(name):
    recipe = recipes.load(name)
    assert set(idle(recipe)) <= set(leaves(plain(recipe)))
