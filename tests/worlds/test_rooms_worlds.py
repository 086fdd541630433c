"""Two Rooms: tasks, data, episodes, the vectorised world."""

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.laws.source import check_source
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.worlds.rooms import (
    Rooms,
    Tasks,
    baselines,
    draw,
    normalise,
    oracle,
    play,
    published_tasks,
    random_layouts,
    random_tasks,
    stay_put,
    walks,
)
from tacit.worlds.rooms.draws import keys
from tacit.worlds.rooms.layouts import fixed_layouts
from tacit.worlds.rooms.source import RoomClips
from tacit.worlds.rooms.trajectories import Policy, _crossing


@pytest.fixture(scope="module")
def made():
    return walks(keys(torch.arange(3000), 0, "statistics"))


def test_generator_has_the_statistics_of_the_reference(made):
    """Published: norm 0.998 and 0.353, cosine 0.893, 72 % of the steps move (80 and 67 in the outer thirds), 28 % visit both sides,
    24 % end on the other. Tolerances are about three standard errors of 3000 trajectories."""
    norm = made.actions.norm(dim=-1)
    assert norm.mean().item() == pytest.approx(1.0, abs=0.004)
    assert norm.std().item() == pytest.approx(0.352, abs=0.003)
    angle = torch.atan2(made.actions[..., 1], made.actions[..., 0])
    assert (angle[:, 1:] - angle[:, :-1]).cos().mean().item() == pytest.approx(0.893, abs=0.003)
    moves = (made.positions[:, 1:] != made.positions[:, :-1]).any(-1).double()
    assert moves.mean().item() == pytest.approx(0.725, abs=0.025)
    assert moves[:, :30].mean().item() == pytest.approx(0.81, abs=0.025)
    assert moves[:, 60:].mean().item() == pytest.approx(0.67, abs=0.025)
    left = made.positions[..., 0] < made.layouts.wall.unsqueeze(-1)
    assert (left.any(1) & ~left.all(1)).double().mean().item() == pytest.approx(0.28, abs=0.025)
    assert (left[:, 0] != left[:, -1]).double().mean().item() == pytest.approx(0.24, abs=0.025)
    assert made.crossing.double().mean().item() == pytest.approx(0.35, abs=0.03)


def test_walks_follow_the_dynamics_and_never_start_in_the_wall(made):
    assert not made.layouts.in_wall(made.positions[:, 0]).any()
    for i in (0, 40, 89):
        step = stay_put(made.positions[:, i], made.actions[:, i], made.layouts)
        assert torch.equal(step, made.positions[:, i + 1])


def test_crossing_walks_pass_a_point_in_the_doorway():
    """Without walls the sum of the actions leads every start that the clamp left alone through the doorway, in either direction."""
    k = keys(torch.arange(400), 0, "crossing")
    layouts = random_layouts(k)
    start, actions = _crossing(k, layouts, Policy())
    free = torch.cat([start.unsqueeze(1), start.unsqueeze(1) + actions.cumsum(1)], 1)
    inside = ((start > 4.0101) & (start < 59.9899)).all(-1)
    at_door = ((free[..., 0] - layouts.wall[:, None]).abs() <= 1 + 1e-9) & (
        (free[..., 1] - layouts.door[:, None]).abs() <= 4 + 1e-9
    )
    assert inside.sum() > 200
    assert at_door.any(1)[inside].all()
    rightward = (actions.sum(1)[:, 0] > 0).double().mean().item()
    assert rightward == pytest.approx(0.5, abs=0.1)
    norm = actions.norm(dim=-1)
    assert (norm.min() >= 0.2 - 1e-9) and (norm.max() <= 1.8 + 1e-9)


def test_large_turns_make_directions_uniform():
    made = walks(keys(torch.arange(500), 0, "random"), Policy(crossing=0, turn=1e9))
    angle = torch.atan2(made.actions[..., 1], made.actions[..., 0])
    assert abs((angle[:, 1:] - angle[:, :-1]).cos().mean().item()) < 0.02


