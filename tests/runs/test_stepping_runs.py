"""Training, evaluating and reporting a time-stepper; the errors in closed form; pairs of runs; refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tacit import recipes, runs
from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.recipe import Checks, Machine, to_yaml
from tacit.core.spec import Spec
from tacit.probing import read_records
from tacit.runs import stepping

MACHINE = Machine(device="cpu", threads=1, trackers=())
QUIET = Checks(log_every=5, judge_every=0, save_every=0)


def tiny(**system):
    recipe = recipes.load(
        "stepping.burgers_small",
        ["steps=3", "batch=4", "data.count=8", "data.world.points=16", "data.world.highest=3", "data.world.frames=33",
         "data.world.stored=33", "data.world.viscosity=[0.1, 0.3]",
         "system.stepper.width=4", "system.stepper.modes=3", "system.stepper.depth=1"],
    )  # fmt: skip
    return recipe.change(system=recipe.system.change(**system), machine=MACHINE, checks=QUIET)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("steppers")
    found = {}
    for kind in ("none", "coefficient"):
        for seed in (0, 1):
            run = runs.train(tiny(condition=kind).change(seed=seed), name=kind, root=root, new=True, quiet=True)
            found[kind, seed] = run
    return found


def test_a_run_without_an_encoder_finishes_reports_and_says_where_it_lies(trained):
    run = trained["none", 0]
    assert run.status == "finished" and run.encoder is None and run.to_plain()["encoder"] is None
    assert run.text().startswith(f"run:     {run.folder}")
    assert "tacit evaluate" in run.report.read_text(encoding="utf-8")


def test_runs_are_compared_on_the_same_trajectories_with_paired_intervals(trained, tmp_path):
    folders = [run.folder for run in trained.values()]
    found = runs.evaluate_runs(folders, count=6, plot=tmp_path / "errors.png")
    assert (tmp_path / "errors.png").stat().st_size > 5000
    rows = {(r.protocol, r.model): r for r in found.table.results}
    assert found.table.models == ["persistence", "unconditioned", "true coefficient"]
    for name in ("one-step NMSE, 8 frames@1", "roll-out NMSE, 16 frames@1"):
        told, free = rows[name, "true coefficient"], rows[name, "unconditioned"]
        assert (told.n, told.seeds, free.seeds) == (6, 2, 2)
        assert told.differences[0].value == pytest.approx(told.value - free.value)
        assert rows[name.replace("@", " over seeds@"), "unconditioned"].n == 6
    kept = read_records(trained["coefficient", 1].folder / "results")
    mine = kept.only(model="true coefficient", protocol="roll-out NMSE, 16 frames@1")
    assert len(mine) == 6 and set(mine.column("seed").to_pylist()) == {1}
    both = [
        np.array(read_records(trained["coefficient", s].folder / "results").only(
            model="true coefficient", protocol="roll-out NMSE, 16 frames@1").column("score").to_pylist())
        for s in (0, 1)
    ]  # fmt: skip
    assert rows["roll-out NMSE, 16 frames@1", "true coefficient"].value == pytest.approx(np.mean(both))
    assert "roll-out NMSE, 16 frames" in trained["none", 0].report.read_text(encoding="utf-8")


def test_one_seed_twice_and_other_data_are_refused(trained):
    a, b = trained["none", 0].folder, trained["coefficient", 0].folder
    with pytest.raises(DataError, match=r"a second run of condition='none' with seed 0: pass one run of each seed"):
        runs.evaluate_runs([a, a], count=2)
    with pytest.raises(
        RecipeError, match=r"holds the system it was trained with: only data and machine can be changed here"
    ):
        runs.evaluate_runs([a], ["system.condition=coefficient"], count=2)
    moved = runs.evaluate_runs([a, b], ["data.world.viscosity=[0.4, 0.5]"], count=2)
    assert moved.table.results[0].value > 0


def test_verbs_for_representations_say_where_to_look(trained):
    with pytest.raises(
        RecipeError, match=r"is a run of system 'time-stepping', which has no representation: `tacit evaluate`"
    ):
        runs.judge(trained["none", 0].folder)
    with pytest.raises(RecipeError, match=r"which has no representation"):
        runs.probe(trained["none", 0].folder, ["data.split=test"])


def test_the_kind_of_system_chooses_the_benchmark(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no run folder: it has no recipe\.yaml"):
        runs.evaluate_runs([tmp_path])
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipes.load("ssl.vicreg_digits")))
    with pytest.raises(
        RecipeError, match=r"system 'joint-embedding' has no benchmark here, .*time-stepping.* have one"
    ):
        runs.evaluate_runs([tmp_path])


class Doubles(nn.Module):
    """Knows that every frame is twice the last one; reads and writes one."""

    history, horizon = 1, 2

    def step(self, history, condition, action):
        last = history[:, :, -1:]
        return torch.cat([2 * last, 4 * last], 2)

    def roll(self, history, windows, condition, action):
        found = []
        for _ in range(windows):
            found.append(self.step(history, condition, action))
            history = found[-1][:, :, -1:]
        return torch.cat(found, 2)


def test_persistence_and_the_truth_have_the_errors_of_the_formula():
    u = torch.randn(3, 2, 1, 8) * 2.0 ** torch.arange(5).reshape(1, 1, -1, 1)
    ours, still = stepping._windows(Doubles(), u, None, None)
    assert ours["roll-out NMSE, 4 frames@1"].max() < 1e-12
    k = np.arange(1, 5)
    np.testing.assert_allclose(still["frames"], np.tile((1 - 0.5**k) ** 2, (3, 1)), rtol=1e-5)
    per_window = np.mean([(1 - 0.5) ** 2, (1 - 0.25) ** 2])
    np.testing.assert_allclose(still["one-step NMSE, 2 frames@1"], per_window, rtol=1e-5)


def test_leaps_are_weighted_as_the_published_validation_visits_them():
    visits = dict.fromkeys(range(7), 0)
    lead, frames = 3, 10
    for begin in range(frames - lead):  # every begin, then strides of the lead from it
        for s in range(begin, frames - lead, lead):
            visits[s] += 1
    assert stepping.pair_weights(frames, lead).tolist() == list(visits.values())
    u = torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(2, 3, 6, 4, 4)

    class Stays:
        def step(self, now, condition, action):
            return now + action.reshape(-1, 1, 1, 1, 1)

    ours, still = stepping._leaps(Stays(), u, None, torch.ones(2, 1))
    assert ours["mean over leads MSE@1"].tolist() == [0, 0]
    np.testing.assert_allclose(still["lead 4 MSE@1"], 3 * 16)
    np.testing.assert_allclose(still["mean over leads MSE@1"], 3 * (1 + 4 + 16) / 3)


def test_a_leaping_stepper_is_trained_and_scored_by_lead(tmp_path):
    world = Spec("world", "smoke", points=16, length=8.0, dt=0.5, frames=8, warmup=2, precision="float32")
    recipe = recipes.load(
        "stepping.navier_stokes",
        [
            "steps=2",
            "batch=2",
            "system.stepper.width=8",
            "system.stepper.levels=[1, 2]",
            "system.condition=coefficient",
            "views.first=2",
        ],
    ).change(data=Spec("source", "pde", world=world, count=4), machine=MACHINE, checks=QUIET)
    run = runs.train(recipe, name="leap", root=tmp_path, quiet=True)
    found = runs.evaluate_runs([run.folder], count=3)
    assert found.table.protocols == [*(f"lead {k} MSE@1" for k in (1, 2, 4)), "mean over leads MSE@1"]
    with pytest.raises(DataError, match="steppers that leap are scored by lead"):
        found.plot(tmp_path / "x.png")
