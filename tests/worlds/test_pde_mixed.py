"""Several equations in one source; the amplitudes that a start determines."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.worlds.pdes.draws import Waves
from tacit.worlds.pdes.source import Trajectories

KDV = Spec("world", "kdv", length=64.0, horizon=2.0, points=64, frames=12, stored=10, waves=3)
BURGERS = Spec(
    "world", "burgers", points=64, frames=12, stored=10, viscosity=(0.1, 0.3), start="velocity", waves=3, highest=3
)
MIXED = Spec("source", "pde-mixed", worlds=(KDV, BURGERS), count=7, held_out=4)


def test_samples_are_those_of_the_worlds_in_turn_in_any_order():
    mixed = MIXED.build()
    alone = [Spec("source", "pde", world=world, count=4).build() for world in (KDV, BURGERS)]
    assert isinstance(mixed, Trajectories) and len(mixed) == 7
    batch = mixed.read([5, 2, 0, 3])
    assert batch.ids.tolist() == [5, 2, 0, 3]
    assert batch.facts["equation"].tolist() == [1, 0, 0, 1]
    for row, i in enumerate((5, 2, 0, 3)):
        own = alone[i % 2].read([i // 2])
        torch.testing.assert_close(batch.views["image"].data[row], own.views["image"].data[0])
        torch.testing.assert_close(batch.facts["x"][row], own.facts["x"][0])
    assert batch.facts["viscosity"].isnan().tolist() == [False, True, True, False]  # KdV has none
    assert not batch.facts["mode_1"].isnan().any()
    assert [field.equation for field in mixed.fields([5, 2, 0, 3])] == ["kdv", "burgers"]


def test_splits_have_their_own_size_and_samples():
    train, test = MIXED.build(), MIXED.change(split="test").build()
    assert (len(train), len(test)) == (7, 4)
    assert not torch.equal(train.read([0]).views["image"].data, test.read([0]).views["image"].data)
    assert train.digest() != test.digest()
    one = Spec("source", "pde", world=KDV, count=9, held_out=2)
    assert (len(one.build()), len(one.change(split="valid").build())) == (9, 2)


def test_worlds_of_other_shapes_are_refused():
    with pytest.raises(
        RecipeError, match=r"must have one shape \(stored x points\), found kdv 10 x 64, burgers 10 x 32"
    ):
        MIXED.change(worlds=(KDV, BURGERS.change(points=32))).resolve()


def test_modes_are_what_the_sum_of_waves_determines():
    waves = Waves(
        torch.tensor([[1.0, 2.0, 0.5]]).double(),
        torch.tensor([[1.0, 2.0, 1.0]]),
        torch.tensor([[0.0, 1.0, torch.pi]]).double(),
    )
    found = waves.modes(1, 4)
    torch.testing.assert_close(found["mode_1"], torch.tensor([0.5]).double())
    torch.testing.assert_close(found["mode_2"], torch.tensor([2.0]).double())
    assert float(found["mode_3"]) == 0
    source = Spec("source", "pde", world=KDV.change(stored=12, jitter=0.0), count=3).build()
    batch = source.read([0, 1, 2])
    start = torch.fft.rfft(batch.views["image"].data[:, 0, 0].double()) / 32  # u of the first frame, 64 points
    for m in (1, 2):
        torch.testing.assert_close(start[:, m].abs(), batch.facts[f"mode_{m}"], atol=1e-5, rtol=0)