def test_start_and_goal_lie_in_different_rooms_away_from_walls():
    tasks = random_tasks(keys(torch.arange(2000), 0, "tasks"))
    for place in (tasks.start, tasks.goal):
        assert (place >= 6.6 - 1e-4).all()
        assert (place <= 57.4 + 1e-4).all()
        assert ((place[:, 0] - tasks.layouts.wall).abs() >= 1 + 2.6 - 1e-4).all()
    left = tasks.start[:, 0] < tasks.layouts.wall
    assert (left != (tasks.goal[:, 0] < tasks.layouts.wall)).all()
    assert left.double().mean().item() == pytest.approx(0.5, abs=0.05)
    easy = random_tasks(keys(torch.arange(500), 0, "tasks"), "easy")
    for place in (easy.start, easy.goal):
        gap = (place[:, 0] - easy.layouts.wall).abs() - 1
        assert gap.min() >= 5 - 1e-4
        assert gap.max() <= 13 + 1e-4
        assert ((place[:, 1] - easy.layouts.door).abs() <= 13 + 1e-4).all()


def test_published_tasks_take_numpys_draws_in_the_published_order():
    rng = np.random.default_rng(0)
    codes = [(w, d) for w in range(20, 45) for d in range(10, 55) for _ in "vh"]
    expected = []
    for _ in range(4):
        wall, door = codes[rng.choice(len(codes))]
        x0 = 6.6 + rng.random() * (wall - 1 - 2.6 - 6.6)
        x1 = wall + 1 + 2.6 + rng.random() * (57.4 - (wall + 1 + 2.6))
        y0, y1 = (6.6 + rng.random() * (57.4 - 6.6) for _ in range(2))
        if rng.random() < 0.5:
            x0, x1 = x1, x0
        expected.append([wall, door, x0, y0, x1, y1])
    tasks = published_tasks(3)
    found = torch.cat([tasks.layouts.wall[:, None], tasks.layouts.door[:, None], tasks.start, tasks.goal], 1)
    torch.testing.assert_close(found, torch.tensor(expected[1:], dtype=torch.float32))
    rng = np.random.default_rng(0)
    walls = published_tasks(1, layouts=fixed_layouts(1), skip=0)
    x0, x1 = 6.6 + rng.random() * (31 - 2.6 - 6.6), 33 + 2.6 + rng.random() * (57.4 - 35.6)
    assert (walls.layouts.wall, walls.layouts.door) == (32, 18)
    torch.testing.assert_close(walls.start[0, 0] + walls.goal[0, 0], torch.tensor(x0 + x1).float())
    with pytest.raises(DataError, match=r"whose seeds begin at 0, found seed -1$"):
        published_tasks(3, seed=-1)


def test_a_world_is_the_same_alone_and_among_others():
    tasks = random_tasks(keys(torch.arange(64), 0, "alone"))
    action = 4.8 * torch.rand(40, 64, 2, generator=torch.Generator().manual_seed(0)) - 2.4
    together = Rooms(tasks)
    rows = [Rooms(Tasks(tasks.layouts[i : i + 1], tasks.start[i : i + 1], tasks.goal[i : i + 1], tasks.keys[i : i + 1]))
            for i in (0, 17, 63)]  # fmt: skip
    for step in action:
        together.step(step)
        for i, one in zip((0, 17, 63), rows, strict=True):
            assert torch.equal(one.step(step[i : i + 1])[0], together.position[i])
    assert torch.equal(together.picture(), draw(together.position, tasks.layouts))


def test_baselines_are_those_of_the_reference():
    tasks = random_tasks(keys(torch.arange(400), 0, "baselines"))
    cards = baselines(tasks)
    assert cards["still"].success.value == 0
    assert cards["random"].success.value < 0.02
    assert cards["straight"].success.value == pytest.approx(0.38, abs=0.08)
    assert cards["oracle"].success.value == 1
    assert cards["oracle"].success.low > 0.98
    assert str(cards["oracle"]) == (
        "oracle: 100.0 % (95 % interval 99.0 to 100.0), 400 episodes of 200 steps, criterion eb-jepa"
    )


def test_criteria_differ_where_they_should():
    """An agent that touches the goal and leaves succeeds under one criterion and fails under the other."""
    tasks = random_tasks(keys(torch.arange(50), 0, "criteria"))

    def touch_and_leave(worlds):
        now = worlds.tasks
        target = torch.where(worlds.reached.unsqueeze(-1), now.start, now.goal)
        return oracle(worlds.position, target, now.layouts, now.keys, worlds.steps)

    outcome = play(tasks, touch_and_leave, steps=200)
    assert outcome.success("pldm").all()
    assert not outcome.success("eb-jepa").any()
    with pytest.raises(UnknownNameError, match=r"no criterion named 'ebjepa'. Did you mean 'eb-jepa'"):
        outcome.success("ebjepa")


