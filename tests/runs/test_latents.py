"""Measurements of latent actions: the analytic cases of the reference, and the wiring of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tacit import recipes
from tacit.core.errors import DataError, RecipeError
from tacit.core.recipe import Checks, Machine
from tacit.runs import latents, planning, train
from tacit.runs.build import build, restore


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

    facts = None

    def __init__(self, noise):
        self.noise = noise

    def __len__(self):
        return 64

    def read(self, indices):
        from tacit.core.values import Batch, View

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
    monkeypatch.setattr(latents, "split_of", lambda recipe, split: Clips(noise))
    built = replace(build(tiny()), system=Known(guess, move), views=Plain())
    return {name: at.value for name, (at, _) in latents.measure(built, 64).items()}


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
            "system.world.predictor.hidden=[8]",
            "system.hidden=[8]",
            "system.bottleneck.width=3",
            *more,
        ],
    )
    return recipe.change(
        steps=2,
        batch=16,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(device="cpu", threads=1, trackers=()),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tiny(), root=tmp_path_factory.mktemp("runs"), name="latent", quiet=True).folder


def test_a_run_is_measured_and_steered(run, tmp_path, monkeypatch):
    found = latents.evaluate_latents([run], count=32)
    assert len(found.table.results) == 4 and "leakage" in found.text() and found.to_plain()["results"]
    monkeypatch.setattr(latents, "fit_controller", lambda built, **_: latents.Controller(2, 32, 3).eval())
    monkeypatch.setattr(planning, "fit_controller", latents.fit_controller)
    quick = ["steps=4", "horizon=2", "execute=2", "planner.samples=4", "planner.elites=2", "planner.iterations=1"]
    planned = planning.plan(run, "rooms", quick, episodes=2, references=False, out=tmp_path)
    assert planned.outcomes["learned model"].path.shape == (2, 5, 2)


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
    with pytest.raises(DataError) as plot:
        latents.evaluate_latents([run], count=8).plot(tmp_path / "x.png")
    assert (
        str(plot.value)
        == f"latent actions are measured by single numbers: there is nothing to draw into {tmp_path / 'x.png'}"
    )
