"""Planning with a run: table, files, and refusals. The model is untrained; what is tested is the wiring."""

from __future__ import annotations

import json

import pytest
import torch

from tacit import recipes
from tacit.core.errors import DataError, RecipeError, UnknownNameError
from tacit.core.recipe import Checks, Machine
from tacit.core.spec import Spec
from tacit.planning import goal_energy
from tacit.probing import read_records
from tacit.runs import ensembles, planning, train
from tacit.runs.build import build
from tacit.training.runtime import narrowed
from tacit.worlds.rooms import Rooms, path_length, published_tasks, random_tasks
from tacit.worlds.rooms.draws import keys

QUICK = ["steps=12", "horizon=4", "execute=4", "planner.samples=8", "planner.elites=3", "planner.iterations=2"]


def tiny():
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
    return recipe.change(
        steps=2,
        batch=16,
        checks=Checks(log_every=1, judge_every=0, save_every=0),
        machine=Machine(device="cpu", threads=1, trackers=()),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tiny(), root=tmp_path_factory.mktemp("runs"), name="rooms", quiet=True).folder


def test_a_plan_leaves_table_strip_film_and_landscape(run):
    planned = planning.plan(run, "rooms", QUICK, episodes=3, seed=1)
    names = [
        "learned model",
        "true dynamics, straight distance",
        "true dynamics, path length",
        "still",
        "random",
        "straight",
        "oracle",
    ]
    assert list(planned.outcomes) == names
    for file in ("filmstrip.png", "episodes.gif", "landscape.png", "plan.json"):
        assert (planned.folder / file).stat().st_size > 500
    records = read_records(planned.folder)
    assert len(records) == 7 * 3 * 3
    for name in names:
        for criterion, rate in planned.rates[name].items():
            own = [r.correct for r in records if r.model == name and r.protocol.startswith(f"{criterion},")]
            assert sum(own) / 3 == rate.value
    told = json.loads((planned.folder / "plan.json").read_text())
    assert told["success"]["still"]["pldm"]["value"] == 0 and told["settings"]["horizon"] == 4
    text = planned.text()
    assert "3 episodes of 12 steps" in text and all(name in text for name in names)


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others(run, tmp_path):
    paths = [
        planning.plan(run, "rooms", QUICK, episodes=2, seed=s, references=False, out=tmp_path / str(i))
        .outcomes["learned model"]
        .path
        for i, s in enumerate((3, 3, 4))
    ]
    assert torch.equal(paths[0], paths[1]) and not torch.equal(paths[0], paths[2])


def test_the_published_tasks_are_played_on_request(run, tmp_path):
    settings = [*QUICK, "tasks=eb-jepa", "layout=random"]
    planned = planning.plan(run, "rooms", settings, episodes=2, references=False, pictures=False, out=tmp_path)
    told = published_tasks(2)
    assert torch.equal(planned.tasks.goal, told.goal)
    assert torch.equal(planned.outcomes["learned model"].path[:, 0], told.start)
    assert read_records(tmp_path)[0].benchmark == "rooms-random-medium-bounce-eb-jepa-tasks@1"
    fixed = planning.plan(run, "rooms", [*QUICK, "tasks=eb-jepa"], episodes=2, references=False, pictures=False)
    assert fixed.tasks.layouts.wall.tolist() == [32, 32] and fixed.tasks.layouts.door.tolist() == [18, 18]
    assert fixed.folder.name == "rooms-eb-jepa-eb-jepa-tasks-icem-n2-seed0"
    with pytest.raises(RecipeError) as caught:
        planning.read_settings(["tasks=eb-jepa", "level=easy"])
    assert (
        str(caught.value) == "tasks: EB-JEPA evaluates at level 'medium', asked for 'easy': leave level out, or tasks"
    )


def test_plans_in_bf16_cost_nearly_what_they_cost_in_fp32(run, tmp_path):
    built, device = build(tiny()), torch.device("cpu")
    state, goal, actions = torch.randn(3, 8), torch.randn(3, 8), torch.randn(12, 4, 2)
    costs = [
        goal_energy(narrowed(built.system.imagine, device, name), state, goal)(actions) for name in ("fp32", "bf16")
    ]
    assert torch.equal(costs[0], goal_energy(built.system.imagine, state, goal)(actions))
    assert costs[1].dtype == torch.float32 and not torch.equal(*costs)
    torch.testing.assert_close(*costs, rtol=0.02, atol=0.02)
    found = [
        planning.plan(
            run,
            "rooms",
            ["planner=mppi", *QUICK, f"precision={name}"],
            episodes=2,
            references=False,
            out=tmp_path / name,
        )
        .outcomes["learned model"]
        .path
        for name in ("fp32", "bf16")
    ]
    first = [path[:, :5] for path in found]  # later plans begin elsewhere
    assert not torch.equal(*found)
    torch.testing.assert_close(*first, rtol=0, atol=0.5)


