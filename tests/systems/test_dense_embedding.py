"""Dense embedding: which cells meet, the loss written out, what is refused."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.systems.dense_embedding import matched
from tacit.views.places import places

FACTS = Facts(channels=1, shape=(8, 8))
VICREG = Spec("objective", "vicreg", covariance=0.5)


def make(**changes):
    torch.manual_seed(0)
    settings = {
        "encoder": Spec("encoder", "convnet", widths=(4, 6)),
        "projector": Spec("head", "mlp", widths=(8, 5)),
        "objective": VICREG,
        "local_projector": Spec("head", "mlp", widths=(7, 3)),
        "local_objective": VICREG,
        "matches": (5, 2),
    }
    return Spec("system", "dense-embedding", **{**settings, **changes}).build(FACTS)


def batch(names=("a", "b"), n=6):
    view = Spec("view", "image", size=8, saturation=0.0, hue=0.0, grey=0.0, blur=0.0, rotate=15.0)
    small = view.change(size=4)
    source = Spec("source", "digits").build()
    views = Spec("views", "multi-crop", first=view, local=small, locals=1).build(source.facts)
    made = views(source.read(range(n)), 0, 0)
    return Batch({name: made.views[name] for name in names}, made.ids)


def test_matched_are_the_nearest_in_their_own_order(rng):
    distance = torch.rand(3, 5, 4, generator=rng)
    own, other = matched(distance, 2)
    for i in range(3):
        least = distance[i].min(dim=1).values
        assert set(own[i].tolist()) == set(least.argsort()[:2].tolist()) and own[i].tolist() == sorted(own[i].tolist())
        assert other[i].tolist() == [int(distance[i, j].argmin()) for j in own[i]]
    assert matched(distance, 9)[0].shape == (3, 5)


def test_the_loss_is_its_equation():
    """All four matchings of two views, slot by slot."""
    system, given = make().eval(), batch()
    seen = {name: system.encoder(view.data) for name, view in given.views.items()}
    cells = {name: system.local_projector(one.tokens.flatten(0, 1)).view(6, 16, 3) for name, one in seen.items()}
    where = {name: places(view.how, (4, 4)) for name, view in given.views.items()}
    total = 0.0
    for u, v in (("a", "b"), ("b", "a")):
        for x in (cells, where):
            own, other = matched(torch.cdist(x[u], x[v]), 5)
            rows = torch.arange(6)
            slots = [
                system.local_objective(cells[u][rows, own[:, j]], cells[v][rows, other[:, j]])["loss"] for j in range(5)
            ]
            total = total + sum(slots) / 5
    z = [system.projector(seen[name].pooled) for name in "ab"]
    terms = system(given, 0.0)
    torch.testing.assert_close(terms["image"], 0.75 * system.objective(*z)["loss"])
    torch.testing.assert_close(terms["cells"], 0.25 * total / 2)
    torch.testing.assert_close(terms["loss"], terms["image"] + terms["cells"])


def test_at_alpha_1_it_is_the_joint_embedding():
    system, given = make(alpha=1.0).eval(), batch()
    z = [system.project(given.views[name].data) for name in "ab"]
    terms = system(given, 0.0)
    assert set(terms) == {"loss", "image"}
    torch.testing.assert_close(terms["loss"], system.objective(*z)["loss"])


def test_small_crops_take_part_with_their_own_number_of_matches():
    terms = make()(batch(("a", "b", "local0")), 0.0)
    assert bool(terms["loss"].isfinite()) and terms["cells"] > 0


def test_steps_lower_the_loss_and_reach_every_weight():
    system, given = make(), batch()
    optimizer = torch.optim.Adam([p for group in system.groups() for p in group["params"]], lr=1e-2)
    losses = []
    for _ in range(12):
        loss = system(given, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(bool(p.grad.any()) for p in system.parameters() if p.ndim > 1)


def test_an_encoder_without_cells_and_views_without_crops_are_refused():
    given = batch()
    with pytest.raises(DataError) as caught:
        make()(Batch({name: View(view.data) for name, view in given.views.items()}, given.ids), 0.0)
    assert str(caught.value) == (
        "places of a view follow from its recorded parameters, and box, flip, angle are missing: use views that record them, for "
        "example views=pair with view=image"
    )
    with pytest.raises(DataError) as caught:
        make(encoder=Spec("encoder", "convnet", widths=(4, 4, 4, 6)))(given, 0.0)
    assert str(caught.value) == (
        "system 'dense-embedding' needs maps of several cells, found 1 x 1 for view 'a': enlarge the views or take an encoder that "
        "reduces them less"
    )


def test_an_objective_of_a_teacher_is_refused_for_cells_too():
    with pytest.raises(RecipeError) as caught:
        make(local_objective=Spec("objective", "byol"))
    assert "of cells: objective 'byol' compares a student with a teacher, and there is none" in str(caught.value)
