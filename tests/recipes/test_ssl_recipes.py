"""Every recipe for images trains: two steps on the digits at tiny width."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Checks, Machine, differences
from tacit.core.spec import Spec
from tacit.models import store
from tacit.recipes import ssl
from tacit.runs.build import build, exports
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

from .shrink import narrow

NAMES = [name for name in recipes.names() if name.startswith("ssl.")]
AIMS = {name: getattr(ssl, name.removeprefix("ssl.")).__doc__ for name in NAMES}


def tiny(name):
    recipe = narrow(recipes.load(name))
    patch = recipe.system["encoder"].get("patch", 8)
    sizes = [f"views.{view}.size={2 * patch}" for view in ("first", "second") if recipe.views.get(view)]
    sizes += [f"views.local.size={patch}"] if recipe.views.get("local") else []
    names = ("keys", "support", "queue", "memory")
    memory = [f"system.objective.{name}=24" for name in names if recipe.system["objective"].get(name)]
    if recipe.system["objective"].kind == "deepcluster":
        memory.append("system.objective.prototypes=[8, 6]")
    return recipes.load(
        recipe.change(
            steps=2,
            batch=16,
            accumulate=1,
            checks=Checks(log_every=1, judge_every=0, save_every=0),
            machine=Machine(device="cpu", threads=1),
        ),
        [*sizes, *memory],
    )


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_give_finite_losses_and_move_the_weights(name, tmp_path):
    recipe = tiny(name)
    built = build(recipe)
    before = {key: p.detach().clone() for key, p in built.system.named_parameters() if p.requires_grad}
    result = fit(recipe, built.system, built.source, built.views, tmp_path)
    losses = read_metrics(tmp_path)["loss"][1].tolist()
    assert result.status == "finished" and len(losses) == 2 and all(map(math.isfinite, losses))
    still = [key for key, p in built.system.named_parameters() if key in before and torch.equal(p, before[key])]
    assert not [key for key in still if key.endswith("weight")]


DIGITS = [name for name in NAMES if name.endswith("_digits")]


def test_every_method_has_a_recipe_for_the_digits():
    """Those with a recipe of their own for larger pictures, and the demo's."""
    methods = {
        name.removesuffix("_imagenet").removesuffix("_cifar10_short") for name in NAMES if not name.endswith("_digits")
    }
    assert {f"{name}_digits" for name in methods} <= set(DIGITS)


SHORT = [name for name in NAMES if name.endswith("_cifar10_short")]


@pytest.mark.parametrize("name", SHORT)
def test_a_short_recipe_is_the_whole_one_with_its_epochs_kept(name):
    """200 epochs in the place of 1,000: shares of the run that stand for epochs grow five-fold, and nothing else changes."""
    whole = recipes.load(name.removesuffix("_cifar10_short"))
    changed = differences(whole, recipes.load(name))
    assert changed.pop("steps") == (1000 * 195, 200 * 195)
    assert "optim.schedule.warmup" in changed
    for path, (before, after) in changed.items():
        assert path.rpartition(".")[2] in ("warmup", "still", "queue_from")
        assert after == pytest.approx(5 * before)


@pytest.mark.parametrize("name", DIGITS)
def test_the_digits_recipes_train_on_letters_by_one_override(name, tmp_path):
    recipe = recipes.load(tiny(name), ["data=glyphs", "data.count=32", "steps=1"])
    built = build(recipe)
    assert len(built.source.facts.classes) == 26
    result = fit(recipe, built.system, built.source, built.views, tmp_path)
    assert result.status == "finished" and math.isfinite(read_metrics(tmp_path)["loss"][1][0])


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_where_its_number_comes_from(name):
    first, _, rest = AIMS[name].partition("\n")
    assert first.endswith(".") and len(first) < 130
    if not name.endswith("_digits"):
        assert re.search(r"Aim\b.*: [\d.]+ %.*\(.+\)|Aim: [\d.]+ % linear|known to us", " ".join(rest.split())), name


def test_a_predictor_is_exported_with_the_width_it_stands_on(tmp_path):
    recipe = tiny("ssl.byol")
    recipe = recipe.change(
        system=recipe.system.change(
            projector=Spec("head", "mlp", widths=(7, 5)), predictor=Spec("head", "mlp", widths=(6, 5))
        )
    )
    built = build(recipe)
    spec, runtime, module = exports(built)["predictor"]
    assert runtime == 5
    loaded = store.load(store.export(spec, runtime, module, tmp_path / "predictor"))
    x = torch.randn(3, 5)
    assert torch.equal(loaded.eval()(x), module.eval()(x))
