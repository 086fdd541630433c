"""Own trajectories: windows, facts, and one sentence for everything that can be wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.protocols import Source, Views
from tacit.core.spec import Spec


def episode(path, t=12, a=3, seed=0, last=False, **more):
    rng = np.random.default_rng(seed)
    given = {
        "frames": rng.integers(0, 256, (t, 9, 10, 2), dtype=np.uint8),
        "actions": rng.normal(size=(t if last else t - 1, a)),
        "position": rng.normal(size=(t, 2)),
        **more,
    }
    path.parent.mkdir(exist_ok=True, parents=True)
    np.savez(path, **given)
    return given


def build(path, **settings):
    return Spec("source", "trajectories", path=str(path), **{"frames": 5, **settings}).build()


def test_clips_are_windows_of_the_episodes(tmp_path):
    first = episode(tmp_path / "train" / "a.npz")
    second = episode(tmp_path / "train" / "b.npz", t=5, seed=1, last=True)
    source = build(tmp_path)
    assert isinstance(source, Source) and len(source) == 3
    batch = source.read([1, 2])
    assert torch.equal(batch.views["image"].data[0], torch.from_numpy(first["frames"][5:10]).permute(3, 0, 1, 2))
    torch.testing.assert_close(batch.action[0], torch.from_numpy(first["actions"][5:10]).float())
    torch.testing.assert_close(batch.action[1], torch.from_numpy(second["actions"]).float())
    torch.testing.assert_close(batch.facts["position"][1], torch.from_numpy(second["position"]).float())
    assert source.facts.action_dim == 3 and source.facts.shape == (5, 9, 10) and source.facts.factors == ("position",)
    assert len(build(tmp_path, stride=1)) == 8 + 1
    assert build(tmp_path, stride=1).digest() != source.digest()


def test_a_missing_last_action_is_zero(tmp_path):
    episode(tmp_path / "train" / "a.npz", t=5)
    assert (build(tmp_path).read([0]).action[0, -1] == 0).all()


def test_views_standardise(tmp_path):
    episode(tmp_path / "train" / "a.npz", t=200)
    source = build(tmp_path)
    views = Spec("views", "trajectories").build(source.facts)
    assert isinstance(views, Views)
    x = views.plain(source.read(range(len(source)))).views["image"].data
    torch.testing.assert_close(x.mean((0, 2, 3, 4)), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3, 4)), torch.ones(2), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"t": 4}, "{0}: the episode has 4 frames, a clip has 5: lower data.frames or leave the episode out"),
        ({"actions": np.zeros((7, 3))}, "{0}: 12 frames need 11 actions (or 12, the last unused), found 7"),
        ({"actions": np.full((12, 3), np.inf)}, "{0}: actions must be finite, found 36 numbers that are not"),
        ({"frames": np.zeros((12, 9, 10, 2))}, "{0}: frames must be uint8, found float64"),
        (
            {"frames": np.zeros((12, 9, 10), np.uint8)},
            "{0}: an episode needs frames [t h w c] and actions [t a]; frames: found [12, 9, 10]",
        ),
        ({"a": 2}, "{0}: its actions have the shape [2], those of a.npz [3]: all episodes need the same"),
    ],
)
def test_bad_episodes_are_refused(tmp_path, more, sentence):
    episode(tmp_path / "train" / "a.npz")
    bad = tmp_path / "train" / "b.npz"
    episode(bad, **more)
    with pytest.raises(DataError) as caught:
        build(tmp_path)
    assert str(caught.value) == sentence.format(bad)


def test_missing_splits_are_named(tmp_path):
    episode(tmp_path / "train" / "a.npz")
    with pytest.raises(DataError) as caught:
        build(tmp_path, split="test")
    assert str(caught.value) == f"{tmp_path / 'test'} holds no episodes (.npz); {tmp_path} has train"
    with pytest.raises(DataError) as caught:
        build(tmp_path).read([2])
    assert str(caught.value) == "clips are numbered from 0 to 1, found 2 to 2"
