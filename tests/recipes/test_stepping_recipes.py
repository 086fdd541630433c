"""Every stepping recipe takes two steps at tiny width, with every condition that needs no encoder."""

from __future__ import annotations

import math

import pytest

from tacit import recipes
from tacit.core.recipe import Checks, Machine
from tacit.core.spec import Spec
from tacit.recipes import stepping
from tacit.runs.build import build
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

from .shrink import narrow

NAMES = [name for name in recipes.names() if name.startswith("stepping.")]


@pytest.mark.parametrize("kind", ["none", "coefficient"])
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_give_finite_losses(name, kind, tmp_path):
    recipe = narrow(recipes.load(name)).change(
        steps=2,
        batch=2,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(device="cpu", threads=1),
    )
    data = recipe.data.change(count=3)
    if recipe.data["world"].kind == "smoke":
        data = data.change(
            world=Spec("world", "smoke", points=16, length=8.0, dt=0.5, frames=18, warmup=1, precision="float32")
        )
    system = recipe.system.change(condition=kind)
    if recipe.data["world"].kind == "smoke" and "modes" in system["stepper"].resolve():
        system = system.change(stepper=system["stepper"].change(modes=4))  # the box has 16 points, with a pad 25
    recipe = recipe.change(system=system, data=data)
    built = build(recipes.load(recipe))
    fit(built.recipe, built.system, built.source, built.views, tmp_path)
    losses = read_metrics(tmp_path)["loss"][1].tolist()
    assert len(losses) == 2 and all(map(math.isfinite, losses))


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_to_expect(name):
    text = " ".join((getattr(stepping, name.removeprefix("stepping.")).__doc__ or "").split())
    assert "arXiv" in text or "Nothing is published for this size" in text
