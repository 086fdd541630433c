"""Heads that end in prototypes."""

from __future__ import annotations

import copy

import pytest
import torch

from tacit.core.spec import Spec
from tacit.models.prototypes import PrototypeHead

HEADS = {
    "dino": Spec("head", "dino", hidden=6, bottleneck=4, prototypes=5),
    "prototypes": Spec("head", "prototypes", widths=(6, 4), prototypes=5),
}


@pytest.fixture(params=HEADS)
def spec(request):
    return HEADS[request.param]


def test_scores_are_cosines_with_the_embedding_before_them(spec, rng):
    head = spec.build(3)
    x = torch.randn(7, 3, generator=rng)
    assert isinstance(head, PrototypeHead) and head.dim == 5
    scores, z = head(x), head.embedding(x)
    assert scores.shape == (7, 5) and z.shape == (7, 4)
    assert scores.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(z.norm(dim=1), torch.ones(7))


def test_an_identity_head_is_no_prototype_head():
    assert not isinstance(Spec("head", "identity").build(3), PrototypeHead)


def test_dino_has_the_names_of_the_authors_files_and_a_fixed_gain():
    head = HEADS["dino"].build(3)
    names = {name: (tuple(p.shape), p.requires_grad) for name, p in head.named_parameters() if "last" in name}
    assert names == {"last_layer.weight_g": ((5, 1), False), "last_layer.weight_v": ((5, 4), True)}
    assert {name for name in head.state_dict() if name.startswith("mlp.")} == {
        f"mlp.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")
    }
    assert HEADS["dino"].change(gain="trained").build(3).last_layer.weight_g.requires_grad


def test_the_length_of_a_dino_prototype_means_nothing(rng):
    head, x = HEADS["dino"].build(3), torch.randn(7, 3, generator=rng)
    before = head(x)
    with torch.no_grad():
        head.last_layer.weight_v.mul_(3.0)
    torch.testing.assert_close(head(x), before)


def test_swav_prototypes_come_back_to_length_one_after_a_step():
    head = HEADS["prototypes"].build(3)
    torch.testing.assert_close(head.prototypes.weight.norm(dim=1), torch.ones(5))
    with torch.no_grad():
        head.prototypes.weight.mul_(2.0)
    head.after_step()
    torch.testing.assert_close(head.prototypes.weight.norm(dim=1), torch.ones(5))


def test_prototypes_stand_still_at_the_beginning(spec, rng):
    """The same scores, and a gradient that is there and zero."""
    head, x = spec.change(still=0.25).build(3), torch.randn(7, 3, generator=rng)
    last = list(head.parameters())[-1]
    moved = []
    for progress in (0.0, 0.2499, 0.25, 1.0):
        own = copy.deepcopy(head)
        scores = own(x, progress)
        torch.testing.assert_close(scores, head(x))
        scores.square().sum().backward()
        slope = list(own.parameters())[-1].grad
        assert slope.shape == last.shape
        moved.append(bool(slope.any()))
    assert moved == [False, False, True, True]
