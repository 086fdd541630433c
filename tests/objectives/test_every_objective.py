"""The laws of objectives for every part of the role, each at a batch larger and one smaller than the width."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.laws import check_objective
from tacit.core.parts import find, parts
from tacit.core.ranks import ALONE

KINDS = [part.kind for part in parts("objective") if part.target.startswith("tacit.")]
TAUGHT = {
    "byol",
    "deepcluster",
    "dino",
    "moco",
    "moco-v3",
    "msn",
    "nnclr",
    "simsiam",
    "swav",
}  # no gradient goes to the teacher
STOPPED = {"dclw", "tico", "visreg", *TAUGHT}  # they stop gradients on purpose
NARROW = {"w-mse"}  # refuses a batch that is not larger than the width


SMALL = {"moco": {"keys": 64}, "nnclr": {"support": 64}, "deepcluster": {"prototypes": (5, 4), "memory": 64}}


class Labelled(torch.nn.Module):
    """An objective on classes whose labels are read off the embeddings, so that they follow every law's rearrangement."""

    ranks_kind = "gather"

    def __init__(self, objective):
        super().__init__()
        self.objective = objective

    def forward(self, a, b, ranks=ALONE):
        return self.objective(a, b, ranks, labels=(a[:, 0] > 0).long())


def make(kind):
    """The objective in eval mode, where the state stays; a small memory, for speed."""
    objective = find("objective", kind)
    wrap = Labelled if "labels" in getattr(objective, "wants", ()) else lambda one: one
    return lambda: wrap(objective(**SMALL.get(kind, {}))).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_it_obeys_the_laws(kind):
    for n, d in ((8, 6), (4, 12)):
        if n > d or kind not in NARROW:
            check_objective(make(kind), n=n, d=d, exact_gradient=kind not in STOPPED)


@pytest.mark.compile
@pytest.mark.parametrize("kind", KINDS)
def test_it_compiles_without_a_graph_break(kind):
    check_objective(make(kind), exact_gradient=kind not in STOPPED, compiles=True)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_is_refused_with_a_remedy(kind):
    one = torch.zeros(1, 4)
    with pytest.raises(RecipeError) as caught:
        make(kind)()(one, one)
    assert str(caught.value) == (
        f"objective {kind!r} needs at least 2 samples over all ranks, found 1: raise the batch size"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_add_up_to_the_loss(kind, rng):
    a, b = torch.randn(2, 8, 6, dtype=torch.float64, generator=rng)
    terms = make(kind)()(a, b)
    loss = terms.pop("loss")
    if terms:
        torch.testing.assert_close(sum(terms.values()), loss)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_downhill_brings_the_loss_down(kind, rng):
    a, b = (z.requires_grad_() for z in torch.randn(2, 8, 6, dtype=torch.float64, generator=rng).unbind())
    objective = make(kind)()

    def loss(a, b):
        torch.manual_seed(0)
        return objective(a, b)["loss"]

    before = loss(a, b)
    slopes = torch.autograd.grad(before, (a, b), allow_unused=True, materialize_grads=True)
    assert bool(slopes[1].any()) == (kind not in TAUGHT)
    size = 1e-4 / sum(slope.norm() for slope in slopes)
    assert loss(a - size * slopes[0], b - size * slopes[1]) < before
