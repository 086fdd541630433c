"""Pixels as tokens: nothing is lost, nothing is learned, and every token tells its place."""

from __future__ import annotations

import torch

from tacit.core.values import Facts
from tacit.models.tubelets import Tubelets


def test_tokens_are_the_pixels_of_their_place_and_tell_it():
    clips = torch.randn(2, 3, 4, 8, 12)
    found = Tubelets(Facts(channels=3, shape=(4, 8, 12)), patch=4, tubelet=2)
    features = found(clips)
    assert features.grid == (2, 2, 3) and features.tokens.shape == (2, 12, found.dim) and not list(found.parameters())
    pixels, place = features.tokens[..., : 3 * 2 * 16], features.tokens[..., 3 * 2 * 16 :]
    at = (1 * 2 + 0) * 3 + 2  # the second pair of frames, upper row, last column
    assert torch.equal(pixels[:, at], clips[:, :, 2:4, 0:4, 8:12].flatten(1))
    assert torch.equal(place[0], place[1]) and len(place[0].unique(dim=0)) == 12
    assert torch.equal(features.pooled, features.tokens.mean(dim=1))
    (read,) = found.layer_tokens(clips, (0, 1))
    assert torch.equal(read, features.tokens)
