"""Every leaf of every shipped recipe changes what is built, or the recipe says why not.

A leaf is known by the parts that it stands under, `system[joint-embedding].objective[vicreg].gamma`, and tried in the first recipe
in which it is not idle: what a setting does, does not depend on the recipe that has it. A part is built by itself.
"""

import functools
import hashlib

import pytest
import torch
import yaml
from torch import nn

from tacit import recipes
from tacit.core.errors import TacitError
from tacit.core.random import torch_seed
from tacit.core.recipe import Recipe, from_plain, idle, leaves
from tacit.core.spec import plain

from .shrink import heads, narrow


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


@functools.lru_cache(maxsize=1)
def source_of(recipe_data):
    return recipe_data.build()


def fingerprint(recipe: Recipe, section: str) -> str:
    """What one section of a recipe builds: the network with its first weights, the optimiser and its rates, data, views, plan."""
    found = hashlib.sha256()
    for piece in SECTIONS.get(section, plan)(recipe):  # one by one: giants have gigabytes of weights
        found.update(piece)
    return found.hexdigest()


def of_system(recipe: Recipe):
    facts = recipe.views.build(source_of(recipe.data).facts).facts
    torch.manual_seed(torch_seed(recipe.seed, "weights"))
    system = recipe.system.build(facts)
    yield words(system).encode()
    for name, tensor in system.state_dict().items():
        yield name.encode() + tensor.numpy().tobytes()
    groups = [{k: v for k, v in group.items() if k != "params"} for group in system.groups()]
    yield repr([(group, len(own["params"])) for group, own in zip(groups, system.groups(), strict=True)]).encode()


def of_data(recipe: Recipe):
    source = source_of(recipe.data)
    yield repr((source.digest(), source.facts)).encode()


def of_views(recipe: Recipe):
    source = source_of(recipe.data)
    views, batch = recipe.views.build(source.facts), source.read(range(24))
    for view in (*views(batch, recipe.seed, 0).views.values(), views.plain(batch).views["image"]):
        yield view.data.numpy().tobytes()
        if view.keep is not None:
            yield view.keep.numpy().tobytes()
        for parameter in view.how.values():  # a hue that turns grey pictures is drawn all the same
            yield parameter.numpy().tobytes()


def of_optim(recipe: Recipe):
    optim, layer = recipe.optim.build(), nn.Linear(2, 2)
    optimizer = optim.build([{"params": [layer.weight]}, {"params": [layer.bias], "decay": False}])
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    attributes = {k: v for k, v in sorted(vars(optimizer).items()) if isinstance(v, int | float | str)}
    rates = [optim.lr * optim.factor(i / 50) for i in range(50)]
    yield repr((type(optimizer), groups, attributes, rates)).encode()


def plan(recipe: Recipe):
    yield repr((recipe.steps, recipe.batch, recipe.accumulate, recipe.clip, recipe.seed)).encode()  # read by the loop


SECTIONS = {"system": of_system, "data": of_data, "views": of_views, "optim": of_optim}


