"""Where to cut: the choice is made on training samples alone, gaps are paired, and the best layer of a planted tree is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError
from tacit.probing import evaluate, protocol, summary
from tacit.probing.layers import probe_layers
from tacit.probing.subsets import share

PROTOCOLS = ("linear/all@1", "knn/k=5,t=0.07@1", "ridge/all@1", "linear/2-per-class@1")


@pytest.fixture(scope="module")
def planted():
    """Four layers: the signal of 4 classes grows to the encoder's end and is drowned in the projector."""
    rng = torch.Generator().manual_seed(0)
    y = {"train": torch.arange(160) % 4, "test": torch.arange(80) % 4}
    centres = torch.randn(4, 6, generator=rng)
    noise = {"early": 3.0, "encoder": 0.2, "projector.2": 2.0, "projector": 6.0}
    layers = {
        name: {split: centres[t] + size * torch.randn(len(t), 6, generator=rng) for split, t in y.items()}
        for name, size in noise.items()
    }
    return layers, y


def test_the_cut_is_where_the_signal_is_and_the_gap_is_the_paired_difference(planted):
    layers, y = planted
    found = probe_layers(layers, {"label": y}, protocols=PROTOCOLS, seeds=3)
    assert {cut.layer for cut in found.cuts} == {"encoder"}
    assert (found.backbone, found.embedding, found.names) == ("encoder", "projector", tuple(layers))
    rows = summary(evaluate(layers, y, protocols=PROTOCOLS, seeds=3), baseline="projector")
    for cut in found.cuts:
        other = next(row for row in rows if (row.model, row.protocol) == ("encoder", cut.protocol))
        assert cut.gap == pytest.approx(other.difference)
        assert cut.row.accuracy == other.accuracy
        assert cut.gap.low > 0
        assert cut.loss is None  # the chosen layer is the backbone
        assert cut.equal == ()


def test_the_choice_does_not_look_at_the_test_labels(planted):
    layers, y = planted
    wrong = {"train": y["train"], "test": (y["test"] + 1) % 4}
    cuts = [probe_layers(layers, {"label": t}, protocols=PROTOCOLS, seeds=2).cuts for t in (y, wrong)]
    assert [(c.layer, c.held_out) for c in cuts[0]] == [(c.layer, c.held_out) for c in cuts[1]]


def test_each_task_has_its_own_cut(planted):
    layers, y = planted
    parity = {split: torch.arange(len(t)) % 2 for split, t in y.items()}
    rng = torch.Generator().manual_seed(1)
    other = {split: (torch.rand(len(t), generator=rng) > 0.5).long() for split, t in y.items()}
    both = {name: dict(splits) for name, splits in layers.items()}
    both["early"] = {split: torch.cat([z, 50.0 * other[split][:, None]], dim=1) for split, z in layers["early"].items()}
    found = probe_layers(both, {"label": y, "other": other, "parity": parity}, protocols=PROTOCOLS[:1])
    assert {cut.task: cut.layer for cut in found.cuts} == {"label": "encoder", "other": "early", "parity": "encoder"}
    cut = next(c for c in found.cuts if c.task == "other")
    assert cut.row.accuracy == 1
    assert cut.loss.value < 0  # the backbone has lost it


def test_layers_the_test_set_cannot_tell_apart_are_named(planted):
    layers, y = planted
    twice = {"early": layers["encoder"], **{name: z for name, z in layers.items() if name != "early"}}
    (cut,) = probe_layers(twice, {"label": y}, protocols=PROTOCOLS[:1]).cuts
    assert (cut.layer, cut.equal) == ("encoder", ("early",))  # of equals the deeper
    assert 0.9 < cut.held_out <= 1


def test_shares_are_stratified_nested_and_read_back_by_name():
    labels = np.repeat([0, 1, 2], [1000, 100, 10])
    one, ten = (share(labels, None, percent, 7) for percent in (1, 10))
    assert np.bincount(labels[one]).tolist() == [10, 1, 1]  # at least one each
    assert np.bincount(labels[ten]).tolist() == [100, 10, 1]
    assert set(one) <= set(ten)
    assert not np.array_equal(one, share(labels, None, 1, 8))
    assert np.array_equal(share(labels, None, 100, 0), np.arange(1110))
    for name in ("linear/1%@1", "knn/k=5,t=0.07,10%@1", "ridge/0.5%@1"):
        assert protocol(name).name == name
        assert protocol(name).drawn
    with pytest.raises(DataError) as error:
        share(labels, None, 0, 0)
    assert str(error.value) == "a share of the labels lies above 0 and at most at 100 %, found 0: 1 and 10 are usual"


def test_a_protocol_of_one_percent_learns_from_one_percent(planted):
    layers, y = planted
    found = evaluate({"m": layers["encoder"]}, y, protocols=["ridge/10%@1", "knn/k=1,t=0.07,10%@1"], seeds=3)
    rows = summary(found)
    assert {row.seeds for row in rows} == {3}
    assert all(not math.isnan(row.low) for row in rows)


def test_nothing_to_probe_is_refused():
    with pytest.raises(DataError) as error:
        probe_layers({}, {})
    assert (
        str(error.value) == "probe_layers needs the features of at least one layer and the labels of at least one task"
    )
