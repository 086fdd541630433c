"""Recipes of robots and of language train two steps at tiny width, and say what they are and where their number comes from."""

from __future__ import annotations

import math

import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Checks, Machine
from tacit.recipes import language, robots
from tacit.runs.build import build
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

from .shrink import narrow

NAMES = [name for name in recipes.names() if name.startswith(("robots.", "language."))]


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_give_finite_losses_and_move_what_learns(name, tmp_path):
    pytest.importorskip("mujoco" if name.startswith("robots.") else "transformers")
    recipe = narrow(recipes.load(name)).change(
        steps=2,
        batch=4,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(device="cpu", threads=1),
    )
    built = build(recipe)
    before = {key: p.detach().clone() for key, p in built.system.named_parameters()}
    result = fit(recipe, built.system, built.source, built.views, tmp_path)
    losses = read_metrics(tmp_path)["loss"][1].tolist()
    assert result.status == "finished" and len(losses) == 2 and all(map(math.isfinite, losses))
    moved = {key for key, p in built.system.named_parameters() if not torch.equal(p, before[key])}
    assert moved and not any(key.startswith("encoder.") for key in moved)
    assert any(key.startswith("language.") for key in moved) == (recipe.system.get("trains") == "all")


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_where_its_number_comes_from(name):
    text = getattr({"robots": robots, "language": language}[name.partition(".")[0]], name.partition(".")[2]).__doc__
    first = text.partition("\n")[0]
    assert first.endswith((".", "pixels.")) and len(first) < 160
    assert "No published number" in text or "authors' table" in " ".join(text.split()) or "Aim: see there" in text


def test_the_published_post_training_is_the_published_one():
    recipe = recipes.load("robots.vjepa2_ac")
    predictor, schedule = recipe.system["predictor"], recipe.optim["schedule"].build()
    assert (predictor["width"], predictor["depth"], predictor["heads"], recipe.batch, recipe.steps) == (
        1024,
        24,
        16,
        256,
        94_500,
    )
    assert recipe.data["frames"] == 16 and recipe.system["rollout"] == 2 and recipe.system["compat"] == "correct"
    rates = [recipe.optim["lr"] * schedule(step / recipe.steps) for step in (0, 4500, 90_000)]
    assert rates == pytest.approx([7.5e-5, 4.25e-4, 4.25e-4])
