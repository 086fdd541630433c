"""Every recipe of world models trains: a few steps at tiny width; what it says of itself."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Checks, Machine
from tacit.recipes import latents, worlds
from tacit.runs.build import build
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

from .shrink import narrow

NAMES = [name for name in recipes.names() if name.startswith(("worlds.", "latents."))]
CLIPS = [name for name in NAMES if "image" not in name]


def tiny(name):
    extra = {
        "worlds.dino_wm": ["views.size=16"],
        "worlds.moving_digits": ["data.frames=4", "system.steps=1"],
        "worlds.moving_digits_small": ["data.frames=4", "system.steps=1"],
        "latents.lawm": [
            "views.size=32", "system.world.encoder.name=vit_tiny_patch16_224",
            *(f"system.world.predictor.{s}" for s in ("depth=1", "heads=2", "head_width=4", "hidden=8", "action_width=8")),
            *(f"system.inverse.{s}" for s in ("width=8", "heads=2", "depth=1")),
        ],
    }  # fmt: skip
    recipe = recipes.load(name, ["data.count=32", *extra.get(name, ())])
    recipe = (
        recipe if name.startswith("latents.") else narrow(recipe)
    )  # those are small, and their parts fit each other
    machine = Machine(device="cpu", threads=1, trackers=())
    return recipe.change(
        steps=4, batch=4, accumulate=1, checks=Checks(log_every=1, judge_every=0, save_every=0), machine=machine
    )


@pytest.mark.parametrize(
    "name", CLIPS
)  # four steps: the first has rate 0, and gates that start shut open in the second
def test_steps_give_finite_losses_and_move_the_weights(name, tmp_path):
    recipe = tiny(name)
    built = build(recipe)
    before = {key: p.detach().clone() for key, p in built.system.named_parameters() if p.requires_grad}
    result = fit(recipe, built.system, built.source, built.views, tmp_path)
    losses = read_metrics(tmp_path)["loss"][1].tolist()
    assert result.status == "finished" and len(losses) == 4 and all(map(math.isfinite, losses))
    still = [key for key, p in built.system.named_parameters() if key in before and torch.equal(p, before[key])]
    assert not [key for key in still if key.endswith("weight")]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_where_its_number_comes_from(name):
    module, _, function = name.partition(".")
    first, _, rest = getattr({"worlds": worlds, "latents": latents}[module], function).__doc__.partition("\n")
    assert first.endswith(".") and len(first) < 140
    assert re.search(r"Aim\b.*: [\d.]+|known to us|No published number", " ".join(rest.split())), name


def test_the_full_recipe_sees_what_was_published():
    """12 epochs of 100,000 clips of 17 frames at batch 384, warm-up over a tenth, 1e-3 down to 1e-5."""
    recipe = recipes.load("worlds.two_rooms")
    assert (recipe.steps, recipe.batch, recipe.clip) == (3120, 384, 2.0)
    optim = recipe.optim.build()
    assert optim.lr * optim.factor(0.1) == pytest.approx(1e-3)
    assert optim.lr * optim.factor(1.0) == pytest.approx(1e-5)
    assert recipe.data["frames"] == 17 and recipe.data["crossing"] == 0.35
