"""Windows of trajectories: the right frames, every start, the published law of pairs, the step as the action."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

FACTS = Facts(channels=1, shape=(12, 8))


def batch(n=4, t=12, x=8):
    u = torch.arange(t, dtype=torch.float32).reshape(1, 1, t, 1).expand(n, 1, t, x).clone()
    time = torch.arange(t).double().expand(n, -1) * torch.arange(1, n + 1).unsqueeze(1)
    axis = torch.arange(x).double().expand(n, -1) / 4
    return Batch({"image": View(u)}, torch.arange(n), facts={"time": time, "x": axis})


def test_a_window_holds_neighbouring_frames_from_its_start_and_the_steps_are_its_action():
    views = Spec("views", "windows", history=2, horizon=3, windows=2, first=1).build(FACTS)
    made = views(batch(), 0, 5)
    window, start = made.views["window"].data, made.views["window"].how["start"]
    assert window.shape == (4, 1, 8, 8) and views.facts.shape == (8, 8) and views.facts.action_dim == 2
    assert torch.equal(window[:, 0, :, 0], (start.unsqueeze(1) + torch.arange(8)).float())
    torch.testing.assert_close(made.action, torch.tensor([[1, 0.25], [2, 0.25], [3, 0.25], [4, 0.25]]))
    again = views(batch(), 0, 5)
    assert torch.equal(again.views["window"].data, window)


def test_every_start_that_fits_is_drawn_and_no_other():
    views = Spec("views", "windows", history=2, horizon=2, first=1, every=3).build(FACTS)
    starts = {int(s) for epoch in range(40) for s in views(batch(), 0, epoch).views["window"].how["start"]}
    assert starts == {1, 4, 7}


def test_the_plain_view_is_all_frames_after_the_context():
    context = Spec("views", "lie-line", equation="burgers", crop=(5, 0))
    views = Spec("views", "windows", history=2, horizon=2, first=5, context=context).build(FACTS)
    plain = views.plain(batch())
    assert plain.views["image"].data[0, 0, :, 0].tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert plain.views["context"].data.shape == (4, 3, 5, 8)
    assert plain.views["context"].data[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(views(batch(), 3, 1).views["context"].data, plain.views["context"].data)


def test_pairs_follow_the_published_law():
    views = Spec("views", "lead-times", first=4).build(
        FACTS
    )  # eight frames: j in 1..7, i < j with probability ~ 1 / (i + 1)
    many = batch(n=4000)
    view = views(many, 0, 0).views["window"]
    i, lead = view.how["start"] - 4, view.how["lead"]
    j = i + lead
    assert torch.equal(view.data[:, 0, :, 0], torch.stack([i + 4, j + 4], 1).float())
    assert set(j.tolist()) == set(range(1, 8)) and int(lead.min()) >= 1 and int(i.min()) == 0
    expected = {}
    for b in range(1, 8):
        total = sum(1 / (k + 1) for k in range(b))
        for a in range(b):
            expected[a, b] = 4000 / 7 / (a + 1) / total
    found = dict.fromkeys(expected, 0)
    for pair in zip(i.tolist(), j.tolist(), strict=True):
        found[pair] += 1
    chi2 = sum((found[p] - e) ** 2 / e for p, e in expected.items())
    assert chi2 < 27 + 4 * (2 * 27) ** 0.5  # 28 cells


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="a window of 13 frames from frame 0 on does not fit 12 frames"):
        Spec("views", "windows", history=3, horizon=10).build(FACTS)
    with pytest.raises(DataError, match="a pair needs two frames from frame 11 on, found 12 frames"):
        Spec("views", "lead-times", first=11).build(FACTS)
    with pytest.raises(DataError, match=r"windows need trajectories of one size"):
        Spec("views", "windows").build(Facts(channels=1))
    views = Spec("views", "windows", history=2, horizon=2).build(FACTS)
    given = batch()
    with pytest.raises(DataError, match=r"windows need the coordinate 'x' \[n 8\] among the facts of the batch"):
        views(Batch(given.views, given.ids, facts={"time": given.facts["time"]}), 0, 0)
