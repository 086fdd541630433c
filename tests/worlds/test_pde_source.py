"""Trajectories as sources: the protocol, stable samples, files equal to what was made, and views on top of them."""

from __future__ import annotations

import gc

import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.protocols import Source
from tacit.core.random import key
from tacit.core.spec import Spec
from tacit.worlds.pdes import source
from tacit.worlds.pdes.making import Job, finish, trajectories

KDV = Spec("world", "kdv", length=64.0, horizon=2.0, points=64, frames=12, stored=10)
BOX = Spec("world", "smoke", points=16, length=8.0, frames=6, warmup=8)


def test_a_sample_is_the_same_in_any_order_and_with_or_without_memory():
    held = Spec("source", "pde", world=KDV, count=6).build()
    bare = Spec("source", "pde", world=KDV, count=6, memory=0).build()
    assert isinstance(held, Source)
    assert (len(held), held.facts.channels, held.facts.shape) == (6, 1, (10, 64))
    assert "length" in held.facts.factors
    assert "amplitude" not in held.facts.factors
    whole, again, other = held.read([4, 1, 4]), held.read([1]), bare.read([1])
    assert whole.ids.tolist() == [4, 1, 4]
    assert torch.equal(whole.views["image"].data[0], whole.views["image"].data[2])
    assert torch.equal(whole.views["image"].data[1:2], again.views["image"].data)
    torch.testing.assert_close(other.views["image"].data, again.views["image"].data)
    assert whole.facts["time"].shape == (3, 10)
    assert whole.facts["amplitude"].shape == (3, 10)


def test_what_one_source_solved_another_of_the_same_samples_does_not_solve_again(monkeypatch):
    asked = []
    solve = source.trajectories

    def counted(world, seed, indices, *rest, **known):
        asked.extend(indices)
        return solve(world, seed, indices, *rest, **known)

    one = Spec("source", "pde", world=KDV, count=6, seed=77)
    first = one.build()
    monkeypatch.setattr(source, "trajectories", counted)
    kept = first.read([0, 1, 2])
    asked.clear()
    again = one.change(count=4).build()
    asked.clear()  # building looks at the shape of one
    seen = again.read([2, 3])
    assert asked == [3]
    assert torch.equal(seen.views["image"].data[0], kept.views["image"].data[2])
    with pytest.raises(DataError, match="there are 4, from 0 to 3"):
        again.read([4])
    others = [one.change(split="test"), one.change(seed=78), one.change(world=KDV.change(frames=13))]
    for other in others:
        built = other.build()
        asked.clear()
        built.read([0])
        assert asked == [0]
    del first, again
    gc.collect()
    fresh = one.build()
    asked.clear()
    fresh.read([0])
    assert asked == [0]  # nobody held them


def test_the_digest_follows_what_the_samples_depend_on():
    one = Spec("source", "pde", world=KDV, count=2)
    digests = [
        s.build().digest()
        for s in (one, one.change(seed=1), one.change(split="test"), one.change(world=KDV.change(frames=13)))
    ]
    assert len(set(digests)) == 4
    assert one.build().digest() == digests[0]


def test_files_hold_what_was_made(tmp_path):
    pytest.importorskip("h5py")
    (path,) = finish_all(Job(KDV, 3, size=2), tmp_path)
    stored = Spec("source", "pde-files", path=str(path)).build()
    made = Spec("source", "pde", world=KDV, count=3).build()
    assert isinstance(stored, Source)
    a, b = stored.read([2, 0]), made.read([2, 0])
    torch.testing.assert_close(a.views["image"].data, b.views["image"].data)
    torch.testing.assert_close(a.facts["time"], b.facts["time"])
    paths = finish(Job(BOX, 3, size=2, layout="pdearena"), tmp_path / "box")
    boxes = Spec("source", "pde-files", path=str(tmp_path / "box"), layout="pdearena").build()
    assert (len(boxes), boxes.facts.channels, boxes.facts.shape) == (3, 3, (6, 16, 16))
    assert len(boxes.read([0, 1, 2]).facts["buoyancy"].unique()) == len(paths)
    assert (
        boxes.digest()
        != Spec("source", "pde-files", path=str(tmp_path / "box"), layout="pdearena", labels="official")
        .build()
        .digest()
    )


