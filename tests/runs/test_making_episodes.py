"""Random episodes of an environment on disk: what is written is what was done, and the same call goes on."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.runs.making_episodes import make_episodes

gymnasium = pytest.importorskip("gymnasium")


class Walk(gymnasium.Env):
    """A point that goes where its actions say; `shown` of it as numbers or as a picture."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, shown="state"):
        self.shown = shown
        self.observation_space = gymnasium.spaces.Box(-99, 99, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._seen(), {}

    def _seen(self):
        if self.shown == "picture":
            return np.full((4, 4, 3), int(abs(self.at[0]) * 50) % 256, np.uint8)
        return self.at * np.float32(np.nan) if self.shown == "nan" else self.at.copy()

    def step(self, action):
        self.at = self.at + action
        return self._seen(), 0.0, False, False, {}


if "tacit-test/Walk-v0" not in gymnasium.registry:
    gymnasium.register("tacit-test/Walk-v0", entry_point=Walk, max_episode_steps=6, disable_env_checker=True)


def test_what_is_written_is_what_was_done(tmp_path):
    made = make_episodes("tacit-test/Walk-v0", tmp_path, ["hold=3"], count=4)
    make_episodes("tacit-test/Walk-v0", tmp_path, ["hold=3"], count=2, split="test")
    assert (made.transitions, made.kept) == (24, 0)
    source = Spec("source", "trajectory-parquet", path=str(tmp_path), frames=7).build()
    batch = source.read(range(4))
    states, actions = batch.views["image"].data[:, :, :, 0, 0].transpose(1, 2), batch.action
    np.testing.assert_allclose(states[:, 1:], states[:, :-1] + actions[:, :6], rtol=1e-6)
    np.testing.assert_array_equal(actions[:, 0], actions[:, 2])  # held for three steps
    assert not (actions[:, 2] == actions[:, 3]).any()
    assert not np.allclose(states[0], states[1])


def test_the_same_call_goes_on_and_more_episodes_change_none(tmp_path):
    few = make_episodes("tacit-test/Walk-v0", tmp_path / "a", ["steps=3"], count=50)
    again = make_episodes("tacit-test/Walk-v0", tmp_path / "a", ["steps=3"], count=52)
    assert (few.kept, again.kept, again.transitions) == (0, 50, 156)
    make_episodes("tacit-test/Walk-v0", tmp_path / "b", ["steps=3"], count=52)
    a, b = ([pq.read_table(file) for file in sorted((tmp_path / name / "train").glob("*.parquet"))] for name in "ab")
    assert len(a) == len(b) == 2 and all(x.equals(y) for x, y in zip(a, b, strict=True))
    make_episodes("tacit-test/Walk-v0", tmp_path / "a", ["steps=3"], count=53)  # the file of 2 becomes one of 3
    assert len(list((tmp_path / "a" / "train").glob("*.parquet"))) == 2
    with pytest.raises(RecipeError, match="was made with other settings"):
        make_episodes("tacit-test/Walk-v0", tmp_path / "a", ["steps=4"], count=50)


def test_pictures_are_kept_as_they_are(tmp_path):
    make_episodes("tacit-test/Walk-v0", tmp_path, ["env={shown: picture}"], count=2)
    source = Spec("source", "trajectory-parquet", path=str(tmp_path), frames=2).build()
    picture = source.read([0]).views["image"].data
    assert picture.shape == (1, 3, 2, 4, 4) and len(picture[0, :, 0].unique()) == 1


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(
        DataError,
        match=r"shows nothing named 'camera'; it has no named parts: set observation to one of these or to render",
    ):
        make_episodes("tacit-test/Walk-v0", tmp_path / "a", ["observation=camera"])
    with pytest.raises(DataError, match="shows numbers that are not finite"):
        make_episodes("tacit-test/Walk-v0", tmp_path / "b", ["env={shown: nan}"])
    with pytest.raises(
        RecipeError, match=r"holds: the section 'episodesettings' has no setting 'holds'\. Did you mean 'hold'"
    ):
        make_episodes("tacit-test/Walk-v0", tmp_path / "c", ["holds=3"])