def test_source_obeys_its_laws_and_its_clips_their_dynamics():
    source = Spec("source", "rooms", count=50, frames=9).build()
    check_source(source)
    batch = source.read([3, 49, 7])
    x, a, where = batch.views["image"].data, batch.action, batch.facts["position"]
    assert x.shape == (3, 2, 9, 65, 65)
    assert a.shape == (3, 9, 2)
    assert source.facts.action_dim == 2
    layouts = fixed_layouts(3)
    layouts = type(layouts)(batch.facts["wall"], batch.facts["door"])
    for t in range(8):
        assert torch.equal(stay_put(where[:, t], a[:, t], layouts), where[:, t + 1])
    assert torch.equal(x.transpose(1, 2), draw(where, layouts))
    assert torch.equal(source.read([7]).action[0], a[2])


def test_views_normalise_every_frame_by_itself_and_keep_the_rest():
    source = RoomClips(count=4, frames=5)
    views = Spec("views", "rooms").build(source.facts)
    batch = source.read([0, 3])
    seen = views(batch, 0, 0)
    x = seen.views["image"].data
    assert x.shape == batch.views["image"].data.shape
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[1, :, 2], normalise(batch.views["image"].data[1, :, 2]))
    assert seen.action is batch.action
    assert seen.facts is batch.facts
    frame = Batch({"image": View(batch.views["image"].data[:, :, 0])}, batch.ids)
    torch.testing.assert_close(views.plain(frame).views["image"].data, x[:, :, 0])
    with pytest.raises(DataError, match=r"the data have 3 channels: take the source 'rooms'"):
        Spec("views", "rooms").build(Facts(channels=3))
    with pytest.raises(DataError, match=r"views 'rooms' need pictures of one size"):
        views.plain(Batch({"image": View([torch.zeros(2, 65, 65)])}, torch.tensor([0])))


def test_splits_and_layouts_of_a_source():
    train, valid = RoomClips(count=5), RoomClips(count=5, split="valid")
    assert train.digest() != valid.digest()
    assert not torch.equal(train.read([0]).action, valid.read([0]).action)
    fixed = RoomClips(count=5, layout="pldm", rule="bounce", frames=90).read([0, 1])
    assert fixed.facts["wall"].tolist() == [32, 32]
    assert fixed.facts["door"].tolist() == [10, 10]
    assert (fixed.facts["position"] > 4).all()
    with pytest.raises(UnknownNameError, match=r"no split named 'tset'. Did you mean 'test'"):
        RoomClips(split="tset")
    with pytest.raises(DataError, match=r"sample 5 does not exist: there are 5, from 0 to 4"):
        train.read([5])


def test_fresh_clips_are_new_in_every_epoch_and_those_of_a_longer_source():
    fresh, recorded, longer = RoomClips(count=3, fresh=True), RoomClips(count=3), RoomClips(count=9)
    for epoch in range(3):
        found, wanted = fresh.at(5, epoch).read([0, 2]), longer.read([3 * epoch, 3 * epoch + 2])
        assert torch.equal(found.views["image"].data, wanted.views["image"].data)
        assert torch.equal(found.action, wanted.action) and found.ids.tolist() == [0, 2]
    assert recorded.at(5, 2) is recorded and fresh.at(5, 0) is fresh


def test_bad_tasks_and_actions_are_refused():
    layouts, key = fixed_layouts(1), torch.tensor([0])

    def begin(start, goal):
        return Rooms(Tasks(layouts, torch.tensor([start]), torch.tensor([goal]), key))

    with pytest.raises(DataError, match=r"the goal equals the start \[\[10.0, 10.0\]\]: there is nothing to plan"):
        begin([10.0, 10.0], [10.0, 10.0])
    with pytest.raises(DataError, match=r"the start \[\[32.0, 40.0\]\] must lie inside the rooms: between 4 and 60"):
        begin([32.0, 40.0], [10.0, 10.0])
    with pytest.raises(DataError, match=r"the goal needs finite coordinates"):
        begin([10.0, 10.0], [float("nan"), 10.0])
    worlds = begin([10.0, 10.0], [50.0, 10.0])
    with pytest.raises(DataError, match=r"1 worlds need actions \[1, 2\], found \[1, 3\]"):
        worlds.step(torch.zeros(1, 3))
    with pytest.raises(DataError, match=r"the actions of these episodes were not all finite numbers"):
        play(worlds.tasks, lambda worlds: worlds.position * float("nan"), steps=2)
