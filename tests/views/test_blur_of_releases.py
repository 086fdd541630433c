"""The released DINOv2 and DINOv3 codes misread the chance of blur for large views: a named mode repeats it."""

from __future__ import annotations

import torch

from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View


def blurred(compat, first, second, local):
    """Share of blurred pictures of each view."""
    plain = {"size": 8, "saturation": 0.0, "hue": 0.0, "grey": 0.0}
    views = Spec(
        "views", "multi-crop",
        first=Spec("view", "image", blur=first, **plain), second=Spec("view", "image", blur=second, **plain),
        local=Spec("view", "image", blur=local, **{**plain, "size": 4}), locals=1, compat=compat,
    ).resolve("views")  # fmt: skip
    images = torch.randint(0, 255, (400, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = views.build(Facts(channels=1, shape=(8, 8)))(Batch({"image": View(images)}, ids=torch.arange(400)), 0, 0)
    return {name: float((view.how["sigma"] > 0).double().mean()) for name, view in made.views.items()}


def test_large_views_are_blurred_with_the_complement_and_small_ones_as_asked():
    assert blurred("correct", 1.0, 0.0, 1.0) == {"a": 1.0, "b": 0.0, "local0": 1.0}
    assert blurred("official", 1.0, 0.0, 1.0) == {"a": 0.0, "b": 1.0, "local0": 1.0}
    share = blurred("official", 1.0, 0.1, 0.5)["b"]
    assert abs(share - 0.9) < 0.06  # four standard deviations of 400 draws


def test_a_chance_of_one_half_is_its_own_complement():
    assert blurred("official", 0.5, 0.5, 0.5) == blurred("correct", 0.5, 0.5, 0.5)
