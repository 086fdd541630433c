"""Measurements of latent actions: the analytic cases of the reference, and the wiring of a run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tacit import recipes
from tacit.core.errors import RecipeError
from tacit.core.recipe import Checks, Machine, to_yaml
from tacit.core.values import Batch, Facts, View
from tacit.runs import capacity, clip_planning, controllers, latents, planning, train
from tacit.runs.build import build, restore
from tacit.runs.clip_planning import plan_clips


class Known:
    """States are positions; the latent is what `guess` says, and the world applies it by `move`."""

    def __init__(self, guess, move):
        self.guess_, self.move, self.bottleneck = guess, move, object()

    def to(self, device):
        return self

    def eval(self):
        return self

    def encode(self, x):
        return x[:, 0, :, 0, :2]

    def infer(self, before, after):
        return self.guess_(before, after), {}

    def imagine(self, z0, actions):
        states = []
        for z in actions.unbind(1):
            z0 = self.move(z0, z)
            states.append(z0)
        return torch.stack(states, 1)


class Clips:
    """View [n 1 t 1 2]: a point that moves by its actions, and noise that no action explains."""

    facts = Facts(channels=1)

    def __init__(self, noise):
        self.noise = noise

    def __len__(self):
        return 64

    def read(self, indices):
        rng = torch.Generator().manual_seed(len(indices))
        action = torch.randn(len(indices), 4, 2, generator=rng)
        start = 3 * torch.randn(len(indices), 1, 2, generator=rng)
        where = torch.cat([start, start + action[:, :3].cumsum(1)], 1)
        where = where + self.noise * torch.randn(where.shape, generator=rng)
        return Batch({"image": View(where[:, None, :, None, :])}, torch.tensor(list(indices)), action)


class Plain:
    def plain(self, batch):
        return batch


def measured(monkeypatch, guess, move, noise=0.1):
    for module in (latents, controllers):
        monkeypatch.setattr(module, "split_of", lambda recipe, split: Clips(noise))
    built = replace(build(tiny()), system=Known(guess, move), views=Plain())
    monkeypatch.setattr(latents, "fit_controller", lambda built: lambda action, state: action)
    rows, _ = latents.measure(built, 64)
    return {name: models["latent actions"][0].value for name, models in rows.items() if "latent actions" in models}


def test_additive_actions_say_the_action_and_transfer(monkeypatch):
    """z = s' - s: cycle ratio exactly 1 up to rounding (errors are 0), and the action is read up to the noise."""
    found = measured(monkeypatch, lambda a, b: b - a + 0.01, lambda s, z: s + z, noise=0.1)
    assert found["action R2 of a ridge on latents"] > 0.95
    assert (
        abs(found["cycle: error after the detour over error before"] - 4) < 0.2
    )  # the 0.01 is made twice: four times the square


def test_a_latent_that_is_the_next_state_leaks(monkeypatch):
    found = measured(monkeypatch, lambda a, b: b, lambda s, z: z + 0.1)
    assert abs(found["leakage: error at a cut over error without"] - 1) < 1e-4


def test_a_latent_that_says_nothing_reads_nothing(monkeypatch):
    found = measured(monkeypatch, lambda a, b: torch.zeros_like(a), lambda s, z: s)
    assert found["action R2 of a ridge on latents"] < 0.05
    assert found["leakage: error at a cut over error without"] > 3
    assert abs(found["cycle: error after the detour over error before"] - 1) < 1e-6


def tiny(*more):
    recipe = recipes.load(
        "worlds.latent_rooms",
        [
            "data.count=48",
            "views.shrink=16",
            "system.world.encoder.blur=0",
            "system.world.predictor.hidden=[8]",
            "system.inverse.hidden=[8]",
            "system.bottleneck.width=3",
            *more,
        ],
    )
    return small(recipe)


def small(recipe):
    return recipe.change(
        steps=2,
        batch=16,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(device="cpu", threads=1, trackers=()),
    )


@pytest.fixture
def quick(monkeypatch):
    """Short controllers and plans: what is tested is the wiring."""
    for module in (latents, planning):
        monkeypatch.setattr(module, "fit_controller", lambda built, **_: controllers.fit_controller(built, steps=3))
    monkeypatch.setattr(latents, "_PLANNED", 4)
    for name, value in (("_SAMPLES", 8), ("_ELITES", 2), ("_ITERATIONS", 1)):
        monkeypatch.setattr(clip_planning, name, value)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tiny(), root=tmp_path_factory.mktemp("runs"), name="latent", quiet=True).folder


QUICK = ["steps=4", "horizon=2", "execute=2", "planner.samples=4", "planner.elites=2", "planner.iterations=1"]


