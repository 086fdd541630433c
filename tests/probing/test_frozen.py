"""Protocols of frozen evaluation: names read back equal, published numbers, recall and the focal loss in closed form, the grid's rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tacit.core.errors import UnknownNameError
from tacit.models.token_store import TokenStore
from tacit.probing.frozen import frozen, is_frozen
from tacit.probing.frozen_heads import class_mean_recall, fit_heads, focal_loss

NAMES = (
    "vjepa/16x8x3,step=4@1", "vjepa2/16x2x3,step=4@1", "vjepa2/64x2x3,step=2,best@1", "vjepa2/32x4x3,step=2,taps@1", "vjepa/image-16@1",
    "vjepa2/image-18,streamed@1", "vjepa2/anticipation,start@1", "vjepa2/anticipation,official,streamed,best,epochs=3,batch=7@1",
    "vjepa2/16x1x1,fps=4@1",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_read_back_equal(name):
    assert frozen(name).name == name and frozen(name.removesuffix("@1")) == frozen(name) and is_frozen(name)


def test_the_published_heads_and_schedules():
    video, taps, image, old = map(
        frozen, ("vjepa2/16x2x3,step=4", "vjepa2/32x4x3,step=2,taps", "vjepa2/image-16", "vjepa/16x8x3,step=4")
    )
    assert [len(how.pairs) for how in (video, taps, image, old)] == [20, 3, 21, 1]
    assert (video.depth, old.depth, taps.epochs, image.batch, frozen("vjepa2/anticipation,start").frames) == (
        4,
        1,
        100,
        1024,
        32,
    )
    assert (
        video.rates(0.0)[0] == 5e-3
        and video.rates(1.0) == pytest.approx([0.0] * 20)
        and video.decays(0.7)[:4] == [0.8, 0.4, 0.1, 0.01]
    )
    assert (
        old.decays(0.0) == [0.01]
        and old.decays(1.0) == pytest.approx([1e-6])
        and old.clip == 1.0
        and video.clip is None
    )
    assert image.rates(0.0) == [2e-4] * 21 and image.rates(0.25)[-1] == pytest.approx(1e-3)  # 5 of 20 epochs of warm-up
    assert image.decays(1.0)[-1] == 0 and image.decays(1.0)[:-1] == image.decays(0.0)[:-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vjepa2/16x2", "no protocol named 'vjepa2/16x2'. Known forms: vjepa/16x8x3"),
        ("vjepa2/16x2x3,stp=4", "'stp=4' says nothing here"),
        ("vjepa2/16x2x2", "2 views; there may be 1 or 3"),
        ("vjepa2/16x2x3,step=4,fps=4", "step and fps both say how far apart frames are"),
        ("vjepa/anticipation", "anticipation is V-JEPA 2's"),
        ("vjepa2/16x2x3@2", "no protocol named"),
    ],
)
def test_what_is_no_protocol_is_refused(name, said):
    with pytest.raises(UnknownNameError) as caught:
        frozen(name)
    assert said in str(caught.value)


def test_focal_loss_without_focus_is_the_summed_cross_entropy(rng):
    logits, labels = torch.randn(2, 5, 4, generator=rng), torch.tensor([0, 3, 1, 1, 2])
    wanted = F.one_hot(labels, 4).float()
    plain = [F.binary_cross_entropy_with_logits(one, wanted, reduction="sum") for one in logits]
    torch.testing.assert_close(focal_loss(logits, labels, alpha=-1.0, gamma=0.0), torch.stack(plain))
    right = torch.full((1, 1, 2), 20.0) * torch.tensor([1.0, -1.0])
    assert focal_loss(right, torch.tensor([0])) < 1e-6  # a sure and right head costs nothing
    torch.testing.assert_close(
        focal_loss(torch.zeros(1, 1, 2), torch.tensor([0])), torch.tensor([0.25 * np.log(2)]).float()
    )


def test_recall_counts_classes_alike():
    scores = torch.eye(8)[[0, 0, 0, 1, 2]] + torch.linspace(0.5, 0.1, 8)  # everything else is ordered by class number
    labels = torch.tensor([0, 0, 7, 1, 7])
    value, hit = class_mean_recall(scores, labels, k=2)
    assert hit.tolist() == [True, True, False, True, False] and value == pytest.approx(2 / 3)
    assert class_mean_recall(scores[:, :5], torch.tensor([4, 3, 2, 1, 0]))[0] == 1.0  # no more classes than k


def test_a_head_learns_what_one_token_tells_and_only_from_its_rows():
    draw = torch.Generator().manual_seed(0)
    x, y = 0.1 * torch.randn(90, 5, 16, generator=draw), torch.randint(0, 3, (90,), generator=draw)
    at = torch.randint(0, 5, (90,), generator=draw)
    x[torch.arange(90), at, 0] += 3.0
    x[torch.arange(90), at, 1 + y] += 2.0
    asked = set()

    def of(_, rows):
        asked.update(rows.tolist())
        return x[torch.from_numpy(rows)], y[torch.from_numpy(rows)]

    how, pairs = frozen("vjepa2/16x1x1,epochs=20,batch=10"), ((5e-3, 0.01),)
    grid = fit_heads(of, np.arange(60), 3, 16, how, heads=2, pairs=pairs)
    assert asked == set(range(60)) and grid.correct(x[60:], y[60:]).mean() > 0.9
    short = frozen("vjepa2/16x1x1,epochs=1,batch=30")
    one, again = (fit_heads(of, np.arange(60), 3, 16, short, heads=2, pairs=pairs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.stacked, again.stacked, strict=True))


def test_kept_tokens_come_back_by_rows_and_half_a_store_is_none(tmp_path):
    x = torch.randn(7, 3, 4)
    store = TokenStore.written(tmp_path / "s", 7, iter(x.split(3)))
    assert torch.equal(store.rows(np.array([5, 1])), x[[5, 1]].half().float())
    assert TokenStore.opened(tmp_path / "s", 7) is not None and TokenStore.opened(tmp_path / "s", 8) is None
    (tmp_path / "s" / "tokens.npy").write_bytes((tmp_path / "s" / "tokens.npy").read_bytes()[:100])
    assert TokenStore.opened(tmp_path / "s", 7) is None
