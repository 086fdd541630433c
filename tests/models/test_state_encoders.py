"""Encoders that know where things are, and the recurrent dynamics."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models.gru import GRU

FACTS = Facts(channels=2, shape=(5, 17, 17))
ENCODERS = [
    Spec("encoder", "impala", channels=(4, 6), blocks=1, width=10),
    Spec("encoder", "perceptron", hidden=(12, 9), width=10),
]


@pytest.mark.parametrize("spec", ENCODERS, ids=lambda spec: spec.kind)
def test_features_end_in_the_norm_and_layers_end_in_the_features(spec, rng):
    encoder, x = spec.build(FACTS), 30 * torch.randn(3, 2, 17, 17, generator=rng)  # far above the norm's epsilon
    found = encoder(x).pooled
    assert found.shape == (3, 10) and encoder.dim == 10
    torch.testing.assert_close(found, F.layer_norm(found, (10,)), atol=1e-4, rtol=1e-4)
    *early, last = encoder.layers(x, encoder.layer_names())
    torch.testing.assert_close(last, found)
    assert all(z.ndim == 2 and len(z) == 3 for z in early)


@pytest.mark.parametrize("spec", ENCODERS, ids=lambda spec: spec.kind)
def test_unlike_a_mean_over_places_they_know_where_a_thing_is(spec):
    encoder = spec.build(FACTS)
    x = torch.zeros(2, 2, 17, 17)
    x[0, 0, 4:6, 4:6] = x[1, 0, 10:12, 8:10] = 9.0
    a, b = encoder(x).pooled
    assert (a - b).abs().max() > 0.05


@pytest.mark.parametrize("spec", ENCODERS, ids=lambda spec: spec.kind)
def test_pictures_of_several_sizes_are_refused(spec):
    with pytest.raises(RecipeError) as caught:
        spec.build(Facts(channels=2))
    assert str(caught.value) == (
        f"{spec.kind!r} needs pictures of one known size, and the samples have several: crop or resize them in the views"
    )


def test_the_impala_blocks_are_the_written_equation(rng):
    encoder = ENCODERS[0].build(FACTS)
    x = torch.randn(2, 2, 17, 17, generator=rng)
    y = x
    for stack in encoder.stacks:
        y = F.max_pool2d(stack[0](y), 3, 2, 1)
        y = torch.relu(y + stack[2].conv2(torch.relu(stack[2].conv1(y))))
    torch.testing.assert_close(encoder(x).pooled, encoder.norm(encoder.map(torch.relu(y).flatten(1))))


def test_the_recurrent_cell_is_torchs_own(rng):
    gru = GRU(6, 3, embed=4)
    state, action = torch.randn(5, 2, 6, generator=rng), torch.randn(5, 2, 3, generator=rng)
    _, expected = gru.rnn(gru.embed(action).flatten(0, 1)[None], state.flatten(0, 1)[None])
    torch.testing.assert_close(gru(state, action).flatten(0, 1), expected[0])