def test_a_run_is_measured_and_steered_beside_its_twin(run, tmp_path, quick):
    found = latents.evaluate_latents([run], count=32)
    names = {(r.model, r.protocol.removesuffix("@1")) for r in found.table.results}
    for pair in (
        ("latent actions", latents.R2), ("latent actions", latents.MOTION), ("latent actions", latents.LEAKAGE),
        ("latent actions", latents.CYCLE), ("latent actions", latents.TRANSFER), ("persistence", latents.ONE_STEP),
        ("through the controller", latents.STEERING), ("through the controller", latents.PLANNING),
        ("standing still", latents.PLANNING), ("drawn", latents.SAMPLED),
    ):  # fmt: skip
        assert pair in names, pair
    assert "leakage" in found.text() and json.loads((run / "latents.json").read_text())["results"]
    assert found.plot(tmp_path / "rolled.png").stat().st_size > 1000
    known = recipes.load("latents.known_rooms", ["data.count=48", "views.shrink=16", "system.predictor.hidden=[8]"])
    twin = train(small(known), root=tmp_path, name="known", quiet=True).folder
    planned = planning.plan(run, "rooms", QUICK, episodes=2, references=False, beside=twin, out=tmp_path / "plan")
    assert list(planned.outcomes) == ["learned model", "beside: known"]
    assert all(o.path.shape == (2, 5, 2) for o in planned.outcomes.values())


def test_perfect_transfer_has_ratio_one():
    """Additive latents of a camera: what A did does the same to B, up to the edge that nobody has seen."""
    built = build(small(recipes.load("latents.camera", ["data.count=24"])))
    batch = built.source.read(range(24))
    moved = batch.facts["position"].diff(dim=1)

    class Told(Known):
        def __init__(self):
            super().__init__(None, None)

        def encode(self, x):
            return x.flatten(3).mean(1)

        def imagine(self, z0, actions):  # the same error for every clip, whatever the latents
            return z0.unsqueeze(1).expand(-1, actions.shape[1], -1)

        def infer(self, before, after):
            return torch.zeros(*before.shape[:-1], 2), {}

    found = latents._transferred(Told(), built, moved, 24, "cpu")[latents.TRANSFER]["latent actions"]
    assert found[0].value == 1 and found[1] == 24  # nothing is in a camera's way


def test_planning_to_the_end_of_a_clip_finds_what_was_done():
    """z' = z + a: the sum of the actions is the way; persistence misses all of it."""
    rng = torch.Generator().manual_seed(0)
    actions = torch.rand(12, 3, 2, generator=rng) * 2 - 1
    states = torch.cat([torch.zeros(12, 1, 2), actions.cumsum(1)], 1)
    found = plan_clips(lambda z, a: z.unsqueeze(1) + a.cumsum(1), states, actions)
    still = actions.sum(1).abs().sum(1).numpy()
    np.testing.assert_allclose(found["standing still"], still, rtol=1e-5)
    assert found["planned"].mean() < 0.1 * still.mean()


def test_sampled_latents_of_the_same_law_are_near_and_shifted_ones_far():
    class Prior:
        def __init__(self, shift):
            self.shift = shift

        def sample(self, count):
            return torch.randn(count, 3, generator=torch.Generator().manual_seed(1)) + self.shift

    z = torch.randn(900, 3, generator=torch.Generator().manual_seed(2))
    near, far = (latents._sampled(Prior(s), z, 9)[latents.SAMPLED]["drawn"][0] for s in (0.0, 2.0))
    assert abs(near.value) < 0.02 < far.low


def test_a_controller_learns_the_latents_of_known_actions(run):
    built = restore(run)
    controller = latents.fit_controller(built, steps=40, batch=64)
    again = latents.fit_controller(built, steps=40, batch=64)
    assert all(torch.equal(p, q) for p, q in zip(controller.parameters(), again.parameters(), strict=True))
    states, actions = latents.states_of(built.system, built, "train", 48, "cpu")
    z, _ = built.system.infer(states[:, :-1], states[:, 1:])
    error = (controller(actions, states[:, :-1]) - z).square().mean()
    assert error < z.square().mean()


def test_bad_requests_are_refused(run, tmp_path):
    with pytest.raises(RecipeError) as two:
        latents.evaluate_latents([run, run])
    assert str(two.value) == "latent actions are measured one run at a time, found 2 run folders"
    with pytest.raises(RecipeError) as other:
        latents.evaluate_latents([run], overrides=["system.bottleneck.beta=1"])
    assert str(other.value) == f"{run} holds the system it was trained with: only data and machine can be changed here"
    with pytest.raises(RecipeError) as known:
        capacity.capacity("latents.known_rooms", ["system.predictor.reach=1,2"], root=tmp_path)
    assert str(known.value) == (
        "capacity is that of latent actions, and latents.known_rooms trains a system 'world-model': take latents.noisy, for example"
    )


def test_capacity_measures_every_point_and_continues(tmp_path, monkeypatch, quick):
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(tiny()))
    calls = []
    monkeypatch.setattr(capacity, "train", lambda recipe, **given: calls.append(recipe) or train(recipe, **given))
    axes = ["system.bottleneck.beta=1e-2,1e-5", "data.count=32"]
    found = capacity.capacity(path, axes, root=tmp_path, name="sweep", count=16, quiet=True)
    assert list(found.points) == ["beta=1e-2", "beta=1e-5"] and found.plot.stat().st_size > 1000
    assert {"one-step error", "action R2", "leakage", "cycle", "transfer", "planning, L1"} <= set(
        found.points["beta=1e-2"]
    )
    assert [c.system["bottleneck"]["beta"] for c in calls] == [1e-2, 1e-5]
    assert "beta=1e-5" in found.text() and found.to_plain()["points"]