def finish_all(job, folder):
    from tacit.worlds.pdes.making import generate

    for shard in range(job.shards):
        generate(job, folder, shard)
    return finish(job, folder)


def test_views_read_what_a_source_gives():
    source = Spec("source", "pde", world=KDV, count=4).build()
    views = Spec("views", "lie-line", crop=(6, 32), length=64.0).build(source.facts)
    out = views(source.read([0, 3]), 0, 0)
    assert out.views["a"].data.shape == (2, 3, 6, 32)
    assert bool(out.views["a"].data.isfinite().all())
    box = Spec("source", "pde", world=BOX, count=2).build()
    plane = Spec("views", "lie-plane", crop=(4, 16, 16)).build(box.facts)
    assert plane(box.read([0, 1]), 0, 0).views["b"].data.shape == (2, 20, 16, 16)


def test_samples_and_splits_that_do_not_exist_are_refused():
    source = Spec("source", "pde", world=KDV, count=2).build()
    with pytest.raises(DataError, match="sample 2 does not exist: there are 2, from 0 to 1"):
        source.read([2])
    with pytest.raises(UnknownNameError, match=r"no split named 'val'. Did you mean 'valid'"):
        Spec("source", "pde", world=KDV, split="val").build()


def test_a_folder_has_a_file_for_each_split(tmp_path):
    pytest.importorskip("h5py")
    for split, count in (("train", 3), ("test", 2)):
        (path,) = finish_all(Job(KDV, count, split=split, size=3), tmp_path)
    made = [Spec("source", "pde-files", path=str(tmp_path), split=split).build() for split in ("train", "test")]
    assert [len(source) for source in made] == [3, 2]
    with pytest.raises(
        DataError, match=r"should hold one file KdV_valid\*.h5, found none: give a folder with one file a split"
    ):
        Spec("source", "pde-files", path=str(tmp_path), split="valid").build()
    with pytest.raises(
        DataError, match=r"KdV_test.h5 has no split 'train', it has test: give the folder that holds a file for"
    ):
        Spec("source", "pde-files", path=str(path)).build()


def test_a_folder_of_the_well_is_a_source(tmp_path):
    pytest.importorskip("h5py")
    world = KDV.change(jitter=0.0)
    finish_all(Job(world, 5, size=2, layout="well"), tmp_path)
    stored = Spec("source", "pde-files", path=str(tmp_path / "kdv"), layout="well").build()
    made = trajectories(world, key(0, "train"), range(5))
    assert (len(stored), stored.facts.shape, stored.fields([3])[0].equation) == (5, (10, 64), "kdv")
    torch.testing.assert_close(stored.read(range(5)).views["image"].data[:, 0], made.values["u"].float())
    torch.testing.assert_close(stored.read([4]).facts["mode_1"], made.parameters["mode_1"][4:])
    with pytest.raises(DataError, match=r"has no files data/valid/\*.hdf5: give the folder of a data set of The Well"):
        Spec("source", "pde-files", path=str(tmp_path / "kdv"), layout="well", split="valid").build()


def test_a_fault_in_a_file_is_named_with_its_row(tmp_path):
    h5py = pytest.importorskip("h5py")
    (path,) = finish_all(Job(KDV, 3, size=3), tmp_path)
    with h5py.File(path, "a") as file:
        file["train/pde_10-64"][2, 4, 1] = float("nan")
        file["train/t"][1, 6:] += 9.0
    stored = Spec("source", "pde-files", path=str(path)).build()
    stored.read([0])
    with pytest.raises(DataError, match=r"is not finite from frame 4 on .* \(read as row 2 of the file\)"):
        stored.read([2])
    with pytest.raises(
        DataError, match=r"after frame 5, where steps are .*: cut the trajectory at the gap \(read as row 1"
    ):
        stored.read([1])
