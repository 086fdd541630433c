"""Two Rooms on disk: what is read is what the source made; restartable; the published form without pictures; refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Source
from tacit.core.spec import Spec
from tacit.runs.making_rooms import make_rooms


@pytest.mark.parametrize("pictures", [False, True])
def test_what_is_read_is_what_was_made(tmp_path, pictures):
    made = make_rooms(tmp_path, ["seed=4"], count=5, shard=2, pictures=pictures)
    assert (made.count, made.transitions, made.shards, made.kept) == (5, 450, 3, 0)
    files = Spec("source", "rooms-file", path=str(tmp_path), frames=90).build()
    assert isinstance(files, Source) and len(files) == 5
    source = Spec("source", "rooms", count=5, frames=90, seed=4).build()
    ours, theirs = files.read([0, 3, 4]), source.read([0, 3, 4])
    assert torch.equal(ours.views["image"].data, theirs.views["image"].data)
    assert torch.equal(ours.action, theirs.action)
    for name in ("position", "wall", "door"):
        assert torch.equal(ours.facts[name], theirs.facts[name])


def test_windows_tile_a_trajectory_or_overlap(tmp_path):
    make_rooms(tmp_path, count=2)
    whole = Spec("source", "rooms-file", path=str(tmp_path), frames=90).build().read([1])
    tiled = Spec("source", "rooms-file", path=str(tmp_path), frames=17).build()
    assert len(tiled) == 2 * 5
    assert torch.equal(tiled.read([7]).action[0], whole.action[0, 34:51])
    assert len(Spec("source", "rooms-file", path=str(tmp_path), frames=17, stride=1).build()) == 2 * 74


def test_the_same_call_continues_and_a_larger_count_adds(tmp_path):
    make_rooms(tmp_path, count=4, shard=2)
    first = (tmp_path / "train" / "00000000.npz").stat().st_mtime_ns
    (tmp_path / "train" / "00000002.npz").unlink()
    again = make_rooms(tmp_path, count=6, shard=2)
    assert (again.shards, again.kept) == (3, 1)
    assert (tmp_path / "train" / "00000000.npz").stat().st_mtime_ns == first
    with pytest.raises(RecipeError) as caught:
        make_rooms(tmp_path, ["crossing=0.5"], count=6, shard=2)
    folder = tmp_path / "train"
    assert (
        str(caught.value) == f"{folder} was made with other settings ({folder / 'rooms.json'}): choose another folder"
    )


def test_the_published_file_has_no_pictures_and_a_known_wall(tmp_path):
    rng = np.random.default_rng(0)
    ends = np.tile(np.eye(1, 20, 19)[0], 3)
    np.savez(
        tmp_path / "pldm.npz", actions=rng.normal(size=(60, 2)), locations=rng.uniform(10, 30, (60, 2)), terminals=ends
    )
    files = Spec("source", "rooms-file", path=str(tmp_path / "pldm.npz"), frames=20).build()
    batch = files.read([2])
    assert batch.facts["wall"].tolist() == [32.0] and batch.facts["door"].tolist() == [10.0]
    assert batch.views["image"].data[0, 1, 0, 40, 32] == 255 and batch.views["image"].data[0, 1, 0, 10, 32] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"terminals": None}, "has the arrays actions, locations: terminals must be among them"),
        ({"actions": np.zeros((40, 3))}, ": actions must be [40 2], one row a step, found [40, 3]"),
        ({"locations": np.full((40, 2), np.nan)}, ": locations must be finite, found 80 that are not"),
        (
            {"terminals": np.eye(1, 40, 25)[0]},
            ": all trajectories must be equally long and end with a terminal, found the lengths [26]",
        ),
        ({}, ": its trajectories have 20 steps, a window has 21: lower data.frames"),
    ],
)
def test_bad_files_are_refused(tmp_path, change, sentence):
    arrays = {
        "actions": np.zeros((40, 2)),
        "locations": np.full((40, 2), 20.0),
        "terminals": np.tile(np.eye(1, 20, 19)[0], 2),
    }
    arrays = {name: value for name, value in {**arrays, **change}.items() if value is not None}
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError) as caught:
        Spec("source", "rooms-file", path=str(path), frames=21).build()
    assert str(caught.value).removeprefix(str(path)).strip() == sentence.strip()


def test_missing_splits_are_named(tmp_path):
    make_rooms(tmp_path, count=1)
    with pytest.raises(DataError) as caught:
        Spec("source", "rooms-file", path=str(tmp_path), split="valid").build()
    assert str(caught.value) == f"{tmp_path} has no split 'valid'; it has train"
