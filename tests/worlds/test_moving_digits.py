"""Moving digits: straight flight, mirrored at the borders; the published file's split; location targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.protocols import Source, Views
from tacit.core.spec import Spec
from tacit.worlds.moving_digits import locations


def source(**settings):
    return Spec("source", "moving-digits", **{"count": 40, **settings}).build()


def test_it_is_a_source_and_samples_do_not_depend_on_their_company():
    one = source()
    assert isinstance(one, Source)
    together, alone = one.read([3, 7, 30]), one.read([7])
    assert (
        together.views["image"].data.shape == (3, 1, 10, 64, 64) and together.views["image"].data.dtype == torch.uint8
    )
    assert torch.equal(together.views["image"].data[1:2], alone.views["image"].data)
    assert one.digest() == source().digest() != source(speed=2.0).digest()
    assert not torch.equal(alone.views["image"].data, source(split="valid").read([7]).views["image"].data)


def test_digits_keep_their_speed_between_bounces_and_stay_inside():
    where = source(frames=40).read(range(40)).facts["position"].double()
    assert where.min() >= 0 and where.max() <= 36
    step = where.diff(dim=1)
    inside = ((where[:, 1:-1] > 3.6) & (where[:, 1:-1] < 32.4)).all(
        -1
    )  # no border within reach: neither step was mirrored
    speed = step.norm(dim=-1)
    torch.testing.assert_close(speed[:, 1:][inside], torch.full_like(speed[:, 1:][inside], 3.6), atol=1e-4, rtol=0)
    bend = (step[:, 1:] - step[:, :-1]).abs().amax(-1)
    assert bend[inside].max() < 1e-4 and bend.max() > 1


def test_the_bright_part_lies_where_the_facts_say():
    batch = source(digits=1).read(range(20))
    frames, where = batch.views["image"].data[:, 0], batch.facts["position"][:, :, 0].long()
    rows, columns = torch.arange(64).view(1, 1, 64, 1), torch.arange(64).view(1, 1, 1, 64)
    x, y = (where[..., i].view(20, 10, 1, 1) for i in (0, 1))
    outside = (rows < y) | (rows >= y + 28) | (columns < x) | (columns >= x + 28)
    assert frames[outside.expand_as(frames)].max() == 0 and frames.amax((2, 3)).min() > 150


def test_locations_of_squares_and_of_touching_squares():
    frame = torch.zeros(64, 64)
    frame[4:8, 10:14] = frame[40:50, 50:56] = 200.0
    found = locations(frame)
    assert found.nonzero().tolist() == [[0, 1], [5, 6]]
    frame[8:40, 14:20] = 200.0  # touches the first at a corner: one region from (4, 10) to (39, 19)
    assert locations(frame).nonzero().tolist() == [[2, 1], [5, 6]]
    assert locations(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 8, 8) and not locations(torch.zeros(64, 64)).any()


def test_the_published_file_is_split_and_cut_as_published(tmp_path):
    videos = np.random.default_rng(0).integers(0, 256, (20, 30, 64, 64), dtype=np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", videos)
    order = np.random.RandomState(2025).permutation(30)
    train, valid = (
        Spec("source", "moving-digits-file", path=str(tmp_path / "mnist_test_seq.npy"), split=split).build()
        for split in ("train", "valid")
    )
    assert (len(train), len(valid)) == (54, 6)
    clip = train.read([5]).views["image"].data[0, 0].numpy()  # the second half of the third training video
    assert np.array_equal(clip, videos[10:, order[3 + 2]])
    assert np.array_equal(valid.read([0]).views["image"].data[0, 0].numpy(), videos[:10, order[0]])


def test_other_files_are_refused(tmp_path):
    def said(path):
        with pytest.raises(DataError) as caught:
            Spec("source", "moving-digits-file", path=str(path)).build()
        return str(caught.value)

    gone, odd, pickled = (tmp_path / f"{name}.npy" for name in ("gone", "odd", "pickled"))
    assert said(gone) == f"{gone}: there is no such file; it is published as mnist_test_seq.npy (Moving MNIST, 782 MB)"
    np.save(odd, np.zeros((10, 20, 64, 64), np.float32))
    assert said(odd) == (
        f"{odd}: needs uint8 [frames videos 64 64] with at least 10 frames and 2 videos, frames first, found float32 [10, 20, 64, 64]"
    )
    np.save(pickled, np.array([{}]), allow_pickle=True)
    assert said(pickled).startswith(f"{pickled} cannot be read as an array: ")
    with pytest.raises(UnknownNameError) as caught:
        source(split="val")
    assert str(caught.value) == "no split named 'val'. Did you mean 'valid'? Known: test, train, valid."
    with pytest.raises(DataError) as caught:
        source().read([40])
    assert str(caught.value) == "clips are numbered from 0 to 39, found 40 to 40"


def test_views_scale_to_one():
    one = source()
    views = Spec("views", "moving-digits").build(one.facts)
    assert isinstance(views, Views)
    batch = one.read([0, 1])
    torch.testing.assert_close(views(batch, 0, 0).views["image"].data, batch.views["image"].data / 255)