def others(value: object) -> list[object]:
    """Values near `value` of the same kind; the first that a recipe accepts is tried."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, value + 2, value + 1, max(value // 2, 1), 18, 34]
    if isinstance(value, float):
        return [value * 0.5, value + 0.25, value + 0.01, value - 0.001]
    if isinstance(value, list):
        changed = [[other, *value[1:]] for other in others(value[0])] if value else [[0.5]]
        return changed + ([[*value[:-1], other] for other in others(value[-1])] if value else [])
    if value is None:
        parts = [{"kind": "ema"}, {"kind": "mlp", "widths": [8, 8]}]
        return [0.5, [0.5], *parts, *({"kind": "image", "size": size, **_GREY} for size in (16, 32, 224))]
    return list(_WORDS)


_GREY = {"saturation": 0, "hue": 0, "grey": 0}
_WORDS = (
    *(
        "resnet18",
        "bicubic",
        "bilinear",
        "cifar",
        "imagenet",
        "test",
        "all",
        "bolts",
        "solo-learn",
        "vicreg",
        "sum",
        "mean",
        "bias",
        "linear",
    ),
    *("norm", "fixed", "trained", "centre", "sinkhorn", "scheduled", "constant", "views"),
    *("batch", "none", "blocks", "scattered", "focal", "label"),
    *(
        "own",
        "none",
        "every",
        "first",
        "tokens",
        "detached",
        "official",
        "features",
        "state",
        "adaln",
        "pldm",
        "bounce",
        "valid",
    ),
    *("giant", "class", "rope", "sincos", "correct", "xavier", "rescaled", "normal", "zero", "cosine", "l2", "l1"),
    *("replaced", "each", "random", "identity", "interpolated"),
)


RARE = {"min_keep"}  # bites only where a draw of a mask leaves less; tests/ops/test_masks.py holds it
WHOLE = {
    ("duality", "centre")
}  # letters are drawn at the size of the views, and such pictures stay whole, as the views' docstring says


def place_of(tree: dict, path: str) -> str:
    """The path with the kinds of the parts on the way."""
    node, found = tree, ""
    for name in path.split("."):
        node = node[int(name)] if isinstance(node, list) else node[name]
        found += f".{name}" + (f"[{node['kind']}]" if isinstance(node, dict) and "kind" in node else "")
    return found


@pytest.fixture(scope="module")
def tried() -> dict[str, list[str]]:
    """For every recipe the paths of the leaves that are tried in it: each place once, where it is not idle."""
    seen, found = set(), {}
    for name in recipes.names():
        recipe = recipes.load(name)
        tree, silent = plain(recipe), idle(recipe)
        own = {
            place_of(tree, path): path
            for path in leaves(tree)
            if path not in silent
            and (leaf := path.rpartition(".")[2]) not in {"kind", *RARE}
            and (name.partition(".")[0], leaf) not in WHOLE
        }
        found[name] = [path for place, path in own.items() if place not in seen]
        seen |= own.keys()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(recipes.names()))
def test_every_leaf_changes_what_is_built_or_says_why_not(name, tried):
    recipe = recipes.load(name)
    small = {True: recipes.load(recipe, heads(recipe, 8)), False: narrow(recipe)}  # True: an encoder is tried as it is
    base, dead, untried = {}, [], []
    for path in tried[name]:
        encoder, section = path.startswith("system.encoder."), path.partition(".")[0]
        tree = plain(small[encoder])
        if (encoder, section) not in base:
            base[encoder, section] = fingerprint(small[encoder], section)
        value, refused = leaves(tree)[path], False
        for other in others(value):
            if other == value:
                continue
            try:
                changed = from_plain(tree, [f"{path}={yaml.safe_dump(other, default_flow_style=True).splitlines()[0]}"])
                found = fingerprint(changed, section)
            except (TacitError, ValueError) as error:
                refused |= path.rpartition(".")[2] in str(error)
                continue
            if found == base[encoder, section]:
                dead.append(f"{path}: {value!r} -> {other!r}")
            break
        else:
            if not refused:
                untried.append(path)
    assert not dead, "settings that nobody reads"
    assert not untried, "no other value was accepted, and no refusal names the setting"


def test_a_leaf_is_tried_for_every_setting_of_every_part_in_use(tried):
    places = {place_of(plain(recipes.load(name)), path) for name, paths in tried.items() for path in paths}
    assert len(places) == sum(map(len, tried.values())) > 120
    assert {
        ".system[joint-embedding].objective[vicreg].gamma",
        ".system[joint-embedding].teacher[ema].momentum",
        ".optim[lars].schedule[cosine].warmup",
        ".views[pair].second[image].solarise",
        ".data[digits].channels",
        ".batch",
    } <= places


@pytest.mark.parametrize("name", list(recipes.names()))
def test_reasons_are_given_for_settings_that_exist(name):
    recipe = recipes.load(name)
    assert set(idle(recipe)) <= set(leaves(plain(recipe)))
