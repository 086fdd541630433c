"""Every recipe for differential equations trains: two steps at tiny width on trajectories made at tiny size."""

from __future__ import annotations

import math

import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Checks, Machine
from tacit.core.spec import Spec
from tacit.recipes import pde
from tacit.runs.build import build
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

from .shrink import narrow

NAMES = [name for name in recipes.names() if name.startswith("pde.")]
EQUATIONS = {"kdv", "ks", "burgers", "navier_stokes"}


def small(world: Spec) -> Spec:
    """The same equation on few points and frames."""
    if world.kind == "smoke":
        return world.change(points=16, length=8.0, frames=6, warmup=2)
    if world.kind == "ks":
        return world.change(length=24.0, horizon=4.0, points=64, frames=12, stored=10)
    return world.change(length=16.0, horizon=1.0, points=64, frames=12, stored=10)


def tiny(name):
    recipe = narrow(recipes.load(name))
    data = recipe.data
    if data.kind == "pde-mixed":
        data = data.change(worlds=tuple(small(world) for world in data["worlds"]), count=12)
    else:
        data = data.change(world=small(data["world"]), count=12)
    crop = (4, 16, 16) if recipe.views.kind == "lie-plane" else (6, 32)
    return recipes.load(
        recipe.change(
            data=data,
            views=recipe.views.change(crop=crop),
            steps=2,
            batch=8,
            checks=Checks(log_every=1, judge_every=0, save_every=0),
            machine=Machine(device="cpu", threads=1),
        )
    )


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_give_finite_losses_and_move_the_weights(name, tmp_path):
    recipe = tiny(name)
    built = build(recipe)
    before = {key: p.detach().clone() for key, p in built.system.named_parameters()}
    result = fit(recipe, built.system, built.source, built.views, tmp_path)
    losses = read_metrics(tmp_path)["loss"][1].tolist()
    assert result.status == "finished" and len(losses) == 2 and all(map(math.isfinite, losses))
    still = [key for key, p in built.system.named_parameters() if torch.equal(p, before[key])]
    assert not [key for key in still if key.endswith("weight")]


def test_every_equation_has_the_published_recipe_and_one_of_minutes():
    assert {name.removeprefix("pde.") for name in NAMES} == EQUATIONS | {f"{e}_small" for e in EQUATIONS} | {
        "mixed_small"
    }
    for name in EQUATIONS:
        recipe = recipes.load(f"pde.{name}")
        assert recipe.system["encoder"].kind == "resnet" and recipe.system["encoder"]["depth"] == 18
        assert recipe.system["projector"]["widths"] == (512, 512, 512)
        objective = recipe.system["objective"]
        assert [objective[k] for k in ("invariance", "variance", "covariance")] == [25, 25, 1]
        assert (recipe.optim["lr"], recipe.optim["weight_decay"]) == (3e-4, 1e-6)
        assert recipe.steps == 100 * (recipe.data["count"] // recipe.batch)
        assert "recalled from arXiv 2307.05432" in getattr(pde, name).__doc__


def test_strengths_of_the_released_smoke_recipe():
    views = recipes.load("pde.navier_stokes").views
    named = ("time", "shift_x", "shift_y", "scale", "rotation", "linear_x", "linear_y", "quadratic_x", "quadratic_y")
    assert [views[name] for name in named] == [0, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01]
    assert views["crop"] == (16, 128, 128)
