"""Every recipe of masked prediction trains: two steps at tiny width; the published schedules have the published values."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Checks, Machine
from tacit.recipes import masked, video
from tacit.runs.build import build
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics
from tacit.training.optimizers import set_decay

from .shrink import narrow

NAMES = [name for name in recipes.names() if name.startswith(("masked.", "video."))]


def tiny(name):
    recipe = narrow(recipes.load(name))
    size = {"image": ["views.view.size=64"], "clip": ["views.view.size=64"]}[recipe.views["view"].kind]
    if name.endswith(("_digits", "_tiny")):
        size = []
    if recipe.system["encoder"]["patch"] == 14:
        size = ["views.view.size=112"]
    return recipes.load(
        recipe.change(
            steps=2, batch=4, accumulate=1, checks=Checks(log_every=1, judge_every=0, save_every=0),
            machine=Machine(device="cpu", threads=1),
        ),
        [*size, *(["data.side=64"] if recipe.data.kind == "clips" and size else [])],
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_give_finite_losses_and_move_the_weights(name, tmp_path):
    recipe = tiny(name)
    if name == "masked.ijepa":  # 8 x 8 tokens: the published minimum of ten leaves no room for four targets
        recipe = recipes.load(recipe, ["views.masks.0.min_keep=2"])
    built = build(recipe)
    before = {key: p.detach().clone() for key, p in built.system.named_parameters() if p.requires_grad}
    result = fit(recipe, built.system, built.source, built.views, tmp_path)
    losses = read_metrics(tmp_path)["loss"][1].tolist()
    assert result.status == "finished" and len(losses) == 2 and all(map(math.isfinite, losses))
    still = [key for key, p in built.system.named_parameters() if key in before and torch.equal(p, before[key])]
    assert not [key for key in still if key.endswith("weight")]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_where_its_number_comes_from(name):
    text = getattr({"masked": masked, "video": video}[name.partition(".")[0]], name.partition(".")[2]).__doc__
    first = text.partition("\n")[0]
    assert first.endswith(".") and len(first) < 140
    assert name.endswith(("_digits", "_tiny")) or re.search(
        r"Aim: [\d.]+ % .*\(the authors' table", " ".join(text.split())
    )


def rates(name, steps):
    recipe = recipes.load(name)
    optim = recipe.optim.build()
    return [optim.lr * optim.factor(step / recipe.steps) for step in steps]


def test_v_jepas_rates_are_the_published_ones_and_never_reach_the_end():
    """Reference values: lr(6000) = 4.125e-4, lr(12000) = 6.25e-4, lr(90000) = 7.504e-5, wd(90000) = 0.365623."""
    assert rates("video.vjepa", (0, 6000, 12000, 90000)) == pytest.approx([2e-4, 4.125e-4, 6.25e-4, 7.504e-5], rel=1e-3)
    optim = recipes.load("video.vjepa").optim.build()
    layer = torch.nn.Linear(2, 2)
    optimizer = optim.build([{"params": [layer.weight]}, {"params": [layer.bias], "decay": False}])
    for progress, decay in ((0.0, 0.04), (1.0, 0.365623)):
        set_decay(optimizer, progress)
        assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([decay, 0.0], abs=1e-6)


def test_v_jepa_2_rises_stays_and_falls():
    assert rates("video.vjepa2", (0, 12_000, 239_999)) == pytest.approx([1e-4, 5.25e-4, 5.25e-4])
    assert rates("video.vjepa2_cooldown", (0, 6000, 12_000)) == pytest.approx([5.25e-4, 2.63e-4, 1e-6])


def test_maes_rate_is_the_base_times_batch_over_256():
    assert rates("masked.mae", (masked.mae().steps // 20,)) == pytest.approx([1.5e-4 * 16])  # 40 of 800 epochs
