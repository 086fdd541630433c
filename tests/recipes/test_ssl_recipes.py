"""Every recipe for images trains: two steps on the digits at tiny width."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Checks, Machine
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
    sizes = [f"views.{view}.size=16" for view in ("first", "second", "local") if recipe.views.get(view)]
    memory = [f"system.objective.{name}=24" for name in ("keys", "support") if name in recipe.system["objective"]]
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
