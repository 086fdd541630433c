"""Imagination judged without a simulator: closed forms with a perfect model, wiring with a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tacit import recipes
from tacit.core.errors import DataError, RecipeError
from tacit.core.recipe import Checks, Machine
from tacit.core.values import Batch, View
from tacit.runs import imagining, plan_pictures, train
from tacit.runs.build import restore


class Perfect:
    """z' = z + a."""

    def imagine(self, z, actions):
        return z.unsqueeze(1) + actions.cumsum(1)


def test_a_perfect_model_always_finds_the_true_action(rng):
    actions = torch.randn(20, 2, 3, generator=rng)
    start = torch.randn(20, 3, generator=rng)
    z = torch.stack([start, start + actions[:, 0]], 1)
    found = imagining.retrieval(Perfect(), z, actions, choices=5)
    assert (found["action retrieval among 5, hit"]["learned model"] == 1).all()
    assert (found["action retrieval among 5, reciprocal rank"]["learned model"] == 1).all()
    np.testing.assert_allclose(
        found["action retrieval among 5, reciprocal rank"]["chance"], (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5
    )


def test_a_model_that_ignores_actions_is_at_a_tie(rng):
    class Deaf:
        def imagine(self, z, actions):
            return z.unsqueeze(1).expand(-1, actions.shape[1], -1)

    z, actions = torch.randn(9, 2, 3, generator=rng), torch.randn(9, 2, 3, generator=rng)
    found = imagining.retrieval(Deaf(), z, actions, choices=5)
    np.testing.assert_allclose(
        found["action retrieval among 5, reciprocal rank"]["learned model"], 1 / 3
    )  # the middle of five


def test_the_decoder_reads_what_is_linear(rng):
    x, w = torch.randn(200, 6, generator=rng), torch.randn(6, 2, generator=rng)
    read = imagining._decoder(x, x @ w + 3)
    torch.testing.assert_close(read(x[:5]).float(), x[:5] @ w + 3, atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = recipes.load(
        "worlds.two_rooms_small",
        [
            "system.encoder.hidden=[16]",
            "views.shrink=4",
            "system.encoder.width=8",
            "data.count=64",
            "data.frames=5",
            "system.steps=3",
        ],
    )
    recipe = recipe.change(
        steps=2,
        batch=16,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(device="cpu", threads=1, trackers=()),
    )
    return train(recipe, root=tmp_path_factory.mktemp("runs"), name="rooms", quiet=True).folder


def test_a_run_is_judged_beside_persistence_and_wrong_actions(run, tmp_path):
    found = imagining.evaluate_world_models([run], count=40)
    names = {(r.model, r.protocol) for r in found.table.results}
    for model in ("learned model", "persistence", "actions of another clip"):
        assert (model, "open loop, error after 4@1") in names
        assert (model, "decoded position, distance after 1@1") in names
    assert ("chance", "action retrieval among 32, hit@1") in names
    assert found.plot(tmp_path / "horizon.png").stat().st_size > 1000
    assert list((run / "imagination").rglob("*.parquet"))
    assert ("standing still", "planning to the end of a clip, L1 of the summed actions@1") in names
    for file in (
        run / "imagination/rollouts.png",
        run / "imagination/landscape.png",
        tmp_path / "horizon-rollouts.png",
    ):
        assert file.stat().st_size > 5000
    longer = imagining.evaluate_world_models([run], count=8, overrides=["data.frames=12"])
    assert len(longer.curves["learned model"][0]) == 11
    assert "open loop" in found.text() and found.to_plain()["results"]


def test_the_landscape_of_a_perfect_model_is_least_at_the_true_action(monkeypatch, run):
    """z' = z + a on clips of a point: the mean landscape about the true action has its minimum in the middle."""
    built = restore(run)
    rng = torch.Generator().manual_seed(0)
    actions = torch.rand(40, 3, 3, generator=rng) * 2 - 1
    states = torch.cat([torch.zeros(40, 1, 3), actions[:, :2].cumsum(1)], 1)

    class Clips:
        def __len__(self):
            return 40

        def read(self, rows):
            return Batch({"image": View(states[: len(rows)])}, torch.tensor(list(rows)), actions[: len(rows)])

    class Exact(Perfect, torch.nn.Linear):
        def encode(self, x):
            return x.transpose(1, 2)

    class Plain:
        def plain(self, batch):
            return Batch({"image": View(batch.views["image"].data.transpose(1, 2))}, batch.ids)

    monkeypatch.setattr(plan_pictures, "split_of", lambda recipe, split: Clips())
    energies, true = plan_pictures.action_energies(
        replace(built, system=Exact(1, 1), views=Plain()), clips=20, grid=21, reach=1.0
    )
    assert energies.shape == (20, 21, 21) and torch.equal(true, actions[:20, 0])
    mean = plan_pictures.around(energies, true, 1.0)
    assert np.unravel_index(mean.argmin(), mean.shape) == (10, 10)


def test_bad_requests_are_refused(run):
    with pytest.raises(RecipeError) as two:
        imagining.evaluate_world_models([run, run])
    assert str(two.value) == "world models are evaluated one at a time, found 2 run folders"
    with pytest.raises(RecipeError) as other:
        imagining.evaluate_world_models([run], overrides=["system.steps=2"])
    assert str(other.value) == f"{run} holds the system it was trained with: only data and machine can be changed here"
    with pytest.raises(DataError) as one:
        imagining.evaluate_world_models([run], count=1)
    assert (
        str(one.value)
        == "imagination is judged beside the actions of other clips: at least 2 clips are needed, found 1"
    )
    with pytest.raises(DataError) as digits:
        imagining.evaluate_world_models([run], overrides=["data=moving-digits"])
    assert str(digits.value) == "the model was trained on actions of 2 numbers, these data have 0"