def test_the_true_cost_is_the_squared_distance_after_the_plan():
    tasks = random_tasks(keys(torch.arange(4), 0, "cost"))
    worlds, still = Rooms(tasks), torch.zeros(8, 3, 2)
    straight = planning.true_cost(worlds)(still)
    torch.testing.assert_close(straight, (tasks.start - tasks.goal).square().mean(1).repeat_interleave(2))
    way = planning.true_cost(worlds, path_length)(still)
    assert (way >= 2 * straight - 1e-3).all()  # the way through the door is never shorter


def test_settings_are_read_with_their_faults():
    settings = planning.read_settings(["planner=cem", "planner.samples=50", "horizon=90", "over=last"])
    assert (
        settings.planner == Spec("planner", "cem", samples=50).resolve()
        and settings.horizon == 90
        and settings.over == "last"
    )
    with pytest.raises(RecipeError) as caught:
        planning.read_settings(["planner.sample=50", "horizont=9", "bound=9", "execute"])
    assert caught.value.faults == (
        "'execute': a setting reads path=value, for example planner.samples=200",
        "horizont: the section 'plansettings' has no setting 'horizont'. Did you mean 'horizon'?",
        "planner.sample: planner 'icem' has no setting 'sample'. Did you mean 'samples'?",
        "bound: input should be less than or equal to 5.6, found 9",
    )
    with pytest.raises(RecipeError) as caught:
        planning.read_settings(["over=[last"])
    assert (
        str(caught.value) == "over: '[last' cannot be read as a value; put quotes around text with special characters"
    )
    with pytest.raises(RecipeError) as caught:
        planning.read_settings(["horizon=3", "execute=5"])
    assert str(caught.value) == "execute: 5 actions of a plan of horizon=3 cannot be carried out: lower execute"


def test_two_levels_and_an_ensemble_on_request(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ensembles, "_CLIPS", 32)
    small = {"samples": 8, "elites": 3, "iterations": 1}
    levels = [f"planner.{level}.{name}={value}" for level in ("high", "low") for name, value in small.items()]
    settings = ["steps=4", "horizon=4", "execute=4", "planner=hierarchical", "planner.hold=2", *levels, "ensemble=2"]
    fitted = []
    fit = ensembles.fit_ensemble
    monkeypatch.setattr(planning, "fit_ensemble", lambda *a, **k: fitted.append(fit(*a, steps=2, **k)) or fitted[-1])
    planned = planning.plan(run, "rooms", settings, episodes=2, references=False, out=tmp_path)
    assert planned.outcomes["learned model"].path.shape == (2, 5, 2) and "planner hierarchical" in planned.text()
    one, two = fitted[0]
    pairs = zip(one.predictor.parameters(), two.predictor.parameters(), strict=True)
    assert any(not torch.equal(p, q) for p, q in pairs) and one.encoder is not two.encoder
    with pytest.raises(RecipeError) as alone:
        planning.read_settings(["ensemble=1"])
    assert str(alone.value) == "ensemble: one predictor cannot disagree: set ensemble to 2 or more, or to 0"


def test_models_that_cannot_plan_here_are_refused(run):
    with pytest.raises(UnknownNameError) as world:
        planning.plan(run, "room")
    assert str(world.value).startswith("no environment named 'room'. Did you mean 'rooms'? Known: ")
    joint = build(recipes.load("ssl.vicreg_digits"))
    with pytest.raises(RecipeError) as system:
        planning.check_model(joint)
    assert str(system.value) == (
        "system 'joint-embedding' predicts no actions: planning needs one that imagines, for example 'world-model'"
    )
    built = build(tiny())
    built.source.facts = type(built.source.facts)(channels=2, shape=(5, 65, 65), action_dim=3)
    with pytest.raises(DataError) as width:
        planning.check_model(built)
    assert str(width.value) == "world 'rooms' takes actions of 2 numbers, this model was trained on actions of 3"


def test_a_model_that_imagines_no_numbers_is_named(run, tmp_path):
    from tacit.core.errors import RunError
    from tacit.runs.build import restore

    built = restore(run)
    with torch.no_grad():
        built.system.predictor.rnn.weight_hh_l0.fill_(float("nan"))
    tasks = random_tasks(keys(torch.arange(2), 0, "nan"))
    with pytest.raises(RunError) as caught:
        planning.play_model(built, tasks, planning.read_settings(QUICK))
    assert str(caught.value) == (
        "planning found no finite cost for 2 of 2 problems: look at the energy for NaN, or narrow the bounds"
    )
