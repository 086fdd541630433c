"""Heads that end in prototypes: scores are those of the embedding before them, whatever stands between."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tacit.core.spec import Spec
from tacit.models.prototypes import PrototypeHead

HEADS = {
    "dino": Spec("head", "dino", hidden=6, bottleneck=4, prototypes=7, deviation=0.5, still=0.5),
    "dino, batch norms": Spec("head", "dino", hidden=6, bottleneck=4, prototypes=7, norm="batch", still=0.5),
    "prototypes": Spec("head", "prototypes", widths=(6, 4), prototypes=7, still=0.5),
}


@pytest.mark.parametrize("name", HEADS)
def test_scores_of_the_embedding_are_the_output_at_every_progress(name, rng):
    torch.manual_seed(0)
    head, x = HEADS[name].build(5).eval(), torch.randn(8, 5, generator=rng)
    assert isinstance(head, PrototypeHead)
    for progress in (0.0, 0.9):
        torch.testing.assert_close(head(x, progress), head.scores(head.embedding(x), progress))
    assert head(x).abs().max() <= 1 + 1e-6  # cosines


@pytest.mark.parametrize("name", HEADS)
def test_prototypes_at_rest_get_no_gradient_and_the_embedding_does(name, rng):
    torch.manual_seed(0)
    head, x = HEADS[name].build(5), torch.randn(8, 5, generator=rng)
    last = head.prototypes.weight if name == "prototypes" else head.last_layer.weight_v
    for progress, moves in ((0.0, False), (0.9, True)):
        z = head.embedding(x).detach().requires_grad_()
        own, before = torch.autograd.grad(head.scores(z, progress).square().sum(), (last, z))
        assert bool(own.any()) == moves and bool(before.any())


def test_batch_norms_stand_before_each_gelu():
    kinds = [type(layer) for layer in HEADS["dino, batch norms"].build(5).mlp]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.GELU]
    assert kinds == [*hidden, *hidden, nn.Linear]
    assert [type(layer) for layer in HEADS["dino"].build(5).mlp] == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]


def test_batch_norms_keep_embeddings_from_one_direction(rng):
    """Features that are nearly alike stay apart behind them, and fall together without."""
    torch.manual_seed(0)
    x = 5 + 0.05 * torch.randn(64, 5, generator=rng)
    cosines = {}
    for name in ("dino", "dino, batch norms"):
        z = HEADS[name].build(5).embedding(x)
        cosines[name] = (z @ z.T).mean().item()
    assert cosines["dino"] > 0.99 and cosines["dino, batch norms"] < 0.5
