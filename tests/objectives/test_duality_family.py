"""The family, its members, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.objectives.barlow_twins import BarlowTwins
from tacit.objectives.duality import Duality
from tacit.objectives.simclr import SimCLR
from tacit.objectives.vicreg import VICReg

CONTRASTIVE = {
    "side": "sample",
    "normalisation": "samples",
    "sets": "joint",
    "attraction": "product",
    "pull": 2.0,
    "variance": 0.0,
    "temperature": 0.5,
}
MEMBERS = {
    "vicreg": ({}, VICReg(), 1),
    "simclr": ({"repulsion": "exponential", **CONTRASTIVE}, SimCLR(temperature=0.5), 1),
    "barlow": (
        {
            "normalisation": "dimensions",
            "sets": "cross",
            "attraction": "diagonal",
            "pull": 1.0,
            "push": 0.0051,
            "variance": 0.0,
        },
        BarlowTwins(),
        "d",
    ),
}


def draw(rng, shape=(7, 5)):
    return [z.requires_grad_() for z in torch.randn(2, *shape, dtype=torch.float64, generator=rng).unbind()]


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("shape", [(7, 5), (5, 9)])
def test_the_named_methods_are_members_gradients_included(rng, name, shape):
    settings, method, factor = MEMBERS[name]
    a, b = draw(rng, shape)
    family = Spec("objective", "duality", **settings).build()
    found = family(a, b)["loss"] * (shape[1] if factor == "d" else factor)
    expected = method(a, b)["loss"]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(v, (a, b)) for v in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


def test_the_sample_side_is_the_dimension_side_of_the_transposed_embeddings(rng):
    """For plain squares of embeddings that are left alone, up to the divisors d and m - 1."""
    a, b = draw(rng, (7, 5))
    settings = {"normalisation": "none", "pull": 0.0, "variance": 0.0}
    for sets in ("each", "cross"):
        sample = Duality(side="sample", sets=sets, **settings)(a, b)["loss"] * 5**2
        dimension = Duality(side="dimension", sets=sets, **settings)(a.T, b.T)["loss"] * (5 - 1) ** 2
        torch.testing.assert_close(sample, dimension, rtol=1e-12, atol=0)


def test_automatic_takes_the_smaller_matrix(rng):
    for shape, side in (((7, 5), "dimension"), ((5, 9), "sample"), ((6, 6), "sample")):
        a, b = draw(rng, shape)
        found = Duality(side="automatic")(a, b)
        torch.testing.assert_close(found, Duality(side=side)(a, b), rtol=0, atol=0)


def test_for_unit_samples_the_sides_differ_by_the_norms_of_dimensions_alone(rng):
    """L_nc + sum_j ||row_j||^4 = L_c + N, written with the scalings of the family."""
    n, d = 7, 5
    a, _ = draw(rng, (n, d))
    settings = {"normalisation": "samples", "pull": 0.0, "variance": 0.0}
    sample, dimension = (Duality(side=side, **settings)(a, a)["loss"].item() / 2 for side in ("sample", "dimension"))
    unit = torch.nn.functional.normalize(a, dim=1)
    norms = unit.square().sum(0).square().sum().item()
    assert dimension * d * (n / d) ** 2 + norms == pytest.approx(sample * n + n, rel=1e-12)


def test_what_rotation_leaves_alone(rng):
    a, b = draw(rng)
    q, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=rng))
    for settings in (
        {"side": "sample"},
        {"repulsion": "exponential", **CONTRASTIVE},
        {"side": "sample", "variance": 9.0},
    ):
        one = Duality(**settings)
        torch.testing.assert_close(one(a @ q, b @ q)["loss"], one(a, b)["loss"], rtol=1e-11, atol=1e-12)


REFUSED = {
    "entries": (
        {"entries": "absolute"},
        "entries 'absolute' is the phi of an exponential repulsion, found repulsion 'square': "
        "use repulsion 'exponential' or 'decoupled', or leave entries 'plain'",
    ),
    "decoupled": (
        {"repulsion": "decoupled"},
        "repulsion 'decoupled' leaves out the partner, and there is none in sets 'each' on side 'dimension': "
        "use sets 'joint' on side 'sample', sets 'cross', or repulsion 'exponential'",
    ),
    "variance": (
        {"normalisation": "samples"},
        "variance 25.0 would hold a constant, because normalisation 'samples' fixes lengths: "
        "use variance 0, or normalisation 'centred' or 'none'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_compositions_without_a_meaning_are_refused_in_a_sentence(name):
    settings, sentence = REFUSED[name]
    with pytest.raises(RecipeError) as caught:
        Spec("objective", "duality", **settings).resolve()
    assert str(caught.value).endswith(sentence)


def test_one_dimension_is_refused_on_its_side():
    with pytest.raises(RecipeError) as caught:
        Duality()(torch.zeros(4, 1), torch.zeros(4, 1))
    assert str(caught.value) == (
        "objective 'duality' on its dimension side needs at least 2 dimensions, found 1: widen the projector"
    )


def test_the_energy_follows_the_normalisation(rng):
    a, b = draw(rng)
    cosine = torch.nn.functional.cosine_similarity(a, b)
    torch.testing.assert_close(Duality(**CONTRASTIVE).energy(a, b), 1 - cosine)
    torch.testing.assert_close(Duality().energy(a, b), (a - b).square().mean(1))
