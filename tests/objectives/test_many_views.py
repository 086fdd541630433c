"""Criteria of any number of views: two views are the pair, more views their published sums; a system hands all of them over at once."""

from __future__ import annotations

import sys

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.parts import find
from tacit.core.ranks import ALONE
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.objectives.lejepa import LeJEPA
from tacit.objectives.mmcr import MMCR
from tacit.objectives.pairs import demand_views
from tacit.ops.normality import directions, epps_pulley

KINDS = ("lejepa", "visreg", "mmcr", "emp", "frossl")


def draw(rng, views, n=9, d=5):
    return list(torch.randn(views, n, d, dtype=torch.float64, generator=rng).unbind())


def seeded(call, *given):
    torch.manual_seed(5)
    return call(*given)


@pytest.mark.parametrize("kind", KINDS)
def test_two_views_are_the_pair_and_equal_views_more_of_the_same(kind, rng):
    objective = find("objective", kind)()
    a, b = draw(rng, 2)
    torch.testing.assert_close(seeded(objective.of_views, [a, b]), seeded(objective, a, b))
    twice, thrice = seeded(objective, a, a)["loss"], seeded(objective.of_views, [a, a, a])["loss"]
    expected = twice * 1.5 if kind == "frossl" else twice  # its terms are sums over views, those of the others means
    torch.testing.assert_close(thrice, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_views_of_another_shape_are_refused(kind, rng, monkeypatch):
    a, b = draw(rng, 2)
    part = find("objective", kind)
    asked = []
    monkeypatch.setattr(sys.modules[part.__module__], "demand_views", lambda *given: asked.append(given[:2]))
    part().of_views([a, b], [b + 1])
    ((name, views),) = asked  # the criterion asks for equal shapes, of all views, in its own name
    assert name == kind and len(views) == 3
    with pytest.raises(RecipeError, match=rf"^objective '{kind}' compares two views of the same samples, each \[n d\]"):
        demand_views(kind, [a, b, b[:, :3]], ALONE)


def test_lejepa_pulls_every_view_to_the_mean_of_the_large_ones(rng):
    views = draw(rng, 5)
    large, small = views[:2], views[2:]
    found = seeded(LeJEPA(weight=0.3, directions=16).of_views, large, small)
    centre = (large[0] + large[1]) / 2
    apart = sum((z - centre).square().mean() for z in views) / 5
    torch.testing.assert_close(found["invariance"], 0.7 * apart)
    torch.manual_seed(5)
    axes = directions(5, 16, views[0])
    torch.testing.assert_close(found["sigreg"], 0.3 * sum(epps_pulley(z @ axes) for z in views) / 5)


def test_mmcr_takes_the_nuclear_norms_of_all_centroids_and_of_each_samples_views(rng):
    views = draw(rng, 4)
    units = torch.stack([z / z.norm(dim=1, keepdim=True) for z in views])
    found = MMCR(local=0.5).of_views(views)
    torch.testing.assert_close(found["global"], -torch.linalg.svdvals(units.mean(dim=0)).sum())
    each = torch.stack([torch.linalg.svdvals(units[:, i]).sum() for i in range(9)])
    torch.testing.assert_close(found["local"], 0.5 * each.mean())


def test_the_system_hands_over_large_and_small_views_at_once(rng):
    torch.manual_seed(0)
    system = Spec(
        "system", "joint-embedding", encoder=Spec("encoder", "convnet", widths=(4, 6)),
        projector=Spec("head", "mlp", widths=(8, 5)), objective=Spec("objective", "mmcr"),
    ).build(Facts(channels=1, shape=(8, 8)))  # fmt: skip
    names = ("a", "b", "local0", "local1")
    views = {name: View(torch.randn(6, 1, 8 if len(name) == 1 else 4, 8, generator=rng)) for name in names}
    found = system.train().loss(Batch(views, torch.arange(6)), 0.0)
    z = [system.projector(system.encoder(views[name].data).pooled) for name in names]
    torch.testing.assert_close(found, system.objective.of_views(z[:2], z[2:]))
